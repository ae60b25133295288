"""Recordings in long form, and what must be known before windows are cut: who, which split, which rate, which gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastzoo._json import listing
from fastzoo.data.cut import Cut
from fastzoo.data.prepared import SPLITS, TEST, TRAIN, VALIDATION
from fastzoo.data.timeline import SAME, TimesError, Timing, measure, rounded
from fastzoo.data.windows import Samples, stretches
from fastzoo.errors import DataError

SPLIT_WORDS = {
    "train": TRAIN, "0": TRAIN, "validation": VALIDATION, "val": VALIDATION, "1": VALIDATION, "test": TEST, "2": TEST
}  # fmt: skip
SHORTEST = 8  # samples; what is shorter is not worth resampling


@dataclass(frozen=True)
class Labels:
    """A column of names: ``names[codes[row]]``, none where the code is -1."""

    codes: npt.NDArray[np.int32]  # [n]
    names: tuple[str, ...]

    def at(self, row: int) -> str:
        """The name in a row that has one."""
        return self.names[int(self.codes[row])]


@dataclass(frozen=True, eq=False)
class Recording:
    """One file in long form."""

    path: Path
    samples: Samples  # [n, D], NaN where there is none
    label: Labels
    time: npt.NDArray[np.float64] | None = None  # [n] seconds
    group: Labels | None = None
    split: Labels | None = None
    recording: Labels | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring rows of one file that belong to one group, split and recording."""

    name: str
    group: str
    split: int
    first: int
    last: int  # exclusive
    timing: Timing | None  # None: there are no times


def shortest(cut: Cut) -> int:
    """Rows below which a stretch cannot hold a window."""
    window, _ = cut.grid()
    return window if cut.resample is None else min(window, SHORTEST)


def check(recording: Recording, channels: Sequence[str], cut: Cut) -> None:
    """Refuse rows with a label that lack something else.

    Raises:
        DataError: names the file, the row and the channel.
    """
    labelled = recording.label.codes >= 0
    for role in ("group", "split", "recording"):
        labels: Labels | None = getattr(recording, role)
        if labels is not None and (empty := np.flatnonzero(labelled & (labels.codes < 0))).size:
            raise DataError(f"{recording.path} has no {role} in data row {empty[0] + 1}, though the row has a label")
    if recording.split is not None and (wrong := set(map(str.lower, recording.split.names)) - SPLIT_WORDS.keys()):
        raise DataError(
            f"{recording.path} has the split {min(wrong)!r}; expected are {', '.join(SPLITS)}, or 0, 1 and 2"
        )
    if cut.missing == "error":
        _check_samples(recording, labelled, channels)


def _check_samples(recording: Recording, labelled: npt.NDArray[np.bool_], channels: Sequence[str]) -> None:
    lacking = np.flatnonzero(labelled & ~np.isfinite(recording.samples).all(axis=1))
    if not lacking.size:
        return
    row = int(lacking[0])
    channel = int(np.flatnonzero(~np.isfinite(recording.samples[row]))[0])
    what = "no number" if np.isnan(recording.samples[row, channel]) else "an infinite or too large number"
    more = f", and more in {lacking.size - 1} other row(s)" if lacking.size > 1 else ""
    raise DataError(
        f"{recording.path} has {what} in data row {row + 1}, channel {channels[channel]!r}{more}: "
        "fill it in, or pass --missing skip to end a segment at such rows"
    )


def blocks(recording: Recording, cut: Cut) -> list[Block]:
    """The blocks that are long enough for a window, their times measured.

    Raises:
        DataError: the clock runs backwards, the rate changes, or the rows of several recordings are mixed.
    """
    keys = [labels for labels in (recording.group, recording.split, recording.recording) if labels is not None]
    first, last = stretches(*([labels.codes for labels in keys] or [np.zeros(len(recording.samples), np.int8)]))
    found = [
        _block(recording, keys, begin, end, cut)
        for begin, end in zip(first.tolist(), last.tolist(), strict=True)
        if end - begin >= max(2, shortest(cut))
    ]
    if not found and len(first) > len(recording.samples) // 2 > 1:
        raise DataError(
            f"in {recording.path} group, split or recording changes in {len(first) - 1} of {len(recording.samples)} "
            "rows: sort the table so that the rows of one recording follow one another in time"
        )
    return found


def _block(recording: Recording, keys: Sequence[Labels], first: int, last: int, cut: Cut) -> Block:
    words = [labels.at(first) for labels in keys if labels.codes[first] >= 0]
    name = ", ".join([recording.path.name, *words])
    return Block(
        name=name,
        group=_group(recording, first),
        split=_split(recording, first),
        first=first,
        last=last,
        timing=None if recording.time is None else _timing(recording.path, recording.time, name, first, last, cut),
    )


def _group(recording: Recording, row: int) -> str:
    """The name of the group; without a group column, of the recording."""
    if recording.group is not None:
        return recording.group.at(row)
    name = recording.path.name
    return name if recording.recording is None else f"{name}, {recording.recording.at(row)}"


def _split(recording: Recording, row: int) -> int:
    return TRAIN if recording.split is None else SPLIT_WORDS[recording.split.at(row).lower()]


def _timing(path: Path, times: npt.NDArray[np.float64], name: str, first: int, last: int, cut: Cut) -> Timing:
    try:
        timing = measure(times[first:last], steady=cut.resample is None)
    except TimesError as fault:
        raise DataError(f"{path}: data row {first + fault.row + 1} {fault.what} ({name}). {fault.remedy}") from None
    if not timing.regular and cut.resample is None:
        raise DataError(
            f"{path} is sampled irregularly ({name}): more than 5 % of the steps are over 25 % off their mean of "
            f"{1 / timing.rate:.4g} s. Interpolate with --resample {rounded(timing.rate):g}; or, if only the clock is "
            f'poor, leave it out with --time "" --rate {rounded(timing.rate):g}'
        )
    return timing


def common_rate(of: Sequence[Block], cut: Cut) -> float:
    """The rate of the data set, if the recordings agree on one.

    Raises:
        DataError: names the recordings that do not.
    """
    measured = [(block.name, block.timing.rate) for block in of if block.timing is not None]
    if of and not measured and cut.rate is None:
        raise DataError(
            "there is no time column: name it with --time, or say with --rate how many samples a second has"
        )
    if cut.resample is not None:
        return float(cut.resample)
    rate = float(cut.rate or (rounded(float(np.median([rate for _, rate in measured]))) if measured else 1))
    others = [(name, found) for name, found in measured if abs(found / rate - 1) > SAME]
    if others:
        agreed = [name for name, found in measured if abs(found / rate - 1) <= SAME]
        first = "--rate says" if cut.rate or not agreed else f"{agreed[0]} has"
        raise DataError(
            f"recordings have different rates: {first} {rate:g} samples/s, "
            + listing([f"{name} has {rounded(found):g}" for name, found in others], most=5)
            + f". Bring all to one rate with --resample {rounded(min(rate for _, rate in measured)):g}"
        )
    return rate
