"""Each cell as ONE standard GRU or LSTM, exactly: what its gates are, and how h is read from its state.

ONNX's operators are::

    GRU:   z, r = f(..), f(..);  c = g(x W_c + (r s) R_c + b_c);  s' = (1 - z) c + z s
    LSTM:  i, o, f = f(..), f(..), f(..);  c = g(..);  s' = f s + i c;  y = o h(s')

A gate that is constant has no weights and a bias that says which constant. ``docs/recurrent_int8.md`` proves the
identities below; they assume :meth:`fastzoo.export.network.Network.unit_scale`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fastzoo.export.cells import POINT_SYMMETRIC
from fastzoo.export.network import Cell, Floats
from fastzoo.export.writer import OPERATORS

# Sigmoid of this is exactly 1 in fp32, as is HardSigmoid; of its negative 4e-18.
SATURATED = 40.0
HALF = OPERATORS["quant_sigmoid"]  # quant_tanh(a) = 2 HardSigmoid(a) - 1, with alpha = beta = 1/2
IDENTITY = ("Affine", {"alpha": 1.0, "beta": 0.0})


class Gate(NamedTuple):
    """``sign (x W + h U)`` of one block of columns, plus a bias; no block: the bias alone."""

    block: int | None
    bias: Floats | float
    sign: float = 1.0


@dataclass(frozen=True)
class Lowered:
    """One operator over a state of ``parts`` times H, from which ``h = sum_k read[k] part_k + offset``.

    ``gates`` has for each gate, in ONNX's order, a :class:`Gate` for each part.
    """

    operator: str
    gates: tuple[tuple[Gate, ...], ...]
    activations: tuple[tuple[str, dict[str, float]], ...]
    read: tuple[float, ...] = (1.0,)
    offset: float = 0.0
    start: tuple[float, ...] = (0.0,)  # each part before the first step
    linear_before_reset: int = 0
    recurrent_bias: Floats | None = None  # of the candidate, inside what the reset gate scales


def lower(cell: Cell) -> Lowered:
    """The operator for a cell.

    Raises:
        KeyError, ValueError: :func:`obstacle` says why there is none.
    """
    if reason := obstacle(cell):
        raise ValueError(reason)
    return LOWERINGS[cell.kind](cell)


def obstacle(cell: Cell) -> str | None:
    """Why this cell is no GRU or LSTM operator; None where it is one."""
    if cell.kind in ("gru", "torch_gru", "lstm") and cell.update == "quant_tanh":
        return f"ONNX has no activation quant_tanh, and in a {cell.kind} no shift of the state makes one of HardSigmoid"
    if cell.kind == "fastgrnn" and cell.scalars["nu"] != 0 and cell.gate not in POINT_SYMMETRIC:
        return f"nu = {cell.scalars['nu']:.3g} needs 1 - gate(a) = gate(-a), which {cell.gate} does not satisfy"
    if cell.gate == "quant_tanh":
        return "ONNX has no activation quant_tanh for gates"
    return None


def _fastrnn(cell: Cell) -> Lowered:
    """A GRU whose update gate is the constant beta; where 1 - beta has no digits left, an LSTM, f = beta, i = 1."""
    alpha, beta = cell.scalars["alpha"], cell.scalars["beta"]
    candidate = Gate(0, cell.biases[0])
    if alpha == 1 - beta and beta < 1:
        return _gru(cell, Gate(None, _logit(beta)), candidate)
    keep, one = Gate(None, _logit(beta)), Gate(None, SATURATED)
    # h = alpha g with g' = beta g + c: as a gate, a small alpha would have few digits in a runtime's sigmoid.
    if cell.update != "quant_tanh":
        return _cells(cell, [(one, keep, candidate)], read=(alpha,))
    # c = 2 s - 1: h = alpha (2 g - e) with g' = beta g + s and e' = beta e + 1.
    return _cells(cell, [(one, keep, candidate), (one, keep, one)], read=(2 * alpha, -alpha))


def _fastgrnn(cell: Cell) -> Lowered:
    """nu = 0: a GRU, with W and U tied between update gate and candidate. Else an LSTM with a state of two parts,
    ``h = zeta c1 + nu c2``, ``c1' = z c1 + (1 - z) c``, ``c2' = z c2 + c``."""
    zeta, nu = cell.scalars["zeta"], cell.scalars["nu"]
    gate, update = cell.biases
    z, candidate = Gate(0, gate), Gate(0, update)
    if (zeta, nu) == (1.0, 0.0):
        return _gru(cell, z, candidate)
    rest, one = Gate(0, -gate, -1.0), Gate(None, SATURATED)
    parts = [(rest, z, candidate), (one, z, candidate)]
    if cell.update != "quant_tanh":
        return _cells(cell, parts, read=(zeta, nu))
    # c = 2 s - 1: c1 = 2 g1 - 1, and c2 = 2 g2 - e with e' = z e + 1.
    parts.append((one, z, one))
    return _cells(cell, parts, read=(2 * zeta, 2 * nu, -nu), offset=-zeta, start=(0.5, 0.0, 0.0))


def _ugrnn(cell: Cell) -> Lowered:
    """A GRU whose reset gate is 1."""
    return _gru(cell, Gate(0, cell.biases[0]), Gate(1, cell.biases[1]))


def _gru_itself(cell: Cell) -> Lowered:
    """Itself; torch's applies the reset gate after the product."""
    r, z, c = (Gate(i, bias) for i, bias in enumerate(cell.biases))
    return Lowered(
        "GRU", ((z,), (r,), (c,)), (OPERATORS[cell.gate], OPERATORS[cell.update]),
        linear_before_reset=int(cell.kind == "torch_gru"), recurrent_bias=cell.recurrent_bias,
    )  # fmt: skip


