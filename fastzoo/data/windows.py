"""Cut long recordings into windows, all at once: stretches in which nothing changes, then windows inside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.data.timeline import ratio
from fastzoo.errors import require

Rows = npt.NDArray[np.int64]
Samples = npt.NDArray[np.float32]

AT_ONCE = 1 << 24  # samples copied in one go


def stretches(*keys: npt.NDArray[Any]) -> tuple[Rows, Rows]:
    """The longest runs of rows in which no key changes.

    Args:
        keys: arrays [n] of equal length.

    Returns:
        First rows and, exclusive, last rows, [S] each; they follow one another without holes.
    """
    n = len(keys[0])
    change = np.zeros(max(n - 1, 0), bool)
    for key in keys:
        change |= key[1:] != key[:-1]
    edges = np.concatenate([[0], np.flatnonzero(change) + 1, [n]]).astype(np.int64)
    return (edges[:-1], edges[1:]) if n else (edges[:0], edges[:0])


def starts(first: Rows, last: Rows, window: int, hop: int) -> tuple[Rows, Rows]:
    """Where windows begin: at the start of a stretch, then every ``hop`` rows while a whole window fits.

    Args:
        first: [S] first row of each stretch.
        last: [S] the row after its last one.
        window: rows per window.
        hop: rows from the start of a window to the start of the next.

    Returns:
        The first row of every window [N], and which stretch it lies in [N].
    """
    counts = np.maximum((last - first - window) // hop + 1, 0)
    stretch = np.repeat(np.arange(len(first)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # of a window in its stretch
    return first[stretch] + hop * number, stretch


def copy_windows(samples: Samples, begin: Rows, out: Samples) -> None:
    """Write the windows of ``samples`` [n, D] that begin at ``begin`` [N] into ``out`` [N, T, D]."""
    if not len(begin):
        return
    views = np.lib.stride_tricks.sliding_window_view(samples, out.shape[1], axis=0).transpose(0, 2, 1)
    batch = max(1, AT_ONCE // max(1, out[0].size))
    for row in range(0, len(begin), batch):
        out[row : row + batch] = views[begin[row : row + batch]]


def resampled(samples: npt.NDArray[np.floating[Any]], rate: float, target: float) -> Samples:
    """``samples`` [n, D] at another rate, [m, D] with m = ceil(n target / rate), by a polyphase filter.

    The filter is SciPy's default; the straight line from the first to the last sample is taken off before it and put
    back after it, so that gravity or another offset makes no edges.

    Raises:
        DataError: the two rates are too far apart.
        MissingExtraError: SciPy is not installed.
    """
    fraction = ratio(rate, target)
    if fraction == 1:
        return samples.astype(np.float32, copy=False)
    signal = require("scipy.signal", extra="train", purpose="resampling")
    up, down = fraction.numerator, fraction.denominator
    made = signal.resample_poly(samples, up, down, axis=0, padtype="line")
    return np.ascontiguousarray(made, np.float32)


def interpolated(samples: Samples, times: npt.NDArray[np.float64], rate: float) -> Samples:
    """``samples`` [n, D] taken at irregular ``times`` [n], drawn on straight lines at ``rate``."""
    count = int((times[-1] - times[0]) * rate + 1e-6) + 1
    grid = times[0] + np.arange(count) / rate
    return np.stack([np.interp(grid, times, channel) for channel in samples.T], axis=1).astype(np.float32)
