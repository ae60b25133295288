"""The step is the atom: one time step of a cell as a graph, built from its weights.

A step has three parts, so that a layout can run each as rarely as it may: ``shared`` depends on the weights alone,
``project`` on x alone (a layout computes it for all steps at once), ``recur`` on the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from fastzoo.export.graph import FLOAT, IR_VERSION, OPSET, Op


class Levels(NamedTuple):
    """The 256 values that a byte can mean: ``scale`` times 0 - ``zero`` .. 255 - ``zero``."""

    scale: float  # a float32
    zero: int

    @classmethod
    def spanning(cls, low: float, high: float) -> Levels:
        """From ``low`` to ``high``, and 0, as ``quantize_static`` computes it."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255
        if scale < np.finfo(np.float32).tiny:
            return cls(1.0, 0)
        return cls(float(np.float32(scale)), round(-low / scale))


class Port(NamedTuple):
    """A tensor between two parts of a step, [N, size]: bytes where it has ``levels``, else float32."""

    name: str
    size: int
    levels: Levels | None = None

    @property
    def dtype(self) -> int:
        """ONNX's name for its type."""
        return int(TensorProto.FLOAT if self.levels is None else TensorProto.UINT8)

    @property
    def zero(self) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """What zero is in it, [1]."""
        return np.zeros(1, np.float32) if self.levels is None else np.full(1, self.levels.zero, np.uint8)

    def read(self, op: Op, name: str) -> str:
        """The float32 values of a tensor of this kind."""
        if self.levels is None:
            return name
        return op.DequantizeLinear(name, *constants_of(op, self.name, self.levels))

    def write(self, op: Op, name: str) -> str:
        """Float32 values as a tensor of this kind."""
        if self.levels is None:
            return name
        return op.QuantizeLinear(name, *constants_of(op, self.name, self.levels))


def constants_of(op: Op, name: str, levels: Levels) -> tuple[str, str]:
    """Scale and zero point of a tensor as constants; short names, for ``unrolled`` repeats them T times."""
    return (
        op.constant(f"{name}_scale", np.float32(levels.scale)),
        op.constant(f"z{levels.zero}", np.uint8(levels.zero)),
    )


@dataclass(frozen=True)
class Step:
    """One step of one cell: ``x [N, D]`` (normalised) and states in, the next states out."""

    name: str
    input_size: int
    x: str
    shared: list[onnx.NodeProto]
    project: list[onnx.NodeProto]
    recur: list[onnx.NodeProto]
    constants: dict[str, onnx.TensorProto]
    driven: tuple[Port, ...]  # what ``recur`` reads of x
    states: tuple[Port, ...]  # h first
    following: tuple[str, ...]  # the names of the next states

    def model(self, watched: Sequence[str] = ()) -> onnx.ModelProto:
        """The step alone, all in float32 or bytes as it is inside, and more of its tensors as outputs."""
        values = [(self.x, FLOAT, self.input_size), *((s.name, s.dtype, s.size) for s in self.states)]
        inputs = [helper.make_tensor_value_info(name, dtype, ["N", size]) for name, dtype, size in values]
        outputs = [
            helper.make_tensor_value_info(name, s.dtype, ["N", s.size])
            for name, s in zip(self.following, self.states, strict=True)
        ]
        seen = {*self.following, *(value.name for value in inputs)}
        more = [helper.make_tensor_value_info(name, FLOAT, None) for name in watched if name not in seen]
        nodes = [*self.shared, *self.project, *self.recur]
        graph = helper.make_graph(nodes, self.name, inputs, [*outputs, *more], list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="fastzoo")
