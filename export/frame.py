"""What every layout has around the recurrence: normalisation before it, pooling and the linear head after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from fastzoo.export.graph import Op
from fastzoo.export.network import Network
from fastzoo.export.step import Port, Step
from fastzoo.export.weights import Int8

DOMAIN = "fastzoo"  # of local functions; no file needs it once they are inlined


def centre(op: Op, network: Network, x: str) -> str:
    """x - mean per channel: users feed raw units."""
    return op.Sub(x, op.constant("mean", network.mean))


def normalise(op: Op, network: Network, x: str) -> str:
    """(x - mean) / std per channel."""
    return op.Div(centre(op, network, x), op.constant("std", network.std))


def bricks(op: Op, network: Network, x: str) -> str:
    """Samples [N, T, D] as what the steps read, [N, T / brick, brick D]."""
    if network.brick == 1:
        return x
    return op.Reshape(x, op.constant("bricks", np.array([0, -1, network.brick * network.input_size])))


def head(op: Op, network: Network, pooled: str, int8: Int8 | None) -> None:
    """Pooled states [N, directions H] -> ``logits`` [N, C]."""
    weight = int8.weight(op, "head", network.head_weight) if int8 else op.constant("head", network.head_weight)
    op.Gemm(pooled, weight, op.constant("head_bias", network.head_bias[np.newaxis]), output="logits")


def include(op: Op, step: Step) -> None:
    """Bring a step's constants, and what it computes from them alone, into the graph around it."""
    for name, tensor in step.constants.items():
        op.constants[name] = tensor
    op.nodes += step.shared


def project(op: Op, step: Step, rows: str) -> list[str]:
    """What the recurrence reads of x: ``rows`` [M, D] -> each [M, K]."""
    op.nodes += renamed(step.project, {step.x: rows})
    return [port.name for port in step.driven]


def zero_state(op: Op, port: Port, batch: str) -> str:
    """The state before the first step, [N, H]; ``batch`` is N, [1]."""
    shape = op.Concat(batch, op.constant(f"size_{port.size}", np.array([port.size])), axis=0)
    if port.levels is None:
        return op.ConstantOfShape(shape)
    return op.Expand(op.constant(f"{port.name}_initial", port.zero), shape)


def renamed(nodes: Sequence[onnx.NodeProto], names: dict[str, str]) -> list[onnx.NodeProto]:
    """Copies of nodes that read and write other names."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        copies.append(copy)
    return copies
