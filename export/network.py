"""A trained classifier as plain arrays, the form all graphs are built from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Factors = tuple[Floats, ...]  # one matrix, or two factors of it


@dataclass(frozen=True)
class Cell:
    """One cell's weights, as ``x @ W`` on row vectors; scalars after their sigmoid.

    W, U and the bias have a block of H columns for each gate and candidate, in the order of the cell's equation
    (:mod:`fastzoo.export.cells`). FastGRNN has one block in W and U, and two in the bias: gate, update.
    """

    kind: str
    w: Factors  # [D, G H], or [D, r] and [r, G H]
    u: Factors  # [H, G H], or [H, r] and [r, G H]
    bias: Floats  # [B H]
    gate: str  # nonlinearities, by name; FastRNN has no gate
    update: str
    scalars: Mapping[str, float] = field(default_factory=dict)
    recurrent_bias: Floats | None = None  # [H], of torch's GRU: inside the product that the reset gate scales

    @property
    def input_size(self) -> int:
        """D, features per step."""
        return len(self.w[0])

    @property
    def hidden_size(self) -> int:
        """H, size of the state."""
        return len(self.u[0])

    @property
    def biases(self) -> Floats:
        """The bias by block, [B, H]."""
        return self.bias.reshape(-1, self.hidden_size)

    def scaled(self, factor: float, **scalars: float) -> Cell:
        """The cell whose state is this one's divided by ``factor``: U reads the product of both."""
        u = (self.u[0] * np.float32(factor), *self.u[1:])
        return replace(self, u=u, scalars={**self.scalars, **scalars})

    def reading(self, rows: Floats) -> Cell:
        """The cell whose input was divided, feature by feature, by ``rows`` [D]."""
        return replace(self, w=(self.w[0] * rows[:, np.newaxis], *self.w[1:]))


@dataclass(frozen=True)
class Network:
    """Normalisation, cells, pooling and head for windows of ``steps`` samples, of which a cell reads ``brick`` at once.

    Cells stand in torch's order: layer 0 forwards, layer 0 backwards, layer 1 forwards, ...
    """

    mean: Floats  # [D]
    std: Floats  # [D]
    cells: tuple[Cell, ...]
    head_weight: Floats  # [directions H, C]
    head_bias: Floats  # [C]
    pool: int
    steps: int
    directions: int = 1
    brick: int = 1

    @property
    def num_classes(self) -> int:
        """C, the number of logits."""
        return len(self.head_bias)

    @property
    def input_size(self) -> int:
        """D, channels of a sample."""
        return len(self.mean)

    @property
    def count(self) -> int:
        """How many steps the cells do in a window."""
        return self.steps // self.brick

    def read(self, windows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the first cells read of raw windows [n, T, D]: normalised bricks [T / brick, n, brick D]."""
        normalised = (windows - self.mean) / self.std
        return normalised.reshape(len(windows), -1, self.brick * self.input_size).transpose(1, 0, 2)

    @property
    def hidden_size(self) -> int:
        """H, size of each cell's state."""
        return self.cells[0].hidden_size

    @property
    def layers(self) -> list[tuple[Cell, ...]]:
        """The cells of each layer, one for each direction."""
        return [self.cells[i : i + self.directions] for i in range(0, len(self.cells), self.directions)]

    def prefix(self, index: int) -> str:
        """What the names of one cell begin with: nothing where it is the only one."""
        if len(self.cells) == 1:
            return ""
        way = "fb"[index % self.directions] if self.directions > 1 else ""
        return f"l{index // self.directions}{way}_"

    def unit_scale(self) -> Network:
        """The same function, with every state that is a weighted mean of candidates in the units of the candidate.

        Where FastGRNN has nu = 0, write h = zeta g: h' = zeta (1 - z) c + z h becomes g' = (1 - z) c + z g. FastRNN
        with h = k g, k = alpha / (1 - beta): h' = beta h + alpha c becomes g' = beta g + (1 - beta) c. That is two
        operators fewer a step, a state as bounded as the candidate, and the form of a GRU. Whoever reads h, which is U,
        the next layer's W and the head, absorbs the factor.
        """
        factors = [factor for layer in self.layers for factor in _scales(layer)]
        if all(factor == 1 for factor, _ in factors):
            return self
        cells = [cell.scaled(factor, **scalars) for cell, (factor, scalars) in zip(self.cells, factors, strict=True)]
        hidden, ways = self.hidden_size, self.directions
        scales = np.array([factor for factor, _ in factors], np.float32).reshape(-1, ways)
        rows = np.repeat(scales, hidden, axis=1)  # [layers, directions H]
        for index in range(ways, len(cells)):
            cells[index] = cells[index].reading(rows[index // ways - 1])
        return replace(self, cells=tuple(cells), head_weight=self.head_weight * rows[-1][:, np.newaxis])

    def matrices(self) -> dict[str, Floats]:
        """The factors and the head by the names they have in every graph."""
        return {**dict(self._factors()), "head": self.head_weight}

    def vectors(self) -> list[Floats]:
        """The biases, that of the head last."""
        inner = [cell.recurrent_bias for cell in self.cells if cell.recurrent_bias is not None]
        return [*(cell.bias for cell in self.cells), *inner, self.head_bias]

    def _factors(self) -> Iterator[tuple[str, Floats]]:
        for index, cell in enumerate(self.cells):
            for name, factors in (("W", cell.w), ("U", cell.u)):
                yield from named_factors(self.prefix(index) + name, factors).items()


# Beyond this beta the difference 1 - beta has lost the digits that fp32 should have.
SLOWEST = 0.99


def _scales(layer: tuple[Cell, ...]) -> list[tuple[float, dict[str, float]]]:
    """What to divide each cell's state by, and the scalars of the cell that is left: both directions alike."""
    kept: list[tuple[float, dict[str, float]]] = [(1.0, {})] * len(layer)
    found = [_scale(cell) for cell in layer]
    return kept if None in found else [scale for scale in found if scale is not None]


def _scale(cell: Cell) -> tuple[float, dict[str, float]] | None:
    of = cell.scalars
    if cell.kind == "fastgrnn" and of["nu"] == 0 and of["zeta"] > 0:
        return of["zeta"], {"zeta": 1.0}
    if cell.kind == "fastrnn" and of["alpha"] > 0 and of["beta"] <= SLOWEST:
        return of["alpha"] / (1 - of["beta"]), {"alpha": 1 - of["beta"]}
    return None


def named_factors(name: str, factors: Factors) -> dict[str, Floats]:
    """``W``, or ``W1`` and ``W2``."""
    return {name: factors[0]} if len(factors) == 1 else {f"{name}{i}": factor for i, factor in enumerate(factors, 1)}
