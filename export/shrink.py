"""A smaller network of the same function, where sparse training left whole rows and columns of zeros.

Weights are only left out, or made zero where nothing depends on them, and never computed: the same real function of
every window, in floats up to the order of sums. Factors stay factors, even where the full matrix would by now take
fewer numbers: their product would be rounded. Features that nothing reads stay: the model's input is a contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from fastzoo.export.network import Cell, Factors, Floats, Network

Mask = npt.NDArray[np.bool_]

# The candidate's block of columns in W and U, and its block of the bias.
CANDIDATE = {"fastrnn": (0, 0), "fastgrnn": (0, 1), "ugrnn": (1, 1), "gru": (2, 2), "torch_gru": (2, 2), "lstm": (2, 2)}
ZERO_AT_ZERO = ("tanh", "relu", "quant_tanh")


def shrunk(network: Network) -> Network:
    """The network without the units and ranks that have no influence on its logits.

    A unit goes where it is always 0, or where no way leads from it to the head: units that read only each other go
    together. A rank goes where nothing is left in its column of the first factor or in its row of the second. One unit
    and one rank always stay, and all cells keep one H, as ONNX, torch and :class:`Network` have it: the cell with the
    most units to keep decides. The others fill up with the first of those that could go, with zeros for weights.

    Returns:
        The same object where no size changes; :func:`describe` says which did.
    """
    needed = _needed(network)
    hidden = max(1, *(int(mask.sum()) for mask in needed))
    units = [_Units.of(mask, hidden) for mask in needed]
    cells, ways = [], network.directions
    for index, (cell, own) in enumerate(zip(network.cells, units, strict=True)):
        layer = index - index % ways
        w, u = list(cell.w), list(cell.u)
        if layer:
            w[0] = _joined(units[layer - ways : layer]).rows(w[0])
        u[0] = own.rows(u[0])
        w[-1], u[-1] = own.columns(w[-1]), own.columns(u[-1])
        inner = None if cell.recurrent_bias is None else own.columns(cell.recurrent_bias)
        cells.append(replace(cell, w=_ranks(w), u=_ranks(u), bias=own.columns(cell.bias), recurrent_bias=inner))
    smaller = replace(network, cells=tuple(cells), head_weight=_joined(units[-ways:]).rows(network.head_weight))
    return smaller if describe(network, smaller) else network


def describe(before: Network, after: Network) -> str | None:
    """What became smaller, such as "U rank 16 -> 12, 64 -> 60 units"; None where nothing did."""
    changes = []
    for index, (old, new) in enumerate(zip(before.cells, after.cells, strict=True)):
        for name, was, now in (("W", old.w, new.w), ("U", old.u, new.u)):
            if len(was) == 2 and len(was[1]) != len(now[1]):
                changes.append(f"{before.prefix(index)}{name} rank {len(was[1])} -> {len(now[1])}")
    if before.hidden_size != after.hidden_size:
        changes.append(f"{before.hidden_size} -> {after.hidden_size} units")
    return ", ".join(changes) or None


@dataclass(frozen=True)
class _Units:
    """Those of ``size`` units that stay, and which of these are needed: weights of the others become 0."""

    size: int
    kept: npt.NDArray[np.intp]  # [H']
    needed: Mask  # [H']

    @classmethod
    def of(cls, needed: Mask, hidden: int) -> _Units:
        """The needed units, and as many others as make ``hidden``."""
        spare = np.flatnonzero(~needed)[: hidden - np.count_nonzero(needed)]
        kept = np.sort(np.concatenate([np.flatnonzero(needed), spare]))
        return cls(len(needed), kept, needed[kept])

    def rows(self, matrix: Floats) -> Floats:
        """Of the weights by which others read these units, [H, n]."""
        return matrix[self.kept] * self.needed[:, np.newaxis]

    def columns(self, matrix: Floats) -> Floats:
        """Of the weights by which these units read, [n, G H], or of a bias [B H]."""
        blocks: Floats = matrix.reshape(*matrix.shape[:-1], -1, self.size)
        return (blocks.take(self.kept, axis=-1) * self.needed).reshape(*matrix.shape[:-1], -1)


def _joined(ways: Sequence[_Units]) -> _Units:
    """The units of both directions side by side, as the next layer and the head read them."""
    kept = np.concatenate([way * units.size + units.kept for way, units in enumerate(ways)])
    return _Units(len(ways) * ways[0].size, kept, np.concatenate([units.needed for units in ways]))


def _ranks(factors: Sequence[Floats]) -> Factors:
    """The same matrix with fewer ranks; with a single one, of zeros, where nothing is left of it."""
    if len(factors) == 1:
        return tuple(factors)
    first, second = factors
    left = first.any(axis=0) & second.any(axis=1)
    if not left.any():
        return np.zeros_like(first[:, :1]), np.zeros_like(second[:1])
    return first.compress(left, axis=1), second.compress(left, axis=0)


def _needed(network: Network) -> list[Mask]:
    """The units of each cell, [H], that are not always 0 and from which a way leads to the head."""
    needed: list[Mask] = []
    inputs = np.ones(network.brick * network.input_size, np.bool_)
    for layer in network.layers:
        moving = [_moving(cell, inputs) for cell in layer]
        inputs = np.concatenate(moving)
        needed += moving
    ways = network.directions
    read = network.head_weight.any(axis=1)  # [directions H], of the layer at hand
    for first in reversed(range(0, len(needed), ways)):
        reads = np.split(read, ways)
        read = np.zeros(network.cells[first].input_size, np.bool_)
        for index, start in enumerate(reads, first):
            cell = network.cells[index]
            needed[index] = _followed(start, _ways(cell.u, cell.hidden_size).T, needed[index])
            read |= _ways(cell.w, cell.hidden_size) @ needed[index]
    return needed


def _moving(cell: Cell, inputs: Mask) -> Mask:
    """The units, [H], that can ever leave 0, of a cell whose inputs, [D], can.

    States begin at 0, and where h and the candidate are 0, so is h' in every equation, whatever the gates are (LSTM:
    where c and the candidate are). So a unit stays at 0 whose candidate has no bias, reads only what stays at 0, and is
    0 at 0. Units that stay at another number are not found: other biases would have to absorb it, rounded.
    """
    if cell.update not in ZERO_AT_ZERO:
        return np.ones(cell.hidden_size, np.bool_)
    columns, block = CANDIDATE[cell.kind]
    moved = (cell.biases[block] != 0) | (inputs @ _ways(cell.w, cell.hidden_size, columns))
    if cell.recurrent_bias is not None:
        moved |= cell.recurrent_bias != 0
    return _followed(moved, _ways(cell.u, cell.hidden_size, columns), np.ones_like(moved))


def _ways(factors: Factors, hidden: int, block: int | None = None) -> Mask:
    """[inputs, H]: whether a unit reads an input, by one of its columns or by that of one block."""
    paths: Mask = reduce(np.matmul, [factor != 0 for factor in factors])
    blocks: Mask = paths.reshape(len(paths), -1, hidden)[:, slice(None) if block is None else [block]]
    either: Mask = np.logical_or.reduce(blocks, axis=1)
    return either


def _followed(start: Mask, ways: Mask, within: Mask) -> Mask:
    """The units, [H], to which ``ways`` [from, to] lead from ``start``, itself among them, if all are ``within``."""
    reached, further = np.zeros_like(start), start & within
    while not np.array_equal(reached, further):
        reached, further = further, np.logical_or(further, further @ ways & within)
    return reached