def _lstm(cell: Cell) -> Lowered:
    """Itself."""
    i, f, c, o = (Gate(i, bias) for i, bias in enumerate(cell.biases))
    update = OPERATORS[cell.update]
    return Lowered("LSTM", ((i,), (o,), (f,), (c,)), (OPERATORS[cell.gate], update, update))


LOWERINGS: dict[str, Callable[[Cell], Lowered]] = {
    "fastrnn": _fastrnn, "fastgrnn": _fastgrnn, "ugrnn": _ugrnn, "gru": _gru_itself, "torch_gru": _gru_itself,
    "lstm": _lstm,
}  # fmt: skip


def _gru(cell: Cell, z: Gate, candidate: Gate) -> Lowered:
    """``h' = (1 - z) c + z h``: the reset gate is 1. (Then ``linear_before_reset`` makes no difference; with 0
    onnxruntime is faster.)

    With quant_tanh, c = 2 s - 1 and h = 2 g - 1: the same equation for g and s, since the weights add up to 1.
    """
    one = Gate(None, 1.0 if cell.gate == "relu" else SATURATED)
    lowered = Lowered("GRU", ((z,), (one,), (candidate,)), (OPERATORS[cell.gate], _update(cell)))
    if cell.update != "quant_tanh":
        return lowered
    return replace(lowered, read=(2.0,), offset=-1.0, start=(0.5,))


def _cells(
    cell: Cell, parts: Sequence[tuple[Gate, Gate, Gate]], read: tuple[float, ...], offset: float = 0.0,
    start: tuple[float, ...] | None = None,
) -> Lowered:  # fmt: skip
    """An LSTM that shows its cell state: output gate 1, output activation the identity; parts are (i, f, c)."""
    i, f, c = zip(*parts, strict=True)
    o = (Gate(None, SATURATED),) * len(parts)
    activations = (OPERATORS[cell.gate], _update(cell), IDENTITY)
    return Lowered("LSTM", (i, o, f, c), activations, read, offset, start or (0.0,) * len(parts))


def _update(cell: Cell) -> tuple[str, dict[str, float]]:
    return HALF if cell.update == "quant_tanh" else OPERATORS[cell.update]


def _logit(p: float) -> float:
    """Of which a sigmoid is p; FastRNN's constant gates are sigmoids."""
    return max(-SATURATED, min(SATURATED, math.log(p / (1 - p)))) if 0 < p < 1 else math.copysign(SATURATED, p - 0.5)
