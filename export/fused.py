"""The layout ``fused``: the whole recurrence as ONE standard recurrent operator.

With nu = 0 and the state divided by zeta (:meth:`Network.unit_zeta`), FastGRNN is::

    z = gate(x W + g U + b_z);  c = update(x W + g U + b_h);  g' = (1 - z) c + z g

which is ONNX's GRU with W and U tied between update gate and candidate and a reset gate that is always 1: no weights,
and a bias that saturates its nonlinearity. (With such a gate, ``linear_before_reset`` makes no difference to the
result; 0 is the form that onnxruntime runs faster.) The scale of the normalisation is part of W.
"""

from __future__ import annotations

import numpy as np
import onnx

from fastzoo.errors import ExportError
from fastzoo.export.frame import centre, head, int8_weight
from fastzoo.export.graph import Op
from fastzoo.export.network import Cell, Floats, Network, named_factors
from fastzoo.export.step import OPERATORS

# At this pre-activation the reset gate is exactly 1 in fp32.
SATURATED = {"sigmoid": 40.0, "quant_sigmoid": 40.0, "quant_sigmoid4": 40.0, "tanh": 40.0, "relu": 1.0}


def obstacle(cell: Cell) -> str | None:
    """Why this cell cannot be one GRU; None where it can."""
    if cell.nu != 0:
        return f"nu = {cell.nu:.3g}, and only FastGRNN with nu = 0 is a GRU (train with nu=0)"
    for name in (cell.gate_nonlinearity, cell.update_nonlinearity):
        if name not in SATURATED:
            return f"ONNX's GRU has no activation {name}"
    return None


def fused(network: Network, int8: bool = False) -> onnx.ModelProto:
    """Lower the network onto one GRU.

    Args:
        network: any with nu = 0.
        int8: store the factors and the head in int8 behind DequantizeLinear; their products are computed once, when
            the file is loaded.

    Returns:
        A model ``x [N, T, D]`` (raw units) -> ``logits [N, C]``.

    Raises:
        ExportError: the cell is not a GRU.
    """
    network = network.unit_zeta()
    cell = network.cell
    if reason := obstacle(cell):
        raise ExportError(f"the layout 'fused' does not exist for this model: {reason}. The layout 'unrolled' does.")
    hidden = cell.hidden_size
    op = Op("v")
    x = op.Transpose(centre(op, network, "x"), perm=[1, 0, 2])  # [T, N, D]
    w = op.Div(_matrix(op, "W", cell.w, int8), op.constant("std", network.std[:, np.newaxis]))
    u = _matrix(op, "U", cell.u, int8)
    no_bias = np.zeros(hidden, np.float32)
    reset = np.full(hidden, SATURATED[cell.gate_nonlinearity], np.float32)
    bias = np.concatenate([cell.bias_gate, reset, cell.bias_update, no_bias, no_bias, no_bias])
    states = op.GRU(
        x,
        _tied(op, w, op.constant("D_H", np.array([cell.input_size, hidden]))),
        _tied(op, u, op.constant("H_H", np.array([hidden, hidden]))),
        op.constant("bias", bias[np.newaxis]),
        hidden_size=hidden,
        linear_before_reset=0,
        **_activations(cell),
    )  # [T, 1, N, H]
    last = op.Slice(
        states, op.constant("-pool", np.array([-network.pool])), op.constant("T", np.array([network.steps]))
    )
    head(op, network, op.ReduceMean(last, axes=[0, 1], keepdims=0), int8)
    return op.model("fused", {"x": ["N", network.steps, cell.input_size]}, {"logits": ["N", network.num_classes]})


def _matrix(op: Op, name: str, factors: tuple[Floats, ...], int8: bool) -> str:
    """The product of the factors, which are what is stored."""
    store = int8_weight if int8 else Op.constant
    matrices = [store(op, key, factor) for key, factor in named_factors(name, factors).items()]
    return matrices[0] if len(matrices) == 1 else op.MatMul(*matrices)


def _tied(op: Op, matrix: str, shape: str) -> str:
    """[1, 3 H, n] from [n, H]: the matrix for update gate and candidate, zeros for the reset gate."""
    gates = op.Concat(matrix, op.ConstantOfShape(shape), matrix, axis=1)  # [n, 3 H]
    return op.Unsqueeze(op.Transpose(gates, perm=[1, 0]), op.constant("0", np.array([0])))


def _activations(cell: Cell) -> dict[str, list[str] | list[float]]:
    """The GRU attributes for gates (update, reset) and candidate."""
    (gate, gate_parameters), (update, update_parameters) = (
        OPERATORS[name] for name in (cell.gate_nonlinearity, cell.update_nonlinearity)
    )
    attributes: dict[str, list[str] | list[float]] = {"activations": [gate, update]}
    for key in ("alpha", "beta"):
        values = [p[key] for p in (gate_parameters, update_parameters) if key in p]
        if values:
            attributes[f"activation_{key}"] = values
    return attributes
