"""From recordings to a data set: windows that lie in one stretch each, of one label and without a gap."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastzoo._json import listing
from fastzoo._order import natural
from fastzoo.data.columns import Columns
from fastzoo.data.cut import Cut
from fastzoo.data.prepared import SPLITS, Dataset
from fastzoo.data.recordings import Block, Labels, Recording, blocks, check, common_rate, shortest
from fastzoo.data.timeline import rounded
from fastzoo.data.windows import Rows, Samples, copy_windows, interpolated, resampled, starts, stretches
from fastzoo.errors import DataError
from fastzoo.samples import shortened

MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class _Windows:
    """The windows of one file, not yet copied."""

    samples: Samples  # [n, D]
    begin: Rows  # [N], the row where a window begins
    label: list[str]  # [N]
    block: list[Block]  # [N]


@dataclass
class _Tally:
    """What was counted while cutting, over all files."""

    rows: int = 0
    unlabelled: int = 0
    lacking: int = 0  # rows with a label, but without a sample
    gaps: int = 0
    longest: int = 0  # samples of the longest stretch
    short: Counter[str] = field(default_factory=Counter)  # stretches too short for a window, by label

    def add_short(self, labels: Labels, codes: npt.NDArray[np.int32]) -> None:
        self.short.update(labels.names[code] for code in codes)


def dataset(id: str, recordings: Sequence[Recording], columns: Columns, cut: Cut) -> Dataset:
    """Cut windows of ``cut.window`` samples; none leaves its file, group, split or label, or spans a gap.

    Args:
        id: of the data set.
        recordings: in the order of the windows to come.
        columns: what was read.
        cut: the options; ``cut.window`` is given.

    Raises:
        DataError: the recordings are faulty, or no window fits; faults of several files come together.
    """
    found: list[list[Block]] = []
    faults = []
    for recording in recordings:
        try:
            check(recording, columns.channels, cut)
            found.append(blocks(recording, cut))
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError(listing(faults, most=5))
    rate = common_rate([block for of_file in found for block in of_file], cut)
    tally = _Tally()
    windows = [_cut(recording, of_file, cut, tally) for recording, of_file in zip(recordings, found, strict=True)]
    label = [name for of_file in windows for name in of_file.label]
    block = [one for of_file in windows for one in of_file.block]
    classes = _classes(id, label, columns, cut, tally)
    numbers = group_numbers({one.group for one in block})
    group = np.array([numbers[one.group] for one in block], np.int64)
    split = np.array([one.split for one in block], np.uint8)
    _check_splits(numbers, group, split)
    index = {name: number for number, name in enumerate(classes)}
    return Dataset(
        id=id,
        x=_copied(windows, len(label), cut.grid()[0], len(columns.channels)),
        y=np.array([index[name] for name in label], np.int64),
        group=group,
        split=split,
        classes=tuple(classes),
        channels=columns.channels,
        rate=rate,
        notes=(f"read {columns}", *_notes(recordings[0], cut, rate, tally, classes, numbers)),
    )


def _cut(recording: Recording, found: Sequence[Block], cut: Cut, tally: _Tally) -> _Windows:
    """The windows of one file."""
    window, hop = cut.grid()
    owner = np.full(len(recording.samples), -1)  # the block of a row
    gap = np.zeros(len(recording.samples), bool)  # before a row
    for number, block in enumerate(found):
        owner[block.first : block.last] = number
        if block.timing is not None:
            gap[block.first + 1 : block.last] = block.timing.gaps
    whole = np.asarray(np.isfinite(recording.samples).all(axis=1))
    first, last = stretches(recording.label.codes, owner, np.cumsum(gap), whole)
    code = recording.label.codes[first]
    usable = (code >= 0) & whole[first]
    kept = usable & (owner[first] >= 0) & (last - first >= shortest(cut))
    _count(recording, whole, gap, tally)
    tally.add_short(recording.label, code[usable & ~kept])
    samples, lengths = recording.samples, (last - first)[usable]
    first, last, code = first[kept], last[kept], code[kept]
    owners = [found[number] for number in owner[first]]
    if cut.resample is not None:
        samples, first, last = _resample(recording, owners, first, last, cut)
        lengths = last - first
    tally.longest = max(tally.longest, int(lengths.max(initial=0)))
    tally.add_short(recording.label, code[last - first < window])
    begin, stretch = starts(first, last, window, hop)
    return _Windows(
        samples=samples,
        begin=begin,
        label=[recording.label.names[number] for number in code[stretch]],
        block=[owners[number] for number in stretch],
    )


def _count(recording: Recording, whole: npt.NDArray[np.bool_], gap: npt.NDArray[np.bool_], tally: _Tally) -> None:
    labelled = recording.label.codes >= 0
    tally.rows += len(labelled)
    tally.unlabelled += int((~labelled).sum())
    tally.lacking += int((labelled & ~whole).sum())
    tally.gaps += int(gap.sum())


def _resample(
    recording: Recording, owners: Sequence[Block], first: Rows, last: Rows, cut: Cut
) -> tuple[Samples, Rows, Rows]:
    """Every stretch by itself at the new rate, one behind the other."""
    pieces = [recording.samples[:0]]
    for block, begin, end in zip(owners, first.tolist(), last.tolist(), strict=True):
        samples = recording.samples[begin:end]
        rate = cut.rate or 1.0
        if block.timing is not None:
            rate = rounded(block.timing.rate)
            if not block.timing.regular and recording.time is not None:
                samples = interpolated(samples, recording.time[begin:end], rate)
        pieces.append(resampled(samples, rate, cut.resample or rate))
    edges = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    return np.concatenate(pieces), edges[:-1], edges[1:]


def _classes(id: str, label: Sequence[str], columns: Columns, cut: Cut, tally: _Tally) -> list[str]:
    """The names of the classes in order."""
    classes = ordered(set(label))
    if not classes:
        raise DataError(
            f"no window of {cut.window} samples fits: the longest stretch of {id!r} with one label and without a gap "
            f"has {tally.longest}. Choose a smaller --window"
        )
    if len(classes) < 2:
        lost = ordered(set(tally.short) - set(classes))
        more = (
            f" Too short for a window was every stretch of {shortened(lost)}: choose a smaller --window" if lost else ""
        )
        raise DataError(
            f"{id!r} has windows of one class only, {classes[0]!r} (column {columns.label!r}): a classifier needs "
            f"two.{more}"
        )
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"the column {columns.label!r} of {id!r} has {len(classes)} different values, such as {classes[0]!r}: name "
            "the one that holds the classes with --label"
        )
    return classes


def _copied(windows: Sequence[_Windows], count: int, steps: int, channels: int) -> Samples:
    """The samples of all windows, [N, T, D]."""
    try:
        x = np.empty((count, steps, channels), np.float32)
    except (MemoryError, ValueError) as error:
        raise DataError(f"{count} windows do not fit into memory: choose a larger --hop") from error
    row = 0
    for of_file in windows:
        copy_windows(of_file.samples, of_file.begin, x[row : row + len(of_file.begin)])
        row += len(of_file.begin)
    return x


def ordered(names: set[str]) -> list[str]:
    """Whole numbers by size, other names in natural order."""
    if _are_numbers(names):
        return sorted(names, key=int)
    return sorted(names, key=lambda name: (natural(name), name))


def group_numbers(names: set[str]) -> dict[str, int]:
    """Names that are whole numbers stand for themselves, others for their position in order."""
    if _are_numbers(names):
        return {name: int(name) for name in ordered(names)}
    return {name: number for number, name in enumerate(ordered(names))}


def _are_numbers(names: set[str]) -> bool:
    return all(re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", name) for name in names)


def _check_splits(numbers: dict[str, int], group: npt.NDArray[np.int64], split: npt.NDArray[np.uint8]) -> None:
    """No group may stand in two splits."""
    pairs = {(int(one), int(which)) for one, which in np.unique(np.stack([group, split]), axis=1).T}
    of = {
        name: [word for which, word in enumerate(SPLITS) if (number, which) in pairs]
        for name, number in numbers.items()
    }
    twice = [name for name, words in of.items() if len(words) > 1]
    if twice:
        more = f"; so do {shortened(twice[1:])}" if len(twice) > 1 else ""
        raise DataError(
            f"group {twice[0]!r} stands in {' and '.join(of[twice[0]])}{more}: nearly equal windows would be on both "
            'sides. Give all rows of a group the same split, or leave the column out with --split ""'
        )


def _notes(
    example: Recording, cut: Cut, rate: float, tally: _Tally, classes: Sequence[str], numbers: dict[str, int]
) -> Iterator[str]:
    """What the reader of the data set should know of how it was made."""
    if example.time is None:
        yield f"no time column: samples are taken to be evenly spaced, {cut.rate:g} a second"
    if cut.resample is not None:
        yield f"resampled to {rate:g} samples/s"
    if tally.gaps:
        yield f"{tally.gaps} gap(s) in time end a segment"
    if tally.unlabelled:
        yield f"{tally.unlabelled} of {tally.rows} rows have no label and are skipped"
    if tally.lacking:
        yield f"{tally.lacking} row(s) lack a sample and end a segment"
    if short := sum(tally.short.values()):
        yield f"{short} segment(s) are shorter than a window and are skipped"
    if lost := ordered(set(tally.short) - set(classes)):
        yield f"left out, since no segment is as long as a window: {shortened(lost)}"
    if example.group is None:
        yield f"no group column: each of {len(numbers)} recording(s) is a group of its own"
    if any(str(number) != name for name, number in numbers.items()):
        yield "groups are numbered: " + shortened([f"{number} = {name}" for name, number in numbers.items()])
