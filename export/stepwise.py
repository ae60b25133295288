"""The layout ``step``: one sample at a time, for streams and microcontrollers.

Knows nothing of cells: it takes any step, in float32 or in integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from fastzoo.export.frame import head, include, normalise, project, renamed
from fastzoo.export.graph import Op
from fastzoo.export.network import Network
from fastzoo.export.step import Step
from fastzoo.export.weights import Int8


def state_size(network: Network) -> int:
    """S, the numbers that go from one step to the next."""
    return sum(cell.hidden_size * (2 if cell.kind == "lstm" else 1) for cell in network.cells)


def stepwise(network: Network, steps: Sequence[Step], int8: Int8 | None = None) -> onnx.ModelProto:
    """One step of all layers.

    Args:
        network: normalisation and head around the steps; one direction.
        steps: the step of each cell.
        int8: how the head's weights are stored; None = float32.

    Returns:
        A model ``x [N, D]`` (raw units), ``state [N, S]`` -> ``logits [N, C]``, ``state_next [N, S]``, all float32; the
        state before the first step is zero. The head is linear, so the logits of a window are the mean of the logits of
        its last ``pool`` steps.
    """
    op = Op("n")
    rows = normalise(op, network, "x")
    ports = [port for step in steps for port in step.states]
    parts = iter(op.split("state", [port.size for port in ports]))
    following = []
    for step in steps:
        include(op, step)
        project(op, step, rows)
        names = {port.name: port.write(op, next(parts)) for port in step.states}
        op.nodes += renamed(step.recur, names)
        floats = [port.read(op, name) for name, port in zip(step.following, step.states, strict=True)]
        rows = floats[0]
        following += floats
    head(op, network, rows, int8)
    if len(following) == 1:
        op.Identity(following[0], output="state_next")
    else:
        op.Concat(*following, axis=-1, output="state_next")
    sizes = {"x": ["N", network.input_size], "state": ["N", sum(port.size for port in ports)]}
    return op.model(
        "step", sizes, {"logits": ["N", network.num_classes], "state_next": ["N", sum(port.size for port in ports)]}
    )
