"""The layout ``unrolled``: one local function per cell, called T times; what depends on x alone runs once for all T.

Knows nothing of cells: it takes any step, in float32 or in integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from fastzoo.export.frame import DOMAIN, bricks, head, include, normalise, project, zero_state
from fastzoo.export.graph import OPSET, Op
from fastzoo.export.network import Network
from fastzoo.export.step import Step
from fastzoo.export.weights import Int8


def unrolled(
    network: Network, steps: Sequence[Step], int8: Int8 | None = None, inline: bool = False
) -> onnx.ModelProto:
    """Unroll steps over the window.

    Args:
        network: normalisation, pooling and head around the steps.
        steps: the step of each cell.
        int8: how the head's weights are stored; None = float32.
        inline: write the flat graph, for compilers without local functions.

    Returns:
        A model ``x [N, T, D]`` (raw units) -> ``logits [N, C]``.
    """
    op = Op("n")
    x = op.Transpose(bricks(op, network, normalise(op, network, "x")), perm=[1, 0, 2])  # [T, N, D]
    rows = op.Reshape(x, op.constant("rows", np.array([-1, network.brick * network.input_size])))  # [T N, D]
    batch = op.Slice(op.Shape("x"), op.constant("0", np.array([0])), op.constant("1", np.array([1])))
    functions, ways = [], network.directions
    for layer in range(len(network.layers)):
        of_layer = steps[layer * ways : (layer + 1) * ways]
        of_steps = [_function(step) for step in of_layer]
        states = [
            _states(op, step, function, rows, batch, network.count, way)
            for way, (step, function) in enumerate(zip(of_layer, of_steps, strict=True))
        ]
        functions += of_steps
        if layer == len(network.layers) - 1:
            reached = [_pooled(op, step, h[-network.pool :]) for step, h in zip(of_layer, states, strict=True)]
            head(op, network, _joined(op, reached), int8)
        else:
            in_time = [h[::-1] if way else h for way, h in enumerate(states)]
            rows = _joined(op, [_rows(op, step, h) for step, h in zip(of_layer, in_time, strict=True)])
    model = op.model(
        "unrolled",
        {"x": ["N", network.steps, network.input_size]},
        {"logits": ["N", network.num_classes]},
        functions,
    )
    return flat(model) if inline else model


def _states(
    op: Op, step: Step, function: onnx.FunctionProto, rows: str, batch: str, count: int, backwards: int
) -> list[str]:
    """The outputs of all steps, in the order in which they run, as the step keeps them."""
    include(op, step)
    parts = []
    for name in project(op, step, rows):
        outputs = [f"{name}_{t}" for t in range(count)]
        op.nodes.append(helper.make_node("Split", [name], outputs, axis=0))  # T times [N, K]
        parts.append(outputs[::-1] if backwards else outputs)
    shared = list(function.input)[len(step.driven) + len(step.states) :]
    state = [zero_state(op, port, batch) for port in step.states]
    states = []
    for t, driven in enumerate(zip(*parts, strict=True), start=1):
        following = [f"{port.name}{t}" for port in step.states]
        op.nodes.append(helper.make_node(function.name, [*driven, *state, *shared], following, domain=DOMAIN))
        state = following
        states.append(state[0])
    return states


def _rows(op: Op, step: Step, states: Sequence[str]) -> str:
    """States one after the other, [K N, H] in float32."""
    joined = states[0] if len(states) == 1 else op.Concat(*states, axis=0)
    return step.states[0].read(op, joined)


def _pooled(op: Op, step: Step, states: Sequence[str]) -> str:
    """The mean of the last states, [N, H]."""
    rows = _rows(op, step, states)
    if len(states) == 1:
        return rows
    shape = op.constant(f"pool_{step.states[0].size}", np.array([len(states), -1, step.states[0].size]))
    return op.ReduceMean(op.Reshape(rows, shape), axes=[0], keepdims=0)


def _joined(op: Op, parts: Sequence[str]) -> str:
    """Both directions side by side."""
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=-1)


def flat(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without local functions, and without a trace of their domain."""
    inlined = onnx.inliner.inline_local_functions(model)
    kept = [entry for entry in inlined.opset_import if entry.domain != DOMAIN]
    del inlined.opset_import[:]
    inlined.opset_import.extend(kept)
    return inlined


def _function(step: Step) -> onnx.FunctionProto:
    """The recurrent part as a local function (what is read of x, states, constants) -> next states.

    Constants are arguments, so that all T calls share one copy of the weights.
    """
    own = {port.name for port in (*step.driven, *step.states)}
    made = {name for node in step.recur for name in node.output}
    outside = dict.fromkeys(name for node in step.recur for name in node.input if name not in own | made)
    inputs = [port.name for port in (*step.driven, *step.states)]
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_function(DOMAIN, step.name, [*inputs, *outside], list(step.following), step.recur, opset)
