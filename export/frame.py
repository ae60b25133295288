"""What every layout has around the recurrence: normalisation before it, the linear head after it."""

from __future__ import annotations

import numpy as np

from fastzoo.export.graph import Op
from fastzoo.export.network import Floats, Network


def centre(op: Op, network: Network, x: str) -> str:
    """x - mean per channel: users feed raw units."""
    return op.Sub(x, op.constant("mean", network.mean))


def normalise(op: Op, network: Network, x: str) -> str:
    """(x - mean) / std per channel."""
    return op.Div(centre(op, network, x), op.constant("std", network.std))


def head(op: Op, network: Network, pooled: str, int8: bool) -> None:
    """Pooled states [N, H] -> ``logits`` [N, C]."""
    weight = int8_weight(op, "head", network.head_weight.T) if int8 else op.constant("head", network.head_weight.T)
    op.Gemm(pooled, weight, op.constant("head_bias", network.head_bias), transB=1, output="logits")


def int8_weight(op: Op, name: str, weight: Floats) -> str:
    """A weight stored as int8 behind DequantizeLinear, symmetric, one scale for the tensor."""
    quantized, scale = quantize(weight)
    return op.DequantizeLinear(
        op.constant(f"{name}_quantized", quantized),
        op.constant(f"{name}_scale", scale),
        op.constant(f"{name}_zero_point", np.int8(0)),
    )


def quantize(weight: Floats) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int8]], np.float32]:
    """Symmetric int8 with range -127 to 127, as ``quantize_static`` quantizes weights: zeros stay zeros."""
    scale = np.float32(np.abs(weight).max() / 127) or np.float32(1)  # an all-zero factor needs any scale but zero
    return np.rint(weight / scale).astype(np.int8), scale
