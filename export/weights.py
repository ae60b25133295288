"""Weights in int8: symmetric, one scale for the tensor or for each output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastzoo.export.graph import Op
from fastzoo.export.network import Floats


@dataclass(frozen=True)
class Int8:
    """How a graph's matrices are stored."""

    per_channel: bool = False

    def quantized(self, weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
        """A matrix as integers and its scale, [] or for each column (the output channels)."""
        return quantize(weight, 1 if self.per_channel else None)

    def weight(self, op: Op, name: str, weight: Floats) -> str:
        """A matrix behind DequantizeLinear."""
        integers, scale = self.quantized(weight)
        return dequantized(op, op.constant(f"{name}_quantized", integers), f"{name}_scale", scale)


def dequantized(op: Op, integers: str, name: str, scale: Floats) -> str:
    """Stored integers with a scale of this name, [] or for each column."""
    stored = op.constant(name, scale)
    zeros = op.constant(f"zeros{scale.size}" if scale.ndim else "zero", np.zeros(scale.shape, np.int8))
    return op.DequantizeLinear(integers, stored, zeros, **({"axis": 1} if scale.ndim else {}))


def quantize(weight: Floats, axis: int | None = None) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric int8 with range -127 to 127, as ``quantize_static`` quantizes weights: zeros stay zeros.

    Args:
        weight: [m, n].
        axis: that of the output channels, for a scale each; None = one scale.

    Returns:
        The integers [m, n], and the scale, [] or along ``axis``.
    """
    largest = np.abs(weight).max() if axis is None else np.abs(weight).max(axis=1 - axis)
    scale = np.asarray(largest / 127, np.float32)
    scale = np.where(scale == 0, np.float32(1), scale)  # what is all zero needs any scale but zero
    per_entry = scale if axis is None else np.expand_dims(scale, 1 - axis)
    return np.rint(weight / per_entry).astype(np.int8), scale
