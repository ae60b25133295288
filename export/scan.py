"""The layout ``scan``: the step as the body of ONNX's Scan, for windows of any length.

Knows nothing of cells: it takes any step, in float32 or in integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from fastzoo.export.frame import bricks, head, include, normalise, project, zero_state
from fastzoo.export.graph import Op
from fastzoo.export.network import Network
from fastzoo.export.step import Step
from fastzoo.export.weights import Int8


def scan(network: Network, steps: Sequence[Step], int8: Int8 | None = None) -> onnx.ModelProto:
    """Loop steps over windows.

    Args:
        network: normalisation, pooling and head around the steps.
        steps: the step of each cell.
        int8: how the head's weights are stored; None = float32.

    Returns:
        A model ``x [N, T, D]`` (raw units, any T that is a whole number of bricks) -> ``logits [N, C]``; of windows
        that are shorter than the pooled states, all states are pooled.
    """
    op = Op("n")
    x = op.Transpose(bricks(op, network, normalise(op, network, "x")), perm=[1, 0, 2])  # [T, N, D]
    ends = [op.constant(str(i), np.array([i])) for i in range(3)]
    shape = op.Shape(x)
    time_batch, batch = op.Slice(shape, ends[0], ends[2]), op.Slice(shape, ends[1], ends[2])
    ways = network.directions
    for layer in range(len(network.layers)):
        rows = op.Reshape(x, op.constant(f"rows_{layer}", np.array([-1, steps[layer * ways].input_size])))  # [T N, D]
        of_layer = steps[layer * ways : (layer + 1) * ways]
        states = [_states(op, step, rows, time_batch, batch, bool(way)) for way, step in enumerate(of_layer)]
        if layer == len(network.layers) - 1:
            reached = [_pooled(op, network.pool, h) for h in states]
            head(op, network, reached[0] if ways == 1 else op.Concat(*reached, axis=-1), int8)
        else:
            in_time = [_reversed(op, h) if way else h for way, h in enumerate(states)]
            x = in_time[0] if ways == 1 else op.Concat(*in_time, axis=-1)  # [T, N, directions H]
    return op.model("scan", {"x": ["N", "T", network.input_size]}, {"logits": ["N", network.num_classes]})


def _states(op: Op, step: Step, rows: str, time_batch: str, batch: str, backwards: bool) -> str:
    """All states [T, N, H] in the order in which they are reached, in float32."""
    include(op, step)
    sequences = []
    for name, port in zip(project(op, step, rows), step.driven, strict=True):
        size = op.constant(f"size_{port.size}", np.array([port.size]))
        sequence = op.Reshape(name, op.Concat(time_batch, size, axis=0))  # [T, N, K]
        sequences.append(_reversed(op, sequence) if backwards else sequence)
    initial = [zero_state(op, port, batch) for port in step.states]
    last = [op.name() for _ in step.states]
    states = op.name()
    op.nodes.append(
        helper.make_node(
            "Scan",
            [*initial, *sequences],
            [*last, states],
            name=states,
            body=_body(step),
            num_scan_inputs=len(sequences),
        )
    )
    return step.states[0].read(op, states)


def _body(step: Step) -> onnx.GraphProto:
    """States and what is read of x -> next states and the output; constants are the outer graph's."""
    ports = (*step.states, *step.driven)
    h = step.states[0]
    kept = helper.make_node("Identity", [step.following[0]], [f"{h.name}_kept"])
    values = [helper.make_tensor_value_info(port.name, port.dtype, ["N", port.size]) for port in ports]
    outputs = [
        helper.make_tensor_value_info(name, port.dtype, ["N", port.size])
        for name, port in zip((*step.following, f"{h.name}_kept"), (*step.states, h), strict=True)
    ]
    return helper.make_graph([*step.recur, kept], step.name, values, outputs)


def _pooled(op: Op, pool: int, states: str) -> str:
    """The mean over the states that were reached last [N, H]."""
    ends = op.constant("from_pool", np.array([-pool])), op.constant("last", np.array([np.iinfo(np.int64).max]))
    return op.ReduceMean(op.Slice(states, *ends), axes=[0], keepdims=0)


def _reversed(op: Op, sequence: str) -> str:
    """[T, ..] from the end; Scan's own directions are beyond some runtimes, onnx's reference evaluator among them."""
    minus = op.constant("minus_1", np.array([-1]))
    first = op.constant("first", np.array([np.iinfo(np.int64).min]))
    return op.Slice(sequence, minus, first, op.constant("0", np.array([0])), minus)
