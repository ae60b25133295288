"""A tape: calls of NumPy functions on arrays that exist already, in the order in which they run.

What a graph computes is known once the shapes of its inputs are. So it is written to a tape once for each shape: every
array is allocated, every view taken, every loop unrolled. Running it is calling the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastzoo.errors import BundleError

Array = npt.NDArray[Any]

MOST_NODES = 1_000_000
MOST_BYTES = 1 << 30


class Value(NamedTuple):
    """An array on a tape; ``constant`` if its content is known already."""

    array: Array
    constant: bool = False


class Tape:
    """Calls to come, and the arrays between them.

    Args:
        rows_alone: multiply each row of a matrix by itself. BLAS rounds a row otherwise among two rows than among four,
            and copies of a state that advance together must each get the bits that they would get elsewhere.
    """

    def __init__(self, rows_alone: bool = False) -> None:
        self.rows_alone = rows_alone
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._bytes = self._nodes = 0

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """A new array.

        Raises:
            BundleError: all of them would take more than a gigabyte.
        """
        size = np.dtype(dtype).itemsize
        for length in shape:
            size *= length
        self._bytes += size
        if self._bytes > MOST_BYTES:
            raise BundleError(f"the graph needs more than {MOST_BYTES >> 20} MiB for inputs of this size")
        return np.empty(shape, dtype)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call ``function`` whenever the tape runs; it writes into one of its arguments."""
        self._calls.append((function, arguments))

    def visit(self) -> None:
        """Another node is being written.

        Raises:
            BundleError: there is no end of them: loops and functions multiply.
        """
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise BundleError(f"the graph takes more than {MOST_NODES} operators")

    def run(self) -> None:
        """All calls, in order."""
        for function, arguments in self._calls:
            function(*arguments)

    def copied(self, array: Array) -> Array:
        """A contiguous copy, made whenever the tape runs."""
        out = self.empty(array.shape, array.dtype)
        self.call(np.copyto, out, array)
        return out
