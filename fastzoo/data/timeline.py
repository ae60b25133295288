"""Sampling times: their unit, the rate they stand for, where they have gaps, and whether they can be trusted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.data.cut import UNITS
from fastzoo.errors import DataError, require

Float = npt.NDArray[np.float64]

GAP = 1.5  # a step this many times as long as its neighbours' median is a gap
WIDE_GAP = 3.0  # where the steps vary anyway and samples are interpolated
NEIGHBOURS = 9  # steps whose median is taken
LEAP = 0.25  # a step may differ by so much from the mean step, 5 % of all steps excepted
DRIFT = 0.05  # the mean over STRETCH steps may differ by so much from the mean over all
STRETCH = 64
SAME = 0.02  # rates that differ by no more are one rate
ROUND = 0.005  # a rate this near to a whole number is taken for it

# Times since 1970 between the years 2001 and 2100 tell their unit by their size.
EPOCH = (0.98e9, 4.1e9)  # seconds


@dataclass(frozen=True)
class Timing:
    """What the times of one recording say."""

    rate: float  # samples per second, measured
    gaps: npt.NDArray[np.bool_]  # [n - 1], whether a gap lies between a sample and the next
    regular: bool  # False: the steps vary so much that samples must be interpolated


def unit_of(column: str, times: npt.NDArray[Any], rate: float | None) -> str | None:
    """The unit of times that are numbers: what the column's name says, or their size, or the rate; None = ambiguous.

    Args:
        column: the name of the column; ``"time [ms]"`` and ``"t_ns"`` state a unit.
        times: [n], finite.
        rate: samples per second, if known otherwise.
    """
    if stated := re.search(r"[\[( _](s|sec|seconds|ms|us|µs|μs|ns)[\])]?$", column.strip().lower()):
        word = stated[1]
        return "us" if word in ("µs", "μs") else "s" if word.startswith("s") else word
    steps = np.diff(times)
    steps = steps[steps > 0]
    step = float(np.median(steps)) if len(steps) else 0.0
    for unit, size in UNITS.items():
        if EPOCH[0] <= float(times[0]) * size <= EPOCH[1] and step * size <= 1:  # a clock that began later is slower
            return unit
    for unit, size in UNITS.items():
        if rate is not None and abs(step * size * rate - 1) < LEAP:
            return unit
    return "s" if step < 1 else None


class TimesError(Exception):
    """What is wrong with the times at one row, counted from 0, and what to do; the caller knows of which file."""

    def __init__(self, row: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.row, self.what, self.remedy = row, what, remedy


def measure(times: Float, steady: bool = True) -> Timing:
    """Rate and gaps of one recording of at least two samples.

    Args:
        times: [n] seconds.
        steady: refuse a rate that changes; otherwise the samples are irregular, and only wide gaps are gaps.

    Raises:
        TimesError: times stand still or run backwards, or the rate changes.
    """
    steps = np.diff(times)
    if (wrong := np.flatnonzero(steps <= 0)).size:
        row = int(wrong[0])
        what = "the same time as" if steps[row] == 0 else f"a time {-steps[row]:.6g} s before that of"
        raise TimesError(
            row + 1,
            f"has {what} the row above it",
            "If another recording begins there, name the column that tells recordings apart with --recording; if only "
            'the clock is poor, leave it out with --time "" --rate SAMPLES_PER_S',
        )
    usual = _local_median(steps)
    gaps = steps > GAP * usual
    drift = _drift(times, gaps)
    if drift and steady:
        raise drift
    step = float(steps[~gaps].mean())
    late = np.quantile(np.abs(steps[~gaps] / step - 1), 0.95)
    regular = drift is None and bool(late <= LEAP)
    if not (regular or steady):
        gaps = steps > WIDE_GAP * usual
        step = float(steps[~gaps].mean())
    return Timing(1 / step, gaps, regular)


def _local_median(steps: Float) -> Float:
    if len(steps) <= NEIGHBOURS:
        return np.full(len(steps), np.median(steps))
    ndimage = require("scipy.ndimage", extra="train", purpose="finding gaps in recordings")
    smooth: Float = ndimage.median_filter(steps, size=NEIGHBOURS, mode="nearest")
    return smooth


def _drift(times: Float, gaps: npt.NDArray[np.bool_]) -> TimesError | None:
    """Where the mean step of a stretch without gaps is no longer the usual one."""
    length = min(STRETCH, len(gaps))
    gaps_before = np.concatenate([[0], np.cumsum(gaps)])
    starts = np.flatnonzero(gaps_before[length:] == gaps_before[:-length])
    if not starts.size:
        return None
    means = (times[starts + length] - times[starts]) / length
    usual = np.median(means)
    off = np.abs(means / usual - 1)
    if not (drifting := np.flatnonzero(off > DRIFT)).size:
        return None
    first = int(drifting[0])
    row = int(starts[first]) + length if first else 0  # the last sample of a stretch is what made it differ
    return TimesError(
        row,
        f"is where the rate changes: most samples come {1 / usual:.4g} times a second, here up to "
        f"{1 / means[off.argmax()]:.4g}",
        "Bring all to one rate with --resample SAMPLES_PER_S",
    )


def rounded(rate: float) -> float:
    """A measured rate as it was meant: 49.97 is 50."""
    whole = round(rate)
    if whole >= 1 and abs(rate / whole - 1) <= ROUND:
        return float(whole)
    return float(f"{rate:.4g}")


def ratio(rate: float, target: float) -> Fraction:
    """``target / rate`` as a fraction that polyphase filters can realise.

    Raises:
        DataError: there is none near it.
    """
    fraction = Fraction(target / rate).limit_denominator(1000)
    if not fraction or fraction.numerator > 1000 or abs(float(fraction) * rate / target - 1) > 1e-3:
        raise DataError(f"cannot resample from {rate:g} to {target:g} samples/s: choose a rate within a factor of 1000")
    return fraction
