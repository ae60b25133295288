"""The layout ``fused``: each layer as ONE standard recurrent operator (:mod:`fastzoo.export.lowering`).

Knows nothing of cells. The file keeps the (low-rank, int8) factors; what the operator takes, their product with
blocks in the operator's order, is computed once, when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from fastzoo.export.frame import bricks, centre
from fastzoo.export.graph import Op
from fastzoo.export.lowering import Gate, Lowered, lower
from fastzoo.export.network import Cell, Factors, Floats, Network, named_factors
from fastzoo.export.weights import Int8

Doubles = npt.NDArray[np.float64]


def fused(network: Network, int8: Int8 | None = None) -> onnx.ModelProto:
    """Lower a network onto one operator for each layer.

    Args:
        network: of cells without an :func:`fastzoo.export.lowering.obstacle`, in unit scale.
        int8: how weights are stored; None = float32.

    Returns:
        A model ``x [N, T, D]`` (raw units) -> ``logits [N, C]``.
    """
    op = _Graph(int8)
    x = op.Transpose(bricks(op, network, centre(op, network, "x")), perm=[1, 0, 2])  # [T, N, D]
    scale = op.constant("std", np.tile(network.std, network.brick)[:, np.newaxis])
    below = [Lowered("", (), ())]  # x is read as it is
    batch = None
    for layer, cells in enumerate(network.layers):
        ways = [lower(cell) for cell in cells]
        prefixes = [network.prefix(layer * network.directions + way) for way in range(len(cells))]
        weights = [
            op.operands(cell, lowered, prefix, below, None if layer else scale)
            for cell, lowered, prefix in zip(cells, ways, prefixes, strict=True)
        ]
        w, r, b = (_stacked(op, [operands[i] for operands in weights]) for i in range(3))
        if any(any(lowered.start) for lowered in ways) and batch is None:
            batch = op.Slice(op.Shape("x"), op.constant("0", np.array([0])), op.constant("1", np.array([1])))
        states = _operator(op, x, (w, r, b), ways, cells[0].hidden_size, batch)  # [T, directions, N, parts H]
        if layer < len(network.layers) - 1:
            size = sum(len(lowered.read) for lowered in ways) * cells[0].hidden_size
            shape = op.constant(f"joined_{size}", np.array([network.count, -1, size]))
            x = op.Reshape(op.Transpose(states, perm=[0, 2, 1, 3]), shape)  # [T, N, directions parts H]
        below = ways
    op.head(network, _pooled(op, network, states), below)
    return op.model("fused", {"x": ["N", network.steps, network.input_size]}, {"logits": ["N", network.num_classes]})


class _Graph(Op):
    """A graph with a way to store weights."""

    def __init__(self, int8: Int8 | None) -> None:
        super().__init__("v")
        self.int8 = int8

    def matrix(self, prefix: str, factors: Factors) -> tuple[str, Doubles]:
        """The product of the factors, which are what is stored, and its value."""
        names, values = [], list[Doubles]()
        for name, factor in named_factors(prefix, factors).items():
            if self.int8 is None:
                names.append(self.constant(name, factor))
                values.append(factor.astype(np.float64))
            else:
                integers, scale = self.int8.quantized(factor)
                names.append(self.int8.weight(self, name, factor))
                values.append(integers.astype(np.float64) * scale)
        value = values[0] if len(values) == 1 else values[0] @ values[1]
        return names[0] if len(names) == 1 else self.MatMul(*names), value

    def operands(
        self, cell: Cell, lowered: Lowered, prefix: str, below: Sequence[Lowered], scale: str | None
    ) -> tuple[str, str, str]:
        """W [1, G P H, D'], R [1, G P H, P H] and B [1, 2 G P H] of one direction, in ONNX's order of gates."""
        w, w_value = self.matrix(f"{prefix}W", cell.w)
        u, u_value = self.matrix(f"{prefix}U", cell.u)
        if scale is not None:
            w = self.Div(w, scale)
        hidden, blocks = cell.hidden_size, w_value.shape[1] // cell.hidden_size
        ends = [of_way.offset for of_way in below]
        shift = np.repeat(ends, len(w_value) // len(ends)) @ w_value + lowered.offset * u_value.sum(axis=0)  # [G H]
        gates = [gate for parts in lowered.gates for gate in parts]
        bias = np.concatenate([_bias(gate, shift.reshape(blocks, hidden), hidden) for gate in gates])
        recurrent = np.zeros_like(bias)
        if lowered.recurrent_bias is not None:
            recurrent[-hidden:] = lowered.recurrent_bias
        stored = self.constant(f"{prefix}bias", np.concatenate([bias, recurrent]).astype(np.float32)[np.newaxis])
        return (
            self._gates(self.rows(w, below, len(w_value)), gates, blocks, hidden),
            self._gates(self.rows(u, [lowered], hidden), gates, blocks, hidden),
            stored,
        )

    def rows(self, matrix: str, below: Sequence[Lowered], count: int) -> str:
        """What multiplies h [count, n], as what multiplies the parts from which h is read."""
        if all(lowered.read == (1.0,) for lowered in below):
            return matrix
        parts = self.split(matrix, [count // len(below)] * len(below), axis=0)
        read = [
            self.Mul(part, self.constant(f"read_{factor:.9g}", np.float32(factor)))
            for part, lowered in zip(parts, below, strict=True)
            for factor in lowered.read
        ]
        return read[0] if len(read) == 1 else self.Concat(*read, axis=0)

    def _gates(self, matrix: str, gates: Sequence[Gate], blocks: int, hidden: int) -> str:
        """[1, G P H, n] from blocks of columns [n, B H]: each gate's block, or zeros."""
        columns = self.split(matrix, [hidden] * blocks, axis=1)
        nothing = None
        parts = []
        for gate in gates:
            if gate.block is None:
                nothing = nothing or self.Mul(columns[0], self.constant("nothing", np.float32(0)))
                parts.append(nothing)
            else:
                column = columns[gate.block]
                parts.append(column if gate.sign > 0 else self.Neg(column))
        return self.Unsqueeze(
            self.Transpose(self.Concat(*parts, axis=1), perm=[1, 0]), self.constant("0", np.array([0]))
        )

    def head(self, network: Network, pooled: str, below: Sequence[Lowered]) -> None:
        """Pooled states [N, directions parts H] -> ``logits`` [N, C]."""
        weight, value = self.matrix("head", (network.head_weight,))
        offsets = np.repeat([lowered.offset for lowered in below], len(value) // len(below))
        bias = (network.head_bias + offsets @ value).astype(np.float32)
        rows = self.rows(weight, below, len(value))
        self.Gemm(pooled, rows, self.constant("head_bias", bias[np.newaxis]), output="logits")


def _bias(gate: Gate, shift: Doubles, hidden: int) -> Floats | Doubles:
    """[H], with what a shifted state or input adds to every product."""
    if gate.block is None:
        return np.full(hidden, gate.bias, np.float32)
    bias: Doubles = gate.bias + gate.sign * shift[gate.block]
    return bias


def _stacked(op: Op, parts: Sequence[str]) -> str:
    """Both directions on the first axis."""
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)


def _operator(
    op: Op, x: str, operands: tuple[str, str, str], ways: Sequence[Lowered], hidden: int, batch: str | None
) -> str:
    """All states [T, directions, N, parts H]."""
    lowered = ways[0]
    size = len(lowered.read) * hidden
    inputs = [x, *operands]
    if any(lowered.start):
        assert batch is not None
        start = op.constant(f"start_{size}", np.repeat(lowered.start, hidden).astype(np.float32))
        shape = op.constant(f"ways_{len(ways)}", np.array([len(ways)])), op.constant(f"size_{size}", np.array([size]))
        initial = op.Expand(start, op.Concat(shape[0], batch, shape[1], axis=0))
        inputs += ["", initial] + ([initial] if lowered.operator == "LSTM" else [])
    activations = [name for name, _ in lowered.activations] * len(ways)
    attributes: dict[str, object] = {"hidden_size": size, "activations": activations}
    for key in ("alpha", "beta"):
        values = [parameters[key] for _, parameters in lowered.activations if key in parameters] * len(ways)
        if values:
            attributes[f"activation_{key}"] = values
    if lowered.operator == "GRU":
        attributes["linear_before_reset"] = lowered.linear_before_reset
    if len(ways) == 2:
        attributes["direction"] = "bidirectional"
    return op.__getattr__(lowered.operator)(*inputs, **attributes)


def _pooled(op: Op, network: Network, states: str) -> str:
    """The mean over the states that each direction reached last, [N, directions parts H]."""
    means = []
    for way, part in enumerate(op.split(states, [1] * network.directions, axis=1)):  # [T, 1, N, parts H]
        first, end = (0, network.pool) if way else (-network.pool, network.count)
        last = op.Slice(part, *(op.constant(f"at_{at}", np.array([at])) for at in (first, end)))
        means.append(op.ReduceMean(last, axes=[0, 1], keepdims=0))
    return means[0] if len(means) == 1 else op.Concat(*means, axis=-1)
