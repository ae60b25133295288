"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from fastzoo.cli import app
from fastzoo.errors import FastzooError


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def good(*arguments: str | Path) -> str:
    """What a command prints that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def error(*arguments: str | Path) -> FastzooError:
    """The error of a command that must fail with one of fastzoo's."""
    result = run(*arguments)
    assert isinstance(result.exception, FastzooError), (result.exception, result.output)
    return result.exception


def message_of(*arguments: str | Path) -> str:
    """The message of that error."""
    return str(error(*arguments))
