"""Numbers per channel, gathered batch by batch so that a large data set is never copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastzoo.data.prepared import SPLITS, Dataset

BATCH = 1 << 22  # samples converted to float64 at once


@dataclass(frozen=True)
class Range:
    """What the finite samples of one channel look like; None where there is none."""

    channel: str
    min: float | None
    mean: float | None
    std: float | None
    max: float | None


class _Sums:
    """Count, mean, sum of squared deviations, smallest and largest value per channel [D], batches merged exactly."""

    def __init__(self, channels: int) -> None:
        self.count, self.mean, self.squares = np.zeros(channels), np.zeros(channels), np.zeros(channels)
        self.min, self.max = np.full(channels, np.inf), np.full(channels, -np.inf)

    def add(self, x: npt.NDArray[np.float64]) -> None:  # [n, D]
        finite = np.isfinite(x)
        count = finite.sum(axis=0)
        some = np.maximum(count, 1)
        mean = np.where(finite, x, 0).sum(axis=0) / some
        squares = (np.where(finite, x - mean, 0) ** 2).sum(axis=0)
        total = np.maximum(self.count + count, 1)
        apart = mean - self.mean
        self.mean = self.mean + apart * count / total
        self.squares = self.squares + squares + apart**2 * self.count * count / total
        self.count = self.count + count
        self.min = np.minimum(self.min, np.where(finite, x, np.inf).min(axis=0))
        self.max = np.maximum(self.max, np.where(finite, x, -np.inf).max(axis=0))

    def ranges(self, names: tuple[str, ...]) -> tuple[Range, ...]:
        std = np.sqrt(self.squares / np.maximum(self.count, 1))
        return tuple(
            Range(name, float(low), float(mean), float(deviation), float(high))
            if count
            else Range(name, None, None, None, None)
            for name, count, low, mean, deviation, high in zip(
                names, self.count, self.min, self.mean, std, self.max, strict=True
            )
        )


def per_split(data: Dataset) -> dict[str, tuple[Range, ...]]:
    """The ranges of every channel, by the name of the split; splits without windows are left out."""
    sums = {name: _Sums(len(data.channels)) for name in SPLITS}
    for rows in batches(data):
        split = data.split[rows]
        for number in np.unique(split):
            if number < len(SPLITS):
                x = data.x[rows][split == number].reshape(-1, len(data.channels))
                with np.errstate(invalid="ignore"):
                    sums[SPLITS[number]].add(x.astype(np.float64))
    return {name: of.ranges(data.channels) for name, of in sums.items() if (data.split == SPLITS.index(name)).any()}


def at_extremes(data: Dataset) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The share of each channel's samples [D] that equal its smallest and its largest value, over all splits."""
    low, high = np.full(len(data.channels), np.inf), np.full(len(data.channels), -np.inf)
    for rows in batches(data):
        low = np.fmin(low, np.fmin.reduce(data.x[rows], axis=(0, 1)))
        high = np.fmax(high, np.fmax.reduce(data.x[rows], axis=(0, 1)))
    at_low, at_high = np.zeros_like(low), np.zeros_like(high)
    for rows in batches(data):
        at_low += (data.x[rows] == low).sum(axis=(0, 1))
        at_high += (data.x[rows] == high).sum(axis=(0, 1))
    samples = data.x.shape[0] * data.x.shape[1]
    return at_low / samples, at_high / samples


def batches(data: Dataset) -> Iterator[slice]:
    """Rows to take together."""
    size = max(1, BATCH // max(1, data.x[0].size))
    for start in range(0, len(data.x), size):
        yield slice(start, start + size)
