"""What is in a data set, and what is wrong with it, before an hour of training finds out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastzoo.data import ranges
from fastzoo.data.prepared import SPLITS, TEST, TRAIN, VALIDATION, Dataset, content_faults
from fastzoo.data.ranges import Range
from fastzoo.samples import shortened

FEW = 10  # training windows of a class
UNEVEN = 10  # times as many windows of the most frequent class as of the rarest
CLIPPED = 0.01  # share of a channel's samples at its extreme
LEVELS = 64  # a channel with fewer different values is no measurement that could clip

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fault:
    """Something to mend (``error``: training would refuse or mislead) or to know (``warning``)."""

    severity: Literal["error", "warning"]
    kind: str
    message: str


@dataclass(frozen=True)
class Part:
    """One split."""

    windows: int
    groups: int
    per_class: Mapping[str, int]
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class Report:
    """A data set in numbers; :func:`fastzoo._json.plain` makes it JSON."""

    id: str
    windows: int
    steps: int
    seconds: float  # of one window
    rate: float
    dtype: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    splits: Mapping[str, Part]
    sha256: str
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that must be mended."""
        return tuple(fault for fault in self.faults if fault.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """The faults to know of."""
        return tuple(fault for fault in self.faults if fault.severity == "warning")


def inspect(data: Dataset, batch_size: int = 128) -> Report:
    """Count and measure a data set, and look for faults.

    Args:
        data: loaded with ``strict=False``, faulty content is reported instead of raised.
        batch_size: of the training to come.
    """
    counts = np.stack([_per_class(data, data.split == number) for number in range(len(SPLITS))])  # [3, C]
    measured = ranges.per_split(data)
    return Report(
        id=data.id,
        windows=len(data.x),
        steps=data.x.shape[1],
        seconds=data.x.shape[1] / data.rate,
        rate=data.rate,
        dtype=str(data.x.dtype),
        channels=data.channels,
        classes=data.classes,
        splits={
            name: Part(
                windows=int((data.split == SPLITS.index(name)).sum()),
                groups=len(_groups(data, SPLITS.index(name))),
                per_class=dict(zip(data.classes, counts[SPLITS.index(name)].tolist(), strict=True)),
                ranges=of_split,
            )
            for name, of_split in measured.items()
        },
        sha256=data.sha256,
        notes=data.notes,
        faults=tuple(_faults(data, counts, measured, batch_size)),
    )


def _per_class(data: Dataset, rows: npt.NDArray[np.bool_]) -> Counts:
    y = data.y[rows & (data.y >= 0) & (data.y < len(data.classes))]
    return np.bincount(y, minlength=len(data.classes))


def _groups(data: Dataset, which: int) -> Counts:
    return np.unique(data.group[data.split == which])


def _faults(
    data: Dataset, counts: Counts, measured: Mapping[str, tuple[Range, ...]], batch_size: int
) -> Iterator[Fault]:
    content = content_faults(data)
    for message in content:
        yield Fault("error", "content", message + _remedy(message))
    yield from _class_faults(data, counts)
    yield from _split_faults(data, counts, batch_size)
    if not content:
        yield from _held_out_faults(data, counts)
    yield from _channel_faults(data, measured)
    yield from _twin_faults(data)


def _remedy(message: str) -> str:
    remedies = {
        "NaN": ": fill the samples in, or leave the window out",
        "stand in more than one split": ": give all windows of a group the same split",
        "class names": ": a classifier needs two",
    }
    return next((remedy for word, remedy in remedies.items() if word in message), "")


def _class_faults(data: Dataset, counts: Counts) -> Iterator[Fault]:
    total = counts.sum(axis=0)
    present = np.flatnonzero(total)
    if len(present) == 1 and len(data.classes) > 1:
        only = data.classes[present[0]]
        yield Fault("error", "one class", f"all windows are of one class, {only!r}: a classifier needs two")
    if not counts[TRAIN].any():
        return
    missing = np.flatnonzero(counts[TRAIN] == 0)
    if len(missing):
        yield Fault(
            "error",
            "class missing",
            f"no training window is of class {_some(data, missing)}: it cannot be learned; record it, or leave it out",
        )
    few = np.flatnonzero((counts[TRAIN] > 0) & (counts[TRAIN] < FEW))
    if len(few):
        yield Fault(
            "warning",
            "few windows",
            f"fewer than {FEW} training windows are of class {_some(data, few)}: record more, or use a smaller hop",
        )
    for which in (VALIDATION, TEST):
        gone = np.flatnonzero((counts[which] == 0) & (counts[TRAIN] > 0))
        if counts[which].any() and len(gone):
            yield Fault(
                "warning",
                "class missing",
                f"no {SPLITS[which]} window is of class {_some(data, gone)}: how well it is told apart is not measured",
            )
    some = counts[TRAIN][counts[TRAIN] > 0]
    if some.max() > UNEVEN * some.min():
        often, rare = (
            data.classes[i] for i in (counts[TRAIN].argmax(), np.flatnonzero(counts[TRAIN] == some.min())[0])
        )
        yield Fault(
            "warning",
            "uneven classes",
            f"class {often!r} has {some.max()} training windows, {rare!r} only {some.min()}: look at macro F1, "
            "not at accuracy alone",
        )


def _split_faults(data: Dataset, counts: Counts, batch_size: int) -> Iterator[Fault]:
    windows = counts.sum(axis=1)
    if not windows[TRAIN]:
        yield Fault("error", "no training windows", "there are no training windows: give some groups the split train")
        return
    if windows[TRAIN] < batch_size:
        yield Fault(
            "warning",
            "small",
            f"{windows[TRAIN]} training windows are fewer than one batch of {batch_size}: train with a smaller "
            "--batch-size",
        )
    if not windows[TEST]:
        yield Fault(
            "warning",
            "no test windows",
            "there are no test windows, so the final accuracy cannot be measured: hold groups out with "
            "--test-fraction 0.2, or in a split column",
        )
    groups = len(_groups(data, TRAIN))
    if groups == windows[TRAIN] > 1:
        yield Fault(
            "warning",
            "groups",
            "every training window is a group of its own: if several come from one person, those held out for "
            "validation are too easy",
        )


def _held_out_faults(data: Dataset, counts: Counts) -> Iterator[Fault]:
    """What will be wrong with the validation split that training makes."""
    if counts[VALIDATION].any() or not counts[TRAIN].any():
        return
    if len(_groups(data, TRAIN)) < 2:
        yield Fault(
            "error",
            "one group",
            "all training windows are of one group, so none can be held out for validation: number subjects, sessions "
            "or records in the group column",
        )
        return
    held = data.with_validation()
    for which, what in ((VALIDATION, "validation"), (TRAIN, "training")):
        gone = np.flatnonzero((_per_class(held, held.split == which) == 0) & (counts[TRAIN] > 0))
        if len(gone):
            yield Fault(
                "warning",
                "class missing",
                f"with a fifth of the groups held out, as training does, no {what} window is of class "
                f"{_some(data, gone)}: record it with more groups, or choose the validation groups in a split column",
            )


def _some(data: Dataset, which: Counts) -> str:
    return shortened([repr(data.classes[i]) for i in which])


def _channel_faults(data: Dataset, measured: Mapping[str, tuple[Range, ...]]) -> Iterator[Fault]:
    constant = [
        of[0].channel
        for of in zip(*measured.values(), strict=True)
        if len({value for part in of for value in (part.min, part.max)}) == 1
    ]
    if constant:
        yield Fault(
            "warning",
            "constant channel",
            f"these channels never change: {shortened(constant)}. They tell nothing; leave them out",
        )
    yield from _still_faults(data, constant)
    if data.x.dtype == np.uint8:
        return  # 8-bit images and spectrograms sit at 0 and 255 by design
    for channel, (at_low, at_high) in enumerate(zip(*ranges.at_extremes(data), strict=True)):
        if data.channels[channel] in constant or max(at_low, at_high) < CLIPPED or _levels(data, channel) < LEVELS:
            continue
        share, end = max((at_low, "smallest"), (at_high, "largest"))
        yield Fault(
            "warning",
            "clipped channel",
            f"{100 * share:.1f} % of the samples of {data.channels[channel]!r} are its {end} value: does the sensor "
            "reach the end of its range?",
        )


def _still_faults(data: Dataset, constant: list[str]) -> Iterator[Fault]:
    """Channels that have one value in each window are numbers of something, perhaps of the class."""
    if data.x.shape[1] == 1:
        return
    still = np.all([(data.x[rows] == data.x[rows, :1]).all(axis=(0, 1)) for rows in ranges.batches(data)], axis=0)
    for channel in np.flatnonzero(still):
        name = data.channels[channel]
        values, codes = np.unique(data.x[:, 0, channel], return_inverse=True)
        if name in constant:
            continue
        classes_of_a_value = np.unique(np.stack([codes.ravel(), data.y]), axis=1).shape[1] / len(values)
        if classes_of_a_value == 1 and len(values) <= len(data.classes):
            yield Fault("error", "label as channel", f"channel {name!r} tells the class in each window: leave it out")
        else:
            yield Fault(
                "warning",
                "still channel",
                f"channel {name!r} never changes inside a window: is it the number of something? Then leave it out",
            )


def _levels(data: Dataset, channel: int) -> int:
    """How many different values some windows of a channel have."""
    return len(np.unique(data.x[:: max(1, len(data.x) // 256), :, channel]))


def _twin_faults(data: Dataset) -> Iterator[Fault]:
    """Windows that are equal to the last bit, though in different splits, or of different classes."""
    seen: dict[bytes, int] = {}
    leaks: list[tuple[int, int]] = []
    contradictions: list[tuple[int, int]] = []
    x = np.ascontiguousarray(data.x)
    still = np.concatenate([(x[rows] == x[rows, :1]).all(axis=(1, 2)) for rows in ranges.batches(data)])
    for row in np.flatnonzero(~still).tolist():  # silence may occur twice
        first = seen.setdefault(hashlib.blake2b(x[row].data, digest_size=16).digest(), row)
        if data.split[first] != data.split[row]:
            leaks.append((first, row))
        if data.y[first] != data.y[row]:
            contradictions.append((first, row))
    for pairs, kind, what, remedy in (
        (leaks, "same window in two splits", "also stand in another split", "keep one of them"),
        (contradictions, "same window of two classes", "also stand there with another class", "correct the labels"),
    ):
        if pairs:
            first, second = pairs[0]
            yield Fault("warning", kind, f"{len(pairs)} window(s) {what}, first rows {first} and {second}: {remedy}")
