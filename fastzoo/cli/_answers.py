"""Options that ``fastzoo stream`` and ``fastzoo eval --stream`` share: windows, smoothing, what makes events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastzoo.cli._options import Option
from fastzoo.errors import InputError

if TYPE_CHECKING:
    from fastzoo.model import Model


def options(panel: str, events: str, labels: str) -> dict[str, Option]:
    """The options in a box of the help; what events are for, and which labels, differs."""
    return {
        "hop": Option(int, "Samples (frames of sound) between windows (default: an eighth of one).", panel, min=1),
        "smooth": Option(str, "majority:5 or exponential:5, over so many windows (default: none).", panel),
        "events": Option(str, events, panel),
        "labels": Option(str, labels, panel),
    }


def classes(model: Model, text: str | None) -> tuple[str, ...] | None:
    """The classes named in ``"yes,no"``; None = all.

    Raises:
        InputError: the model has no such class.
    """
    from fastzoo.samples import shortened

    if text is None:
        return None
    named = tuple(dict.fromkeys(label.strip() for label in text.split(",")))
    if unknown := [label for label in named if label not in model.labels]:
        raise InputError(f"no class {', '.join(map(repr, unknown))}; {model.name} has {shortened(model.labels)}")
    return named
