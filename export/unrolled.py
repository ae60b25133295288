"""The layout ``unrolled``: one local function per step, called T times; what depends on x alone runs once for all T.

Knows nothing of cells: it takes any step graph ``(x, h) -> h_next``, quantized or not.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from fastzoo.export.frame import head, normalise
from fastzoo.export.graph import OPSET, Op
from fastzoo.export.network import Network

DOMAIN = "fastzoo"


def unrolled(network: Network, step: onnx.ModelProto, inline: bool = False, int8_head: bool = False) -> onnx.ModelProto:
    """Unroll a step over the window.

    Args:
        network: normalisation, pooling and head around the step.
        step: the step graph, fp32 or QDQ.
        inline: write the flat graph, for compilers without local functions.
        int8_head: keep the head's weights in int8 behind DequantizeLinear.

    Returns:
        A model ``x [N, T, D]`` (raw units) -> ``logits [N, C]``.
    """
    hoisted, recurrent = split_step(step)
    steps, hidden = network.steps, network.cell.hidden_size
    op = Op("n")  # the step's own names begin with v
    for tensor in step.graph.initializer:
        op.constants[tensor.name] = tensor
    x = op.Transpose(normalise(op, network, "x"), perm=[1, 0, 2])  # [T, N, D]
    rows = op.Reshape(x, op.constant("rows", np.array([-1, network.cell.input_size])))  # [T N, D]

    rename = {"x": rows}
    for node in hoisted:
        node = _renamed(node, rename)
        op.nodes.append(node)
    boundary = _boundary(hoisted, recurrent)
    parts = []
    for name in boundary:
        outputs = [f"{name}_{t}" for t in range(steps)]
        op.nodes.append(helper.make_node("Split", [name], outputs, axis=0))  # T times [N, H]
        parts.append(outputs)

    function = _function(step, recurrent, boundary)
    shared = list(function.input)[len(boundary) + 1 :]
    batch = op.Slice(op.Shape("x"), op.constant("0", np.array([0])), op.constant("1", np.array([1])))
    shape = op.Concat(batch, op.constant("H", np.array([hidden])), axis=0)
    h = op.ConstantOfShape(shape)  # [N, H] of zeros
    states = []
    for t, driven in enumerate(zip(*parts, strict=True), start=1):
        op.nodes.append(helper.make_node(function.name, [*driven, h, *shared], [f"h{t}"], domain=DOMAIN))
        h = f"h{t}"
        states.append(h)
    pooled = states[-network.pool :]
    head(op, network, op.Mean(*pooled) if len(pooled) > 1 else pooled[0], int8_head)
    model = op.model(
        "unrolled",
        {"x": ["N", steps, network.cell.input_size]},
        {"logits": ["N", network.num_classes]},
        [function],
    )
    return flat(model) if inline else model


def flat(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without local functions, and without a trace of their domain."""
    inlined = onnx.inliner.inline_local_functions(model)
    kept = [entry for entry in inlined.opset_import if entry.domain != DOMAIN]
    del inlined.opset_import[:]
    inlined.opset_import.extend(kept)
    return inlined


def split_step(step: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes of a step that depend on x alone (and the constants they read), and those that the state reaches."""
    of_x, of_h = {"x"}, {"h"}
    for node in step.graph.node:
        if of_h.intersection(node.input):
            of_h.update(node.output)
        elif of_x.intersection(node.input):
            of_x.update(node.output)
    hoisted = [node for node in step.graph.node if of_x.intersection(node.output)]
    recurrent = [node for node in step.graph.node if of_h.intersection(node.output)]
    # Nodes on constants alone (a weight's DequantizeLinear) stay beside their reader, where the runtime fuses them.
    free = [node for node in step.graph.node if not (of_x | of_h).intersection(node.output)]
    return _with_producers(hoisted, free), _with_producers(recurrent, free)


def _with_producers(nodes: list[onnx.NodeProto], free: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    read = {name for node in nodes for name in node.input}
    producers = [node for node in free if read.intersection(node.output)]
    return [*producers, *nodes]


def _boundary(hoisted: list[onnx.NodeProto], recurrent: list[onnx.NodeProto]) -> list[str]:
    """Values of the hoisted part that the recurrent part reads."""
    made_inside = {name for node in recurrent for name in node.output}
    made_before = {name for node in hoisted for name in node.output} - made_inside
    return list(dict.fromkeys(name for node in recurrent for name in node.input if name in made_before))


def _function(step: onnx.ModelProto, nodes: list[onnx.NodeProto], boundary: list[str]) -> onnx.FunctionProto:
    """The recurrent part as a local function (boundary values, h, constants) -> h_next.

    Constants are arguments, so that all T calls share one copy of the weights.
    """
    constants = {tensor.name for tensor in step.graph.initializer}
    shared = dict.fromkeys(name for node in nodes for name in node.input if name in constants)
    return helper.make_function(
        DOMAIN,
        step.graph.name,
        [*boundary, "h", *shared],
        ["h_next"],
        nodes,
        [helper.make_opsetid("", OPSET)],
    )


def _renamed(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    return copy
