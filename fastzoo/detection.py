"""How well a stream finds what happens in it: detection rate, false alarms per hour, delay.

>>> events = [event for result in stream.push(recording) for event in result.events]
>>> found = score(events, [Interval("yes", 2.0, 2.6), ...], stream.time)
>>> found.total.detection_rate, found.total.false_alarms_per_hour, found.per_label["yes"].median_delay
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastzoo._values import is_number
from fastzoo.errors import InputError
from fastzoo.events import Event, Events
from fastzoo.samples import shortened

__all__ = ["Interval", "Point", "Quality", "Score", "check", "read", "score", "starts", "sweep"]

ROUNDING = 0.01  # seconds that an interval may go beyond the recording: tables of truth are rounded
THRESHOLDS = (*(round(0.05 * step, 2) for step in range(2, 20)), 0.99)  # 0.1, 0.15, ..., 0.95, 0.99
COLUMNS = ("label", "start", "end")


class Interval(NamedTuple):
    """Where a class is in a recording, in seconds from its first sample."""

    label: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.label} from {self.start} to {self.end} s"


@dataclass(frozen=True)
class Quality:
    """What was found of one class, or of all; None where there is nothing to divide by or to average.

    Args:
        intervals: true ones.
        detected: of these, those with a start event of their own.
        detection_rate: detected / intervals.
        false_alarms: start events outside of all intervals.
        false_alarms_per_hour: by the hours of the whole recording, those in which the class is present too.
        repeats: further start events of detected intervals, neither hits nor false alarms.
        median_delay: seconds from an interval's start to its start event; negative where the event came before it.
        p95_delay: the delay that 95 % of the detected intervals do not exceed.
    """

    intervals: int
    detected: int
    detection_rate: float | None
    false_alarms: int
    false_alarms_per_hour: float
    repeats: int
    median_delay: float | None
    p95_delay: float | None


@dataclass(frozen=True)
class Score:
    """The quality of a stream's events, in all and by class; ``seconds`` is the length of the stream."""

    seconds: float
    tolerance: float
    total: Quality
    per_label: Mapping[str, Quality]


@dataclass(frozen=True)
class Point:
    """The score at one threshold of a sweep."""

    on: float
    off: float
    score: Score


def score(
    events: Iterable[Event],
    truth: Iterable[tuple[str, float, float]],
    duration: float,
    *,
    tolerance: float = 0.5,
    labels: Sequence[str] | None = None,
) -> Score:
    """Compare the start events of a stream with what truly was there.

    A start event belongs to an interval of its label if it falls into [start - tolerance, end + tolerance]. Each event
    and each interval count once: in order of time, an event detects the first interval that it belongs to and that
    has none yet. If all that it belongs to are detected, it is a repeat; if it belongs to none, a false alarm.

    Args:
        events: of :mod:`fastzoo.events`; those of other kinds than ``"start"`` are passed over.
        truth: intervals (label, start, end), in any order.
        duration: seconds of the whole stream.
        tolerance: seconds.
        labels: the classes to score, others being background; None = those that occur in ``truth`` or ``events``.

    Raises:
        InputError: an impossible interval, see :func:`check`; a duration or tolerance that is none.
    """
    if not (is_number(duration, 0) and duration > 0):
        raise InputError(f"duration must be seconds, more than 0, not {duration!r}")
    if not is_number(tolerance, 0):
        raise InputError(f"tolerance must be seconds, at least 0, not {tolerance!r}")
    intervals = check(truth, duration)
    starts = sorted((event for event in events if event.kind == "start"), key=lambda event: event.time)
    if labels is None:
        labels = list(dict.fromkeys([*(one.label for one in intervals), *(event.label for event in starts)]))
    matched = {
        label: _match(
            [event.time for event in starts if event.label == label],
            [one for one in intervals if one.label == label],
            tolerance,
        )
        for label in labels
    }
    total = _Matched()
    for one in matched.values():
        total.add(one)
    per_label = {label: one.quality(duration) for label, one in matched.items()}
    return Score(float(duration), float(tolerance), total.quality(duration), per_label)


class _Matched:
    """What became of the events and intervals of one class, or of several."""

    def __init__(self, intervals: int = 0) -> None:
        self.intervals, self.false_alarms, self.repeats = intervals, 0, 0
        self.delays: list[float] = []  # one for each detected interval

    def add(self, other: _Matched) -> None:
        self.intervals += other.intervals
        self.false_alarms += other.false_alarms
        self.repeats += other.repeats
        self.delays += other.delays

    def quality(self, duration: float) -> Quality:
        median, p95 = map(float, np.percentile(self.delays, [50, 95])) if self.delays else (None, None)
        return Quality(
            intervals=self.intervals,
            detected=len(self.delays),
            detection_rate=len(self.delays) / self.intervals if self.intervals else None,
            false_alarms=self.false_alarms,
            false_alarms_per_hour=self.false_alarms * 3600 / duration,
            repeats=self.repeats,
            median_delay=median,
            p95_delay=p95,
        )


