"""Samples that are missing: found in the values and in the time stamps, reported, and held, dropped or begun anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError

Doubles = npt.NDArray[np.float64]

POLICIES = ("hold", "drop", "reset")
TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
JUMP = 1.5  # periods between two time stamps from which something is missing
PROBED = 32  # time stamps after which it is clear whether the rate is theirs


@dataclass(frozen=True)
class Gap:
    """``samples`` missing from ``time`` on, in seconds since the first sample."""

    time: float
    seconds: float
    samples: int
    cause: str  # "missing values", "time stamps" or "time went back"
    handled: str  # "held", "dropped" or "reset"
    ended: bool = True  # False while it goes on

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        gap = {**vars(self), "time": round(self.time, 6), "seconds": round(self.seconds, 6)}
        return {"gap": gap}

    def __str__(self) -> str:
        so_far = "" if self.ended else " so far"
        missing = f"{self.samples} sample{'s' if self.samples != 1 else ''}, {self.seconds:.4g} s{so_far}"
        return f"gap at {self.time:.2f} s ({self.cause}; {missing}): {self.handled}"


@dataclass(frozen=True)
class Block:
    """Samples [n, D] in a row, none of them missing, and their times [n] in seconds since the first sample."""

    rows: Doubles
    times: Doubles


class Reset:
    """The stream must begin anew."""


class Gaps:
    """What follows from the rows of a sensor: blocks to push, resets, reports.

    Args:
        rate: samples per second of the sensor.
        policy: ``"hold"`` repeats the last value, up to ``limit`` samples, and resets beyond; ``"drop"`` goes on as if
            nothing were missing; ``"reset"`` begins anew after every gap.
        limit: samples that may be held.
        time_unit: of the time stamps: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.
    """

    def __init__(self, rate: float, policy: str = "hold", limit: int = 16, time_unit: str = "s") -> None:
        if policy not in POLICIES:
            raise InputError(f"gaps can be handled by {', '.join(POLICIES)}, not by {policy!r}")
        if time_unit not in TIME_UNITS:
            raise InputError(f"time stamps are in {', '.join(TIME_UNITS)}, not in {time_unit!r}")
        self._policy, self._limit, self._unit = policy, limit, TIME_UNITS[time_unit]
        self._time_unit, self._period = time_unit, 1 / rate
        self._count = 0  # rows so far
        self._origin = np.nan  # the first time stamp, in its own unit
        self._shift = 0.0  # seconds added since time went back
        self._time = np.nan  # of the last row, in seconds since the first
        self._last: Doubles | None = None  # the last complete row [D]
        self._run = 0  # incomplete rows without a complete one between them
        self._begun = 0.0  # when the first of them was
        self._lost = False  # whether the stream was reset since
        self._jumps: list[float] = []  # the first steps between time stamps

    def push(self, rows: Doubles, stamps: Doubles | None = None) -> Iterator[Block | Reset | Gap]:
        """What follows from ``rows`` [n, D], in this order, and their time stamps [n], NaN where unknown.

        Raises:
            InputError: the time stamps are of another rate or unit.
        """
        while len(rows):
            times, count = self._timed(len(rows), stamps)
            yield from self._mended(rows[:count], times)
            rows, stamps = rows[count:], None if stamps is None else stamps[count:]
            if len(rows) and stamps is not None:  # time went back: the old clock goes on with the new stamps
                yield Gap(self._time + self._period, 0.0, 0, "time went back", "reset")
                yield self._reset()
                self._origin, self._shift = float(stamps[0]), self._time + self._period
                self._time = np.nan

    def finish(self) -> Iterator[Gap]:
        """The report of a gap that lasts until the end."""
        yield from self._ended()

    def _timed(self, count: int, stamps: Doubles | None) -> tuple[Doubles, int]:
        """Seconds since the first sample of each row, up to where time goes back, and how many rows that is."""
        if stamps is None:
            return (self._count + np.arange(count, dtype=np.float64)) * self._period, count
        known = np.isfinite(stamps)
        if np.isnan(self._origin) and known.any():
            self._origin = float(stamps[known][0])
        times: Doubles = (stamps - self._origin) * self._unit + self._shift
        last = self._time if np.isfinite(self._time) else self._shift - self._period
        for i in np.flatnonzero(~known):
            times[i] = (times[i - 1] if i else last) + self._period
        steps = np.diff(times, prepend=last)
        back = np.flatnonzero(steps < -JUMP * self._period)
        count = int(back[0]) if len(back) else count
        self._probe(steps[:count])
        return times[:count], count

    def _probe(self, steps: Doubles) -> None:
        """Refuse a rate at which most samples would be missing."""
        if len(self._jumps) >= PROBED or not len(steps):
            return
        self._jumps = [*self._jumps, *map(float, steps[: PROBED - len(self._jumps)])]
        step = float(np.median(self._jumps))
        if len(self._jumps) == PROBED and step > JUMP * self._period:
            raise InputError(
                f"the time stamps are {step:.4g} s apart if they are in {self._time_unit}, which is {1 / step:.4g} "
                f"samples per second, not {1 / self._period:.4g}: set --rate or --time-unit"
            )

    def _mended(self, rows: Doubles, times: Doubles) -> Iterator[Block | Reset | Gap]:
        if not len(rows):
            return
        incomplete: npt.NDArray[np.bool_] = ~np.all(np.isfinite(rows), axis=1)
        before = self._time if np.isfinite(self._time) else times[0] - self._period
        steps = np.diff(times, prepend=before)
        first = 0
        for i in [*np.flatnonzero(incomplete | (steps > JUMP * self._period)), len(rows)]:
            if first < i:
                yield from self._complete(rows[first:i], times[first:i])
            if i == len(rows):
                break
            if steps[i] > JUMP * self._period:
                yield from self._jump(float(times[i]), float(steps[i]))
            if incomplete[i]:
                yield from self._incomplete(rows[i], float(times[i]))
                first = i + 1
            else:
                first = i
            self._count += first - i
            self._time = float(times[i])

    def _complete(self, rows: Doubles, times: Doubles) -> Iterator[Block | Gap]:
        yield from self._ended()
        self._last, self._lost = rows[-1].copy(), False
        self._count += len(rows)
        self._time = float(times[-1])
        yield Block(rows, times)

    def _incomplete(self, row: Doubles, time: float) -> Iterator[Block | Reset | Gap]:
        self._run += 1
        if self._run == 1:
            self._begun = time
            if self._policy == "reset":
                yield self._reset()
        if self._policy != "hold" or self._lost or self._last is None:
            return
        if self._run <= self._limit:
            self._last = np.where(np.isfinite(row), row, self._last)
            yield Block(self._last[np.newaxis], np.array([time]))
            return
        yield self._reset()
        yield Gap(self._begun, self._run * self._period, self._run, "missing values", "reset", ended=False)

    def _jump(self, time: float, step: float) -> Iterator[Block | Reset | Gap]:
        """Time stamps that are missing before ``time``."""
        yield from self._ended()
        count = round(step / self._period) - 1
        begun, last, handled = self._time + self._period, self._last, "reset"
        if self._policy == "drop":
            handled = "dropped"
        elif self._policy == "hold" and last is not None and not self._lost and count <= self._limit:
            handled = "held"
            times = self._time + step / (count + 1) * np.arange(1, count + 1, dtype=np.float64)
            yield Block(np.repeat(last[np.newaxis], count, axis=0), times)
        else:
            yield self._reset()
        yield Gap(begun, count * self._period, count, "time stamps", handled)

    def _ended(self) -> Iterator[Gap]:
        """Report the incomplete rows that came before."""
        if self._run:
            handled = "reset" if self._lost else {"hold": "held", "drop": "dropped"}.get(self._policy, "reset")
            handled = "dropped" if handled == "held" and self._last is None else handled  # nothing to be held yet
            yield Gap(self._begun, self._run * self._period, self._run, "missing values", handled)
        self._run = 0

    def _reset(self) -> Reset:
        self._lost = True
        return Reset()

    @property
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that must outlive a restart."""
        last = np.empty(0) if self._last is None else self._last
        numbers = [self._count, self._origin, self._shift, self._time, self._run, self._begun, self._lost]
        return {"last": last.copy(), "numbers": np.array(numbers, np.float64)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on where the one that gave ``state`` was."""
        last, numbers = state["last"], [float(number) for number in state["numbers"]]
        self._last = last.astype(np.float64) if last.size else None
        self._count, self._run, self._lost = int(numbers[0]), int(numbers[4]), bool(numbers[6])
        self._origin, self._shift, self._time, self._begun = numbers[1], numbers[2], numbers[3], numbers[5]
