"""What both arithmetics share: names, stored weights, and the part of a step that depends on x alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import onnx

from fastzoo.export.cells import EQUATIONS, STATES
from fastzoo.export.graph import Op
from fastzoo.export.network import Cell, Floats, named_factors
from fastzoo.export.step import Port, Step
from fastzoo.export.weights import Int8

Value = TypeVar("Value")

# Each nonlinearity of ``fastzoo.nn.NONLINEARITIES`` as one standard operator; quant_tanh is a Clip.
OPERATORS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "quant_sigmoid": ("HardSigmoid", {"alpha": 0.5, "beta": 0.5}),
    "quant_sigmoid4": ("HardSigmoid", {"alpha": 0.25, "beta": 0.5}),
}


def nonlinearity(op: Op, name: str, x: str) -> str:
    """A nonlinearity by name."""
    if name == "quant_tanh":
        return op.Clip(x, op.constant("low", np.float32(-1)), op.constant("high", np.float32(1)))
    operator, attributes = OPERATORS[name]
    return op.__getattr__(operator)(x, **attributes)


class Piece(NamedTuple):
    """A block of H columns of ``x W + h U + b``, times a factor."""

    columns: int
    bias: int
    factor: float = 1.0


class Writer(Generic[Value]):
    """Writes the step of one cell by running its equation.

    Args:
        cell: the weights.
        prefix: what all names begin with.
        int8: how weights are stored; None = float32.
    """

    def __init__(self, cell: Cell, prefix: str = "", int8: Int8 | None = None) -> None:
        self.cell, self.prefix, self.int8 = cell, prefix, int8
        self.hidden = cell.hidden_size
        self.constants: dict[str, onnx.TensorProto] = {}
        self.shared, self.project, self.op = (Op(prefix + letter, self.constants) for letter in "spv")
        self.u = named_factors(f"{prefix}U", cell.u)
        self.observed: dict[str, str] = {}  # what calibration looks at: key -> name of a float tensor
        self._driven: list[Port] = []
        self._projection: str | None = None
        self._made: dict[tuple[str, ...], str] = {}

    def step(self) -> Step:
        """The whole step."""
        names = STATES.get(self.cell.kind, ("h",))
        states = tuple(self.state_port(name) for name in names)
        following = EQUATIONS[self.cell.kind](self, self.cell, tuple(map(self.state, states)))  # type: ignore[arg-type]
        outputs = tuple(self.output(value, port) for value, port in zip(following, states, strict=True))
        return Step(
            f"{self.cell.kind.title().replace('_', '')}Step{self.prefix.strip('_')}",
            self.cell.input_size, f"{self.prefix}x", self.shared.nodes, self.project.nodes, self.op.nodes,
            self.constants, tuple(self._driven), states, outputs,
        )  # fmt: skip

    def state_port(self, name: str) -> Port:
        """How a part of the state is kept."""
        return Port(f"{self.prefix}{name}", self.hidden)

    def state(self, port: Port) -> Value:
        """A part of the state as a value."""
        raise NotImplementedError

    def output(self, value: Value, port: Port) -> str:
        """The next state, in the form of ``port``."""
        raise NotImplementedError

    def named(self, *key: str) -> str | None:
        """What was made under this key before."""
        return self._made.get(key)

    def keep(self, name: str, *key: str) -> str:
        """Remember what was made under a key."""
        self._made[key] = name
        return name

    def weight(self, name: str, factor: Floats) -> str:
        """A matrix in float32: as it is stored, or behind a DequantizeLinear that runs once."""
        if self.int8 is None:
            return self.shared.constant(name, factor)
        return self.named(name) or self.keep(self.int8.weight(self.shared, name, factor), name)

    def matmul(self, op: Op, a: str, b: str, c: str | None = None) -> str:
        """``a @ b + c``.

        A product of stored int8 weights is always a Gemm with three operands: of others behind DequantizeLinear
        onnxruntime makes a MatMulNBits, which rounds ``a`` to 8 bits as well.
        """
        if self.int8 is None and c is None:
            return op.MatMul(a, b)
        return op.Gemm(a, b, op.constant("no_bias", np.zeros(1, np.float32)) if c is None else c)

    def request(self, pieces: Sequence[Piece]) -> str:
        """``x W + b`` of these pieces, side by side [N, k H] in float32; computed outside of the recurrence."""
        op, cell = self.project, self.cell
        if self._projection is None:
            *first, last = named_factors(f"{self.prefix}W", cell.w).items()
            self._projection = f"{self.prefix}x"
            for name, factor in first:
                self._projection = self.matmul(op, self._projection, self.weight(name, factor))
            self._last_w = self.weight(*last)
        bias = np.concatenate([np.float32(p.factor) * cell.biases[p.bias] for p in pieces])
        # [1, n]: with a bias of [n] onnxruntime makes MatMulNBits of a Gemm after all.
        stored = op.constant(f"{self.prefix}b{len(self._driven)}", bias[np.newaxis])
        blocks = cell.w[-1].shape[1] // self.hidden
        weight = self.columns(self.shared, self._last_w, [(p.columns, p.factor) for p in pieces], blocks)
        return op.Gemm(self._projection, weight, stored)

    def drive(self, port: Port) -> str:
        """Tell the step that ``recur`` reads this."""
        self._driven.append(port)
        return port.name

    def columns(self, op: Op, matrix: str, wanted: Sequence[tuple[int, float]], blocks: int) -> str:
        """Blocks of H columns of a matrix, each times a factor; the matrix itself where that is what is wanted."""
        if list(wanted) == [(i, 1.0) for i in range(blocks)]:
            return matrix
        key = (matrix, repr(list(wanted)))
        if made := self.named(*key):
            return made
        parts = []
        for block, factor in wanted:
            part = matrix if blocks == 1 else self._slice(op, matrix, block)
            parts.append(part if factor == 1 else op.Mul(part, op.constant(f"times_{factor:g}", np.float32(factor))))
        return self.keep(parts[0] if len(parts) == 1 else op.Concat(*parts, axis=1), *key)

    def _slice(self, op: Op, matrix: str, block: int) -> str:
        ends = [op.constant(f"column_{end * self.hidden}", np.array([end * self.hidden])) for end in (block, block + 1)]
        return op.Slice(matrix, *ends, op.constant("axis_1", np.array([1])))
