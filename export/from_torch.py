"""From torch modules to arrays: fastzoo's own classifiers, and plain torch recurrences with a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from fastzoo.errors import ExportError
from fastzoo.export.network import Cell, Floats, Network
from fastzoo.nn import SequenceClassifier


def from_torch(net: SequenceClassifier, steps: int) -> Network:
    """The arrays of a torch classifier for windows of ``steps`` steps.

    Raises:
        ExportError: a nonlinearity has no name, a weight is not finite, or the windows are too short or no whole number
            of bricks.
    """
    if steps % net.brick == 0 and steps // net.brick < net.pool:
        raise ExportError(f"windows of {steps} steps are shorter than the {net.pool} states the head pools over")
    if fault := net.misfit(steps):
        raise ExportError(fault)
    bad = [name for name, value in net.state_dict().items() if not value.isfinite().all()]
    if bad:
        raise ExportError(f"the network has NaN or infinite weights in {', '.join(bad)}; train it again")
    return Network(
        array(net.mean),
        array(net.std),
        tuple(_cell(cell) for cell in net.rnn.cells),
        array(net.head.weight.T),
        array(net.head.bias),
        net.pool,
        steps,
        net.rnn.directions,
        net.brick,
    )


def array(tensor: Tensor) -> Floats:
    """A tensor's values, on the CPU in float32."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def _cell(cell: Any) -> Cell:
    """The arrays of one of ``fastzoo.nn``'s cells."""
    of: dict[str, object] = {"gate": getattr(cell, "gate_nonlinearity", None), "update": cell.update_nonlinearity}
    if any(callable(name) for name in of.values()):
        raise ExportError("a nonlinearity that is a Python function cannot be exported; use one by name")
    kind: str = cell.kind
    biases = {"fastgrnn": ("bias_gate", "bias_update"), "fastrnn": ("bias_update",)}.get(kind, ("bias",))
    scalars = {"fastgrnn": ("zeta", "nu"), "fastrnn": ("alpha", "beta")}.get(kind, ())
    return Cell(
        kind,
        tuple(map(array, cell.w)),
        tuple(map(array, cell.u)),
        np.concatenate([array(getattr(cell, name)) for name in biases]),
        str(of["gate"] or "sigmoid"),
        str(of["update"]),
        {name: float(getattr(cell, name).detach()) for name in scalars},
    )
