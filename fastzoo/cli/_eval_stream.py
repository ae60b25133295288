"""``fastzoo eval --stream``: a recording goes through a stream once; its events are scored at each threshold."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastzoo import _files, _json, detection, wav
from fastzoo.cli import _answers, _console, _recording
from fastzoo.detection import Interval, Point, Quality, Score
from fastzoo.errors import InputError, require
from fastzoo.events import Events, smoothing
from fastzoo.samples import as_chunk, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastzoo.data import Dataset, Split
    from fastzoo.model import Model
    from fastzoo.stream import Stream

_PIECE = 1 << 15  # samples read at a time: memory stays flat however long a recording
_WINDOWS = 64  # of a data set, strung together at a time
_SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Asked:
    """What was asked for on the command line."""

    split: str
    recording: str | None = None
    truth: Path | None = None
    hop: int | None = None
    smooth: str | None = None
    events: str = "0.8,0.5,0.0"
    labels: str | None = None
    tolerance: float = 0.5
    seed: int = 0
    sweep: bool = False
    plot: Path | None = None


@dataclass(frozen=True)
class Source:
    """A signal, in pieces that a stream takes, and what is in it."""

    name: str
    samples: int
    sound: bool | None  # as Model.stream takes it
    pieces: Iterator[npt.NDArray[Any]]
    truth: Sequence[Interval]
    note: str | None = None


def evaluate(model: Model, data: tuple[Dataset, Split] | None, asked: Asked, as_json: bool) -> None:
    """Run, score and print.

    Raises:
        InputError: an option, the recording or its truth is wrong.
        MissingExtraError: a plot without matplotlib.
    """
    of = Events.parse(asked.events, _answers.classes(model, asked.labels))
    smooth = None if asked.smooth is None else smoothing(asked.smooth)
    figure = None if asked.plot is None else _ready_to_draw(asked.plot)
    source = _recorded(model, asked) if data is None else _strung(*data, asked)
    stream = model.stream(asked.hop, smooth=smooth, sound=source.sound)
    seconds = source.samples / stream.rate
    truth = detection.check(source.truth, seconds)
    scored = model.labels if of.labels is None else of.labels
    if figure is not None and not any(one.label in scored for one in truth):
        raise InputError(f"there is no curve to draw: the truth has no interval of {shortened(scored)}")
    detection.score([], [], max(seconds, 1), tolerance=asked.tolerance)  # refuses it before the long run
    times, smoothed = _run(stream, source, seconds)
    events = detection.starts(times, smoothed, of, model.labels)
    score = detection.score(events, truth, seconds, tolerance=asked.tolerance, labels=scored)
    points = None
    if asked.sweep:
        points = detection.sweep(times, smoothed, of, model.labels, truth, seconds, tolerance=asked.tolerance)
    if figure is not None and points is not None and asked.plot is not None:
        _draw(figure, asked.plot, points, of.on, f"{model.name} on {source.name}")
    if as_json:
        _console.print_json(_document(stream, source, asked, of, score, points, len(times)))
    else:
        _print(stream, source, asked, of, score, points, len(times))


def _recorded(model: Model, asked: Asked) -> Source:
    """A recording in a file."""
    path, truth = str(asked.recording), detection.read(str(asked.truth), model.labels)
    if path.lower().endswith(".wav"):
        sound = wav.open(path)
        if model.frontend is None:
            model.features((), 1)  # says why not
        else:
            model.frontend.stream(sound.rate)  # refuses another rate
        return Source(path, sound.frames, True, sound.pieces(_PIECE), truth)
    channels = model.bundle.input.channels
    try:
        rows = as_chunk(_recording.read(path, channels), channels)
    except InputError as error:
        raise InputError(f"{path} is no recording for {model.name}: {error}") from None
    pieces = (rows[first : first + _PIECE] for first in range(0, len(rows), _PIECE))
    return Source(path, len(rows), False, pieces, truth)


def _strung(dataset: Dataset, part: Split, asked: Asked) -> Source:
    """The windows of a split, one after the other; neighbours of one class are one interval."""
    from fastzoo.data.windows import stretches

    order = np.random.default_rng(asked.seed).permutation(len(part))
    steps = part.x.shape[1]
    classes = part.y[order]
    truth = [
        Interval(
            dataset.classes[classes[first]], float(first * steps / dataset.rate), float(last * steps / dataset.rate)
        )
        for first, last in zip(*stretches(classes), strict=True)
    ]
    pieces = (
        part.x[order[first : first + _WINDOWS]].reshape(-1, part.x.shape[2]) for first in range(0, len(order), _WINDOWS)
    )
    note = (
        f"This is no recording: {len(part)} {asked.split} windows strung together in an order drawn from seed "
        f"{asked.seed}. Where one meets the next, the signal jumps, and classes follow one another as in no real life."
    )
    return Source(dataset.id, len(part) * steps, False, pieces, truth, note)


def _run(stream: Stream, source: Source, seconds: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Times [R] and smoothed probabilities [R, C] of all results: all that is kept of a recording."""
    times, smoothed = [np.empty(0)], [np.empty((0, len(stream.model.labels)), np.float32)]
    with _progress(seconds) as advance:
        for piece in source.pieces:
            try:
                results = stream.push(piece)
            except InputError as error:
                raise InputError(f"{source.name}, in what follows {stream.time:.6g} s: {error}") from None
            if results:
                times.append(np.array([result.time for result in results]))
                smoothed.append(np.array([result.smoothed for result in results]))
            advance(stream.time)
    if len(times) == 1:
        window = stream.model.bundle.input
        raise InputError(
            f"{source.name} lasts {seconds:.4g} s, less than one window of {window.steps / window.rate:.4g} s"
        )
    return np.concatenate(times), np.concatenate(smoothed)


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[float], None]]:
    """What to call with the seconds done; a terminal on standard error shows a bar, which vanishes at the end."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("streaming", total=seconds)
        yield lambda done: bar.update(task, completed=done)


def _document(
    stream: Stream, source: Source, asked: Asked, of: Events, score: Score, points: list[Point] | None, windows: int
) -> dict[str, Any]:
    """Everything as JSON."""
    kind = "recording" if source.note is None else "windows strung together"
    document = {
        "model": stream.model.name,
        "layout": stream.model.layout,
        "source": {"name": source.name, "kind": kind, "rate": stream.rate, "note": source.note},
        "hop": stream.hop,
        "windows": windows,
        "smooth": asked.smooth,
        "events": {"on": of.on, "off": of.off, "min_duration": of.min_duration},
        "score": _json.plain(score),
    }
    if source.note is not None:
        document["source"] |= {"split": asked.split, "seed": asked.seed}
    if points is not None:
        document["sweep"] = [_json.plain(point) for point in points]
    return document


def _print(
    stream: Stream, source: Source, asked: Asked, of: Events, score: Score, points: list[Point] | None, windows: int
) -> None:
    """Everything as text."""
    model, console = stream.model, _console.console()
    every = stream.hop / model.bundle.input.rate
    console.print(
        f"{model.name} ({model.layout}) on {source.name}: {score.seconds:.6g} s at {stream.rate:g} samples/s, "
        f"{windows} windows, one every {every:.3g} s"
    )
    if source.note is not None:
        console.print(source.note)
    lasting = f" if it lasts {of.min_duration:g} s (by which it is announced later)" if of.min_duration else ""
    console.print(
        f"An event starts at {of.on:g}{lasting} and ends below {of.off:g}; smoothing: {asked.smooth or 'none'}; "
        f"tolerance {score.tolerance:g} s\n"
    )
    table = _table("class")
    for label, quality in score.per_label.items():
        table.add_row(label, *_cells(quality))
    if len(score.per_label) > 1:
        table.add_row("in all", *_cells(score.total))
    console.print(table)
    if points is not None:
        table = _table("on")
        for point in points:
            table.add_row(f"{point.on:.2f}", *_cells(point.score.total))
        console.print("\nIn all, by the threshold at which an event starts:\n")
        console.print(table)


def _table(first: str) -> Any:
    numbers = (
        "intervals", "detected", "rate", "false alarms", "per hour", "repeats", "delay: median", "95 %"
    )  # fmt: skip
    return _console.table(first, *numbers, right=numbers)


def _cells(of: Quality) -> list[str]:
    delays = ("" if delay is None else f"{delay:.2f} s" for delay in (of.median_delay, of.p95_delay))
    counts = [str(of.intervals), str(of.detected), _console.percent(of.detection_rate), str(of.false_alarms)]
    return [*counts, f"{of.false_alarms_per_hour:.1f}", str(of.repeats), *delays]


def _ready_to_draw(path: Path) -> Figure:
    """An empty figure, or the reason why none can be drawn: before the long run, not after it."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"cannot draw {path}: the name must end in {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    figure: Figure = require("matplotlib.figure", extra="train", purpose="drawing a sweep").Figure(
        figsize=(8, 5.5), layout="constrained"
    )
    return figure


def _draw(figure: Figure, path: Path, points: list[Point], on: float, title: str) -> None:
    """Detection rate against false alarms per hour, in all and by class."""
    axes = figure.subplots()
    curves: dict[str, list[Quality]] = {"in all": [point.score.total for point in points]}
    by_class = {label: [point.score.per_label[label] for point in points] for label in points[0].score.per_label}
    if 1 < len(by_class) <= 12:
        curves |= by_class
    for name, qualities in curves.items():
        if qualities[0].detection_rate is None:
            continue
        x, y = _coordinates(qualities)
        style: dict[str, Any] = {"lw": 1, "ms": 2, "alpha": 0.6}
        if name == "in all":
            style = {"color": "black", "lw": 2, "ms": 4, "zorder": 3}
        axes.plot(x, y, "o-", label=_plain(name), **style)
    x, y = _coordinates(curves["in all"])
    marked = {0, len(points) - 1, min(range(len(points)), key=lambda number: abs(points[number].on - on))}
    for number in {(x[number], y[number]): number for number in sorted(marked)}.values():  # one label at a place
        axes.annotate(
            f"on {points[number].on:g}", (x[number], y[number]), (6, -12), textcoords="offset points", fontsize=8
        )
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(-0.1, 2 * max(of.false_alarms_per_hour for curve in curves.values() for of in curve) + 1)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("false alarms per hour")
    axes.set_ylabel("intervals detected [%]")
    axes.set_title(_plain(title), fontsize=11)
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lower()[1:], dpi=120)
    try:
        _files.write(path, content.getvalue())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _coordinates(qualities: Sequence[Quality]) -> tuple[list[float], list[float]]:
    return [of.false_alarms_per_hour for of in qualities], [100 * (of.detection_rate or 0) for of in qualities]


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
