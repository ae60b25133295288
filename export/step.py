"""The step is the atom: one time step of a cell as an ONNX graph, built from its weights.

``x [N, D]`` (normalised) and the state ``h [N, H]`` in, the next state ``h_next [N, H]`` out. Whatever depends on
``x`` alone comes first, so that a layout can run it for all steps at once.
"""

from __future__ import annotations

import onnx

from fastzoo.export.graph import Op
from fastzoo.export.network import Cell, Floats, named_factors


def fastgrnn_step(cell: Cell) -> onnx.ModelProto:
    """One step of FastGRNN (Kusupati et al., NeurIPS 2018, equation 6).

    ::

        z = gate(x W + h U + b_z);  c = update(x W + h U + b_h);  h' = (zeta (1 - z) + nu) c + z h
    """
    op = Op("v")
    driven = op.Add(product(op, "x", "W", cell.w), op.constant("b_h", cell.bias_update))
    pre = op.Add(driven, product(op, "h", "U", cell.u))  # x W + h U + b_h
    z = nonlinearity(op, cell.gate_nonlinearity, op.Add(pre, op.constant("b_z-b_h", cell.bias_gate - cell.bias_update)))
    c = nonlinearity(op, cell.update_nonlinearity, pre)
    if (cell.zeta, cell.nu) == (1.0, 0.0):
        op.Add(c, op.Mul(z, op.Sub("h", c)), output="h_next")  # (1 - z) c + z h
    else:
        share = op.Add(op.Mul(z, op.constant("-zeta", -cell.zeta)), op.constant("zeta+nu", cell.zeta + cell.nu))
        op.Add(op.Mul(share, c), op.Mul(z, "h"), output="h_next")
    return op.model(
        "FastGRNNStep",
        {"x": ["N", cell.input_size], "h": ["N", cell.hidden_size]},
        {"h_next": ["N", cell.hidden_size]},
    )


def product(op: Op, x: str, name: str, factors: tuple[Floats, ...]) -> str:
    """``x`` times a matrix given by its factors, which stay factors: ``x @ W`` or ``x @ W1 @ W2``."""
    for key, factor in named_factors(name, factors).items():
        x = op.MatMul(x, op.constant(key, factor))
    return x


def nonlinearity(op: Op, name: str, x: str) -> str:
    """A nonlinearity of ``fastzoo.nn.NONLINEARITIES`` as one standard operator."""
    if name == "quant_tanh":
        return op.Clip(x, op.constant("low", -1.0), op.constant("high", 1.0))
    operator, attributes = OPERATORS[name]
    return op.__getattr__(operator)(x, **attributes)


OPERATORS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "quant_sigmoid": ("HardSigmoid", {"alpha": 0.5, "beta": 0.5}),
    "quant_sigmoid4": ("HardSigmoid", {"alpha": 0.25, "beta": 0.5}),
}