def _match(times: Sequence[float], intervals: Sequence[Interval], tolerance: float) -> _Matched:
    """Events at ``times`` and the intervals of one class, both in order of time."""
    made = _Matched(len(intervals))
    taken = [False] * len(intervals)
    first = 0  # earlier intervals are over
    for time in times:
        while first < len(intervals) and intervals[first].end + tolerance < time:
            first += 1
        near = first
        while near < len(intervals) and intervals[near].start - tolerance <= time and taken[near]:
            near += 1
        if near < len(intervals) and intervals[near].start - tolerance <= time:
            taken[near] = True
            made.delays.append(time - intervals[near].start)
        elif near > first:
            made.repeats += 1
        else:
            made.false_alarms += 1
    return made


def check(truth: Iterable[tuple[str, float, float]], duration: float) -> list[Interval]:
    """The intervals in order of time, if they can all be true of a recording of ``duration`` seconds.

    Raises:
        InputError: one does not begin at 0 or later, does not end after its start, ends after the recording, or
            overlaps another one of its label.
    """
    intervals = [Interval(*row) for row in truth]
    for one in intervals:
        if not (is_number(one.start, 0) and is_number(one.end) and one.end > one.start):
            raise InputError(f"the interval {one} is impossible: it must start at 0 s or later and end after its start")
        if one.end > duration + ROUNDING:
            raise InputError(
                f"the interval {one} ends after the recording, which lasts {duration:.6g} s: do they belong together, "
                "and are the times in seconds?"
            )
    intervals.sort(key=lambda one: (one.start, one.end))
    last: dict[str, Interval] = {}
    for one in intervals:
        before = last.get(one.label)
        if before is not None and one.start < before.end:
            raise InputError(f"the intervals {before} and {one} overlap: make them one, or correct their times")
        last[one.label] = one
    return intervals


def read(path: str | os.PathLike[str], labels: Sequence[str]) -> list[Interval]:
    """The intervals in a CSV file with the columns ``label``, ``start`` and ``end``, in seconds; others are ignored.

    Args:
        path: the file.
        labels: the classes that may occur in it.

    Raises:
        InputError: no such file, not CSV, a column is missing, a class is unknown, or a time is not a number.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(_intervals(csv.reader(file), os.fspath(path), labels))
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not CSV in UTF-8: {error}") from error


def _intervals(rows: Any, path: str, labels: Sequence[str]) -> Iterator[Interval]:
    """The intervals of a ``csv.reader``."""
    columns: list[int] | None = None
    for cells in rows:
        row = [cell.strip() for cell in cells]
        if not any(row):
            continue
        if columns is None:
            names = [name.lower() for name in row]
            if any(names.count(name) != 1 for name in COLUMNS):
                raise InputError(
                    f"{path} begins with {','.join(row)[:100]!r}; its first line must name the columns label,start,end"
                )
            columns = [names.index(name) for name in COLUMNS]
            continue
        where = f"{path}, line {rows.line_num}"
        if len(row) <= max(columns):
            raise InputError(f"{where}: {len(row)} column(s), too few for label, start and end")
        label, start, end = (row[column] for column in columns)
        if label not in labels:
            raise InputError(f"{where}: no class {label!r}; the model has {shortened(labels)}")
        yield Interval(label, _seconds(start, where), _seconds(end, where))
    if columns is None:
        raise InputError(f"{path} is empty; its first line must name the columns label,start,end")


def _seconds(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{where}: {cell!r} is not a number of seconds") from None


def starts(
    times: npt.NDArray[np.float64], smoothed: npt.NDArray[np.floating[Any]], of: Events, labels: Sequence[str]
) -> list[Event]:
    """The start events that :class:`fastzoo.events.Detector` would find, for all results at once.

    Args:
        times: [R], of the results of a stream, ascending.
        smoothed: [R, C], their smoothed probabilities.
        of: what makes an event.
        labels: the C classes.

    Returns:
        The events in order of time.
    """
    found: list[Event] = []
    for c, label in enumerate(labels):
        if of.labels is not None and label not in of.labels:
            continue
        series = smoothed[:, c].astype(np.float64)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], series >= of.off, [False]]).astype(np.int8)))
        first, last = edges[::2], edges[1::2] - 1  # of each stretch that stays at `off` or above
        sure = np.flatnonzero(series >= of.on)
        stretches, at = np.unique(np.searchsorted(first, sure, side="right") - 1, return_index=True)
        for begin, end in zip(sure[at], last[stretches], strict=True):
            lasted = times[begin : end + 1] - times[begin] >= of.min_duration
            if lasted[-1]:
                known = begin + int(lasted.argmax())
                found.append(Event("start", label, float(times[begin]), float(series[known])))
    return sorted(found, key=lambda event: event.time)


def sweep(
    times: npt.NDArray[np.float64],
    smoothed: npt.NDArray[np.floating[Any]],
    of: Events,
    labels: Sequence[str],
    truth: Sequence[Interval],
    duration: float,
    *,
    tolerance: float = 0.5,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Point]:
    """The score at each threshold from which a class may begin; ``of.off`` is lowered where it would exceed it.

    The arguments are those of :func:`starts` and :func:`score`; the classes of ``of`` are scored, or all.
    """
    points = []
    for on in thresholds:
        at = replace(of, on=on, off=min(of.off, on))
        events = starts(times, smoothed, at, labels)
        scored = labels if of.labels is None else of.labels
        points.append(Point(on, at.off, score(events, truth, duration, tolerance=tolerance, labels=scored)))
    return points
