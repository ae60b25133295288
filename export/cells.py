"""The equation of each cell, once: from it every step graph is written, in fp32 and in 8 bits.

An equation is a function of an :class:`Arithmetic`, which knows how numbers are stored and multiplied, of the cell and
of its state. It names what it needs of ``x W + h U + b`` by blocks of H columns; the arithmetic decides how they are
computed. ``Arithmetic`` has two families: :mod:`fastzoo.export.floats` and :mod:`fastzoo.export.integers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from fastzoo.export.network import Cell


class Block(NamedTuple):
    """One activation: ``nonlinearity(x W + h U + b)`` with a block of H columns of W and U and one of b.

    ``complemented``: the equation also needs 1 minus it.
    """

    columns: int
    bias: int
    nonlinearity: str
    complemented: bool = False


# 1 - f(a) = f(-a)
POINT_SYMMETRIC = ("sigmoid", "quant_sigmoid", "quant_sigmoid4")


class Arithmetic(Protocol):
    """What an equation is written in. Values are the arithmetic's own: pass them on, never look inside."""

    def activate(self, h: Any, blocks: Sequence[Block]) -> list[Any]:
        """The activation of each block, with h in the product."""

    def blend(self, z: Any, c: Any, h: Any) -> Any:
        """``(1 - z) c + z h``, for a complemented z."""

    def complement(self, z: Any) -> Any:
        """``1 - z``, for a complemented z."""

    def add(self, a: Any, b: Any) -> Any:
        """``a + b``"""

    def multiply(self, a: Any, b: Any) -> Any:
        """``a b``, element by element."""

    def affine(self, a: Any, factor: float, shift: float = 0.0) -> Any:
        """``factor a + shift``"""

    def projected(self, block: Block) -> Any:
        """``x W + b`` of one block."""

    def product(self, h: Any, columns: int, bias: Any = None) -> Any:
        """``h U`` of one block of columns, plus a bias [H]."""

    def apply(self, nonlinearity: str, a: Any) -> Any:
        """``nonlinearity(a)``"""


State = tuple[Any, ...]
Equation = Callable[[Arithmetic, Cell, State], State]


def fastrnn(m: Arithmetic, cell: Cell, state: State) -> State:
    """``c = update(x W + h U + b);  h' = beta h + alpha c``"""
    (h,) = state
    (c,) = m.activate(h, [Block(0, 0, cell.update)])
    return (m.add(m.affine(h, cell.scalars["beta"]), m.affine(c, cell.scalars["alpha"])),)


def fastgrnn(m: Arithmetic, cell: Cell, state: State) -> State:
    """``z = gate(x W + h U + b_z);  c = update(x W + h U + b_c);  h' = (zeta (1 - z) + nu) c + z h``"""
    (h,) = state
    zeta, nu = cell.scalars["zeta"], cell.scalars["nu"]
    z, c = m.activate(h, [Block(0, 0, cell.gate, complemented=True), Block(0, 1, cell.update)])
    if (zeta, nu) == (1.0, 0.0):
        return (m.blend(z, c, h),)
    return (m.add(m.multiply(m.affine(m.complement(z), zeta, nu), c), m.multiply(z, h)),)


def ugrnn(m: Arithmetic, cell: Cell, state: State) -> State:
    """``z, c = gate, update of x W + h U + b;  h' = z h + (1 - z) c``"""
    (h,) = state
    z, c = m.activate(h, [Block(0, 0, cell.gate, complemented=True), Block(1, 1, cell.update)])
    return (m.blend(z, c, h),)


def gru(m: Arithmetic, cell: Cell, state: State) -> State:
    """``r, z = gate of x W + h U + b;  c = update(x W_c + (r h) U_c + b_c);  h' = z h + (1 - z) c``"""
    (h,) = state
    r, z = m.activate(h, [Block(0, 0, cell.gate), Block(1, 1, cell.gate, complemented=True)])
    (c,) = m.activate(m.multiply(r, h), [Block(2, 2, cell.update)])
    return (m.blend(z, c, h),)


def torch_gru(m: Arithmetic, cell: Cell, state: State) -> State:
    """torch's GRU: ``c = update(x W_c + b_c + r (h U_c + b_u))``, the rest as in :func:`gru`."""
    (h,) = state
    r, z = m.activate(h, [Block(0, 0, cell.gate), Block(1, 1, cell.gate, complemented=True)])
    reset = m.multiply(r, m.product(h, 2, cell.recurrent_bias))
    c = m.apply(cell.update, m.add(m.projected(Block(2, 2, cell.update)), reset))
    return (m.blend(z, c, h),)


def lstm(m: Arithmetic, cell: Cell, state: State) -> State:
    """``i, f, g, o of x W + h U + b;  c' = f c + i g;  h' = o update(c')``"""
    h, c = state
    gates = [Block(0, 0, cell.gate), Block(1, 1, cell.gate), Block(2, 2, cell.update), Block(3, 3, cell.gate)]
    i, f, g, o = m.activate(h, gates)
    c = m.add(m.multiply(f, c), m.multiply(i, g))
    return m.multiply(o, m.apply(cell.update, c)), c


EQUATIONS: dict[str, Equation] = {
    "fastrnn": fastrnn, "fastgrnn": fastgrnn, "ugrnn": ugrnn, "gru": gru, "torch_gru": torch_gru, "lstm": lstm,
}  # fmt: skip
STATES: dict[str, tuple[str, ...]] = {"lstm": ("h", "c")}  # the parts of a state, output first; of all others ("h",)
