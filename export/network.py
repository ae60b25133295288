"""A trained classifier as plain arrays, the form all graphs are built from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fastzoo.errors import ExportError
from fastzoo.nn import FastGRNNCell, SequenceClassifier

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """FastGRNN's weights; zeta and nu after their sigmoid."""

    w: tuple[Floats, ...]  # ([D, H],) or ([D, r], [r, H])
    u: tuple[Floats, ...]  # ([H, H],) or ([H, r], [r, H])
    bias_gate: Floats  # [H]
    bias_update: Floats  # [H]
    zeta: float
    nu: float
    gate_nonlinearity: str
    update_nonlinearity: str

    @property
    def input_size(self) -> int:
        """D, features per step."""
        return len(self.w[0])

    @property
    def hidden_size(self) -> int:
        """H, size of the state."""
        return len(self.bias_gate)


@dataclass(frozen=True)
class Network:
    """Normalisation, cell, pooling and head for windows of ``steps`` steps."""

    mean: Floats  # [D]
    std: Floats  # [D]
    cell: Cell
    head_weight: Floats  # [H, C]
    head_bias: Floats  # [C]
    pool: int
    steps: int

    @property
    def num_classes(self) -> int:
        """C, the number of logits."""
        return len(self.head_bias)

    def unit_zeta(self) -> Network:
        """The same function with zeta = 1, where nu = 0; unchanged otherwise.

        Write h = zeta g. Then h' = zeta (1 - z) c + z h becomes g' = (1 - z) c + z g: two operators fewer a step, a
        state bounded by 1, and the form of a GRU. U and the head, which read h, absorb the factor.
        """
        cell = self.cell
        if cell.nu != 0 or cell.zeta == 1:
            return self
        zeta = np.float32(cell.zeta)
        u = (cell.u[0] * zeta, *cell.u[1:])
        return replace(self, cell=replace(cell, u=u, zeta=1.0), head_weight=self.head_weight * zeta)

    def matrices(self) -> dict[str, Floats]:
        """The factors and the head [C, H] by the names they have in every graph."""
        cell = self.cell
        return {**named_factors("W", cell.w), **named_factors("U", cell.u), "head": self.head_weight.T}


def named_factors(name: str, factors: tuple[Floats, ...]) -> dict[str, Floats]:
    """``W``, or ``W1`` and ``W2``."""
    return {name: factors[0]} if len(factors) == 1 else {f"{name}{i}": factor for i, factor in enumerate(factors, 1)}


def from_torch(net: SequenceClassifier, steps: int) -> Network:
    """The arrays of a torch classifier for windows of ``steps`` steps.

    Raises:
        ExportError: the cell cannot be exported, a weight is not finite, or there are fewer steps than pooled states.
    """
    if steps < net.pool:
        raise ExportError(f"windows of {steps} steps are shorter than the {net.pool} states the head pools over")
    bad = [name for name, value in net.state_dict().items() if not value.isfinite().all()]
    if bad:
        raise ExportError(f"the network has NaN or infinite weights in {', '.join(bad)}; train it again")

    def array(tensor: Tensor) -> Floats:
        return np.ascontiguousarray(tensor.detach().float().cpu().numpy())

    trained = _fastgrnn(net)
    cell = Cell(
        w=tuple(array(factor) for factor in trained.w),
        u=tuple(array(factor) for factor in trained.u),
        bias_gate=array(trained.bias_gate),
        bias_update=array(trained.bias_update),
        zeta=float(trained.zeta.detach()),
        nu=float(trained.nu.detach()),
        gate_nonlinearity=str(trained.gate_nonlinearity),
        update_nonlinearity=str(trained.update_nonlinearity),
    )
    return Network(
        array(net.mean), array(net.std), cell, array(net.head.weight.T), array(net.head.bias), net.pool, steps
    )


def _fastgrnn(net: SequenceClassifier) -> FastGRNNCell:
    """The one cell that can be exported so far."""
    cells = list(net.rnn.cells)
    if len(cells) != 1 or not isinstance(cells[0], FastGRNNCell):
        what = f"{type(net.rnn).__name__} with {len(cells)} cells" if len(cells) > 1 else type(net.rnn).__name__
        raise ExportError(f"only a FastGRNN of one layer and one direction can be exported so far, not a {what}")
    if callable(cells[0].gate_nonlinearity) or callable(cells[0].update_nonlinearity):
        raise ExportError("a nonlinearity that is a Python function cannot be exported; use one by name")
    return cells[0]
