"""Options that stand in a table: many of one kind, each of them set where it was given and absent where not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

Command = Callable[..., Any]


@dataclass(frozen=True)
class Option:
    """One option of a command line."""

    type: Any
    help: str
    panel: str | None = None  # the box of the help in which it stands
    name: str | None = None  # with its dashes; None = that of the key, after the last point
    min: int | None = None


@dataclass(frozen=True)
class Options:
    """Options by key, which may be a path (``"train.epochs"``), and what is made of the values that were given."""

    table: Mapping[str, Option]
    made: Callable[[dict[str, Any]], Any] = dict


def taking(**groups: Options) -> Callable[[Command], Command]:
    """Decorate a command: in the place of the parameters named here, its command line has so many options each."""

    def decorated(command: Command) -> Command:
        own = inspect.signature(command).parameters
        known = {str(own[parameter].annotation): object for parameter in groups}  # not typer's to understand
        hints = get_type_hints(command, localns=known, include_extras=True)
        parameters = []
        for name, parameter in own.items():
            if name in groups:
                parameters += [_parameter(key, option) for key, option in groups[name].table.items()]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

        @functools.wraps(command)
        def taking_options(**values: Any) -> Any:
            for name, options in groups.items():
                found = {key: values.pop(_name(key)) for key in options.table}
                values[name] = options.made({key: value for key, value in found.items() if value not in (None, [])})
            return command(**values)

        taking_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        taking_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return taking_options

    return decorated


def _parameter(key: str, option: Option) -> inspect.Parameter:
    spelling = option.name or "--" + key.rpartition(".")[2].replace("_", "-")
    info = typer.Option(spelling, min=option.min, help=option.help, rich_help_panel=option.panel, show_default=False)
    kind = option.type | None
    return inspect.Parameter(_name(key), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def _name(key: str) -> str:
    """A key as an identifier."""
    return key.replace(".", "_")
