"""``fastzoo stream``: an endless signal from a pipe, a file, or a sensor, classified while it comes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastzoo.cli import _answers, _console
from fastzoo.cli._options import Option, Options, taking

if TYPE_CHECKING:
    from fastzoo.cli._intake import Intake
    from fastzoo.sources.gaps import Gap
    from fastzoo.stream import Result, Stream

_SIGNAL, _ANSWERS = "The signal", "The answers"
_INTAKE = Options(
    {
        "rate": Option(float, "Samples per second of the sensor (default: what the model takes).", _SIGNAL),
        "format": Option(str, "csv, jsonl, f32 or s16 (default: by the file's name or first bytes).", _SIGNAL),
        "columns": Option(str, "Names of the columns, with commas, where the source has none.", _SIGNAL),
        "map": Option(list[str], "COLUMN=CHANNEL, repeatable: ax=acc_x.", _SIGNAL),
        "unit": Option(list[str], "CHANNEL=UNIT that comes, repeatable: acc=m/s2, gyro=dps, acc='0.061 mg'.", _SIGNAL),
        "time": Option(str, "Column of time stamps: its name, or its number from 1.", _SIGNAL),
        "time_unit": Option(str, "s, ms, us or ns (default: s).", _SIGNAL),
        "gaps": Option(str, "Where samples are missing: hold the last, drop, or reset (default: hold).", _SIGNAL),
        "max_hold": Option(int, "Samples held at most; then a reset (default: an eighth of a window).", _SIGNAL, min=0),
        "follow": Option(bool, "Wait for more at the end of the file, as tail -F does.", _SIGNAL),
        "serial": Option(str, "Read a serial port instead: /dev/ttyUSB0.", _SIGNAL),
        "baud": Option(int, "Bits per second of the port (default: 115200).", _SIGNAL, min=50),
        "state": Option(
            Path, "Go on where the last run with this file was; written every minute and at the end.", _SIGNAL
        ),
        **_answers.options(
            _ANSWERS,
            events="on,off,seconds: tell when classes begin and end, for example 0.8,0.5,1.",
            labels="Only these classes make events, with commas.",
        ),
    }
)


@taking(options=_INTAKE)
def stream(
    name: _console.Name,
    options: dict[str, Any],
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help=".csv, .jsonl, .f32, .s16 or .wav; - reads standard input.")
    ] = "-",
    layout: _console.Layout = "auto",
    watch: Annotated[bool, typer.Option("--watch", help="Show probabilities as bars that move.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each answer.")] = False,
) -> None:
    """Classify a signal while it comes, from a pipe, a file that grows, or a serial port; one line for each window.

    Ctrl-C and SIGTERM end it in order.

    Example: cat imu.csv | fastzoo stream fastgrnn-har-int8 --rate 50 --json

    Example: fastzoo stream fastgrnn-har-int8 --serial /dev/ttyUSB0 --rate 104 --unit acc=mg --unit gyro=mdps --watch
    """
    import fastzoo
    from fastzoo.cli import _intake

    if watch and as_json:
        raise typer.BadParameter("--watch is for people and --json for programs: give one of them")
    model = fastzoo.load(name, layout)
    intake = _intake.Intake(model, file, options)
    with ExitStack() as stack:
        show: Callable[[Result | Gap], None] = _json_lines if as_json else _text_lines
        if watch:
            from fastzoo.cli._watch import Watch

            show = stack.enter_context(Watch(intake.stream, intake.source)).show
        with _sigterm_as_ctrl_c():
            try:
                for found in intake.run():
                    show(found)
            except KeyboardInterrupt:  # the usual end
                pass
            finally:
                intake.save()
    _summary(intake, as_json)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A service is stopped with SIGTERM: what must be kept is written then, too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _json_lines(found: Result | Gap) -> None:
    sys.stdout.write(json.dumps(found.to_dict()) + "\n")
    sys.stdout.flush()


def _text_lines(found: Result | Gap) -> None:
    from fastzoo.stream import Result

    if not isinstance(found, Result):
        _console.warn(str(found))
        return
    sure = float(found.smoothed[found.labels.index(found.decision)])
    line = f"{found.time:10.2f}  {found.decision}  {sure:.2f}"
    for event in found.events:
        lasted = f" after {event.duration:.2f} s" if event.duration is not None else ""
        line += f"  [{event.label} {event.kind}s{lasted}]"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _summary(intake: Intake, as_json: bool) -> None:
    """What became of the signal, on standard error, for people."""
    of: Stream = intake.stream
    for line in intake.complaints():
        _console.warn(line)
    if not as_json and sys.stderr.isatty():
        seen = of.statistics
        mean = 1e6 * seen.seconds / seen.samples if seen.samples else 0.0
        typer.echo(
            f"{seen.samples} samples, {seen.results} windows, {mean:.0f} us per sample, {seen.late} late pushes",
            err=True,
        )
