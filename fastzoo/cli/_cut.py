"""The options by which commands cut recordings into windows: one set for describe, prepare and train."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from fastzoo.data import Cut

PANEL = "Cutting recordings"

# Field of fastzoo.data.Cut: type, help.
_OPTIONS: dict[str, tuple[Any, str]] = {
    "window": (int | None, "Samples per window."),
    "hop": (int | None, "Samples from one window to the next. (default: WINDOW, no overlap)"),
    "rate": (float | None, "Samples per second, where no time column tells, or to check it."),
    "resample": (float | None, "Bring all recordings to so many samples per second."),
    "time": (str | None, 'Column of times; "" for none. (default: time, t or timestamp)'),
    "label": (str | None, "Column of classes. (default: label, activity or class)"),
    "group": (str | None, "Column of subjects or records. (default: group, subject, user, ...)"),
    "split": (str | None, "Column of train, validation, test. (default: split)"),
    "recording": (str | None, "Column that tells recordings in one file apart. (default: recording, session)"),
    "channels": (str | None, "Columns of samples, joined by commas, * for any letters. (default: all others)"),
    "time_unit": (str | None, "s, ms, us or ns, for times that are numbers."),
    "missing": (str | None, "error (the default) or skip: end a segment at a row that lacks a sample."),
    "frontend": (str | None, 'Of WAV files: kws12, or fields such as "bands=32, clip_s=1.5".'),
    "input_dim": (int | None, "Channels in EdgeML's train.npy and test.npy."),
    "test_fraction": (float | None, "Hold out groups with this share of the windows for testing."),
}


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace the parameter ``cut`` of a command by one option for each field of :class:`fastzoo.data.Cut`."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, localns={"Cut": object}, include_extras=True)

    @functools.wraps(command)
    def taking_options(**given: Any) -> Any:
        fields = {name: given.pop(name) for name in _OPTIONS}
        return command(**given, cut=made(fields))

    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in signature.parameters.items()
        if name != "cut"
    ]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind, typer.Option(help=text, rich_help_panel=PANEL, show_default=False)],
        )
        for name, (kind, text) in _OPTIONS.items()
    ]
    parameters = [*own, *added]
    taking_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    taking_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return taking_options


def made(fields: dict[str, Any]) -> Cut:
    """The options that were given as a :class:`fastzoo.data.Cut`."""
    from fastzoo.data import Cut

    present = {name: value for name, value in fields.items() if value is not None}
    if "channels" in present:
        present["channels"] = tuple(name.strip() for name in present["channels"].split(",") if name.strip())
    return Cut(**present)
