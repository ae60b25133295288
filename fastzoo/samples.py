"""What a user hands to a model, turned into float32 windows, or refused with the reason."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError
from fastzoo.records import Input

UNREADABLE = (  # what np.load raises on files that are damaged or made to harm
    OSError, ValueError, EOFError, AttributeError, KeyError, MemoryError, RuntimeError, TypeError, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def as_windows(x: npt.ArrayLike, expected: Input) -> tuple[npt.NDArray[Any], bool]:
    """``x`` [T, D] or [N, T, D] as numbers [N, T, D], not yet float32, and whether it was a single window.

    Raises:
        InputError: the type is not real numbers, or the shape is not that of this model.
    """
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        # RuntimeError: a torch tensor that still carries its gradient
        raise InputError(f"x cannot be made an array ({error}); {_wanted(expected)}") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"x holds {array.dtype}, not real numbers; {_wanted(expected)}")
    single = array.ndim == 2
    if array.ndim not in (2, 3) or array.shape[-2:] != (expected.steps, len(expected.channels)):
        raise InputError(f"x has the shape {list(array.shape)}; {_wanted(expected)}")
    if not single and len(array) == 0:
        raise InputError(f"x has no windows; {_wanted(expected)}")
    return (array[np.newaxis] if single else array), single


def as_chunk(chunk: npt.ArrayLike, channels: Sequence[str]) -> npt.NDArray[np.float32]:
    """``chunk`` [n, D], n >= 0, as contiguous float32; of a single channel, [n] will do.

    Raises:
        InputError: the type is not real numbers, the shape is another, or a sample is NaN, infinite, or too large.
    """
    wanted = f"a chunk of this stream is [n, {len(channels)}], any n: {shortened(channels)}"
    try:
        array = np.asarray(chunk)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the chunk cannot be made an array ({error}); {wanted}") from None
    if array.size == 0 and (array.ndim == 1 or array.shape[1:] == (len(channels),)):
        return np.empty((0, len(channels)), np.float32)
    if array.dtype.kind not in "fiu":
        raise InputError(f"the chunk holds {array.dtype}, not real numbers; {wanted}")
    if array.ndim == 1 and len(channels) == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or array.shape[1] != len(channels):
        raise InputError(f"the chunk has the shape {list(array.shape)}; {wanted}")
    with np.errstate(over="ignore"):  # found below
        samples = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(samples).all():
        row, channel = np.argwhere(~np.isfinite(samples))[0]
        value = array[row, channel]
        what = f"{value:g}" + (", too large for float32," if np.isfinite(value) else "")
        raise InputError(
            f"the chunk holds {what} in row {row}, channel {channels[channel]!r}; fill the gap, leave the sample out, "
            "or reset the stream"
        )
    return samples


def as_float32(windows: npt.NDArray[Any], expected: Input, first: int = 0) -> npt.NDArray[np.float32]:
    """``windows`` [n, T, D] as contiguous float32; ``first`` is the number of the first one, for the message.

    Raises:
        InputError: a sample is NaN, infinite, or too large for float32.
    """
    with np.errstate(over="ignore"):  # found below
        samples = np.ascontiguousarray(windows, dtype=np.float32)
    if not np.isfinite(samples).all():
        window, step, channel = np.argwhere(~np.isfinite(samples))[0]
        value = windows[window, step, channel]
        what = f"{value:g}" + (", too large for float32," if np.isfinite(value) else "")
        raise InputError(
            f"x holds {what} in window {first + window}, step {step}, channel {expected.channels[channel]!r}; "
            "replace missing samples before predicting"
        )
    return samples


def _wanted(expected: Input) -> str:
    steps, channels = expected.steps, len(expected.channels)
    return (
        f"this model takes windows of {steps} steps at {expected.rate:g} Hz with {channels} channel(s), "
        f"x [{steps}, {channels}] or [N, {steps}, {channels}]: {shortened(expected.channels)}"
    )


def shortened(names: Sequence[str], most: int = 12) -> str:
    """Names for a message: all of a few, both ends of many."""
    shown = list(names) if len(names) <= most else [*names[: most - 1], "...", names[-1]]
    return ", ".join(shown)
