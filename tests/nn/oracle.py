"""The five cells, and the classifier around them, in NumPy float64: written from the equations alone.

Only stored numbers and names are taken from a torch module: parameters, buffers, sizes, nonlinearities. A sequence of
many layers and directions is run row by row, each as long as it is and unpadded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from fastzoo.nn import Recurrent, SequenceClassifier

Floats = npt.NDArray[np.float64]
State = tuple[Floats, ...]  # (h,), or (h, c) of an LSTM

FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
    "quant_tanh": lambda a: np.clip(a, -1, 1),
    "quant_sigmoid": lambda a: np.clip((a + 1) / 2, 0, 1),
    "quant_sigmoid4": lambda a: np.clip((a + 2) / 4, 0, 1),
}
KINKS = {"relu": (0,), "quant_tanh": (-1, 1), "quant_sigmoid": (-1, 1), "quant_sigmoid4": (-2, 2)}


class Cell:
    """One step after the other of one cell; ``seen`` is what went into its nonlinearities, by their name."""

    def __init__(self, module: Any) -> None:
        of = {name: value.detach().numpy().astype(np.float64) for name, value in module.named_parameters()}
        fixed = {name.removeprefix("fixed_"): value.item() for name, value in module.named_buffers()}
        trained = {k.removesuffix("_logit"): 1 / (1 + np.exp(-v)) for k, v in of.items() if k.endswith("_logit")}
        self.scalars: dict[str, float] = {**fixed, **trained}
        self.w = of["W"] if "W" in of else of["W1"] @ of["W2"]
        self.u = of["U"] if "U" in of else of["U1"] @ of["U2"]
        self.b = of
        self.hidden = len(self.u)
        self.kind: str = module.kind
        w, u = self.blocks(self.w), self.blocks(self.u)
        self.weights = list(zip(w, u, self.blocks(of["bias"]), strict=True)) if "bias" in of else []
        self.names: tuple[str | None, str] = module.gate_nonlinearity, module.update_nonlinearity
        self.seen: dict[str, list[Floats]] = {}

    def zeros(self, batch: int) -> State:
        return (np.zeros((batch, self.hidden)),) * (2 if self.kind == "lstm" else 1)

    def step(self, x: Floats, state: State) -> State:
        """``x [N, D]`` and a state of [N, H] -> the next state."""
        following: State = getattr(self, f"_{self.kind}")(x, *state)
        return following

    def states(self, x: Floats, state: State) -> tuple[Floats, State]:
        """``x [T, N, D]`` -> all h [T, N, H] and the last state."""
        each = []
        for x_t in x:
            state = self.step(x_t, state)
            each.append(state[0])
        return np.stack(each), state

    def gate(self, pre: Floats) -> Floats:
        return self._apply(self.names[0], pre)

    def update(self, pre: Floats) -> Floats:
        return self._apply(self.names[1], pre)

    def _apply(self, name: str | None, pre: Floats) -> Floats:
        assert name is not None
        self.seen.setdefault(name, []).append(pre)
        return FUNCTIONS[name](pre)

    def blocks(self, matrix: Floats) -> list[Floats]:
        """The parts of H columns of W, U or the bias."""
        return np.split(matrix, matrix.shape[-1] // self.hidden, axis=-1)

    def _fastrnn(self, x: Floats, h: Floats) -> State:
        c = self.update(x @ self.w + h @ self.u + self.b["bias_update"])
        return (self.scalars["alpha"] * c + self.scalars["beta"] * h,)

    def _fastgrnn(self, x: Floats, h: Floats) -> State:
        z = self.gate(x @ self.w + h @ self.u + self.b["bias_gate"])
        c = self.update(x @ self.w + h @ self.u + self.b["bias_update"])
        return ((self.scalars["zeta"] * (1 - z) + self.scalars["nu"]) * c + z * h,)

    def _ugrnn(self, x: Floats, h: Floats) -> State:
        (w_z, u_z, b_z), (w_c, u_c, b_c) = self.weights
        z = self.gate(x @ w_z + h @ u_z + b_z)
        c = self.update(x @ w_c + h @ u_c + b_c)
        return (z * h + (1 - z) * c,)

    def _gru(self, x: Floats, h: Floats) -> State:
        (w_r, u_r, b_r), (w_z, u_z, b_z), (w_c, u_c, b_c) = self.weights
        r = self.gate(x @ w_r + h @ u_r + b_r)
        z = self.gate(x @ w_z + h @ u_z + b_z)
        c = self.update(x @ w_c + (r * h) @ u_c + b_c)
        return (z * h + (1 - z) * c,)

    def _lstm(self, x: Floats, h: Floats, c: Floats) -> State:
        (w_i, u_i, b_i), (w_f, u_f, b_f), (w_c, u_c, b_c), (w_o, u_o, b_o) = self.weights
        i = self.gate(x @ w_i + h @ u_i + b_i)
        f = self.gate(x @ w_f + h @ u_f + b_f)
        o = self.gate(x @ w_o + h @ u_o + b_o)
        c = f * c + i * self.update(x @ w_c + h @ u_c + b_c)
        return o * self.update(c), c


def run(
    rnn: Recurrent, x: Floats, start: Sequence[Floats] | None = None, lengths: Sequence[int] | None = None
) -> tuple[Floats, State, list[Cell]]:
    """Layers and directions.

    Args:
        rnn: the module whose weights are taken.
        x: [T, N, D].
        start: h (and c), [num_layers * directions, N, H].
        lengths: steps of each row.

    Returns:
        The last layer's states [T, N, directions H], zero behind a row's end; the last states as ``start``; the cells.
    """
    steps, batch, _ = x.shape
    cells = [Cell(cell) for cell in rnn.cells]
    if lengths is None:
        states, last = _layers(cells, rnn.directions, x, start)
        return states, last, cells
    padded = np.zeros((steps, batch, rnn.directions * rnn.hidden_size))
    lasts = []
    for row, length in enumerate(lengths):
        alone = slice(row, row + 1)
        begin = None if start is None else [part[:, alone] for part in start]
        padded[:length, alone], last = _layers(cells, rnn.directions, x[:length, alone], begin)
        lasts.append(last)
    return padded, tuple(np.concatenate(parts, axis=1) for parts in zip(*lasts, strict=True)), cells


def _layers(cells: list[Cell], directions: int, x: Floats, start: Sequence[Floats] | None) -> tuple[Floats, State]:
    last = []
    for below in range(0, len(cells), directions):
        outputs = []
        for index in range(below, below + directions):
            cell = cells[index]
            state = cell.zeros(x.shape[1]) if start is None else tuple(part[index] for part in start)
            backwards = index > below
            states, state = cell.states(x[::-1] if backwards else x, state)
            outputs.append(states[::-1] if backwards else states)
            last.append(state)
        x = np.concatenate(outputs, axis=-1)
    return x, tuple(np.stack(parts) for parts in zip(*last, strict=True))


def clear_of_kinks(cells: Sequence[Cell], distance: float = 1e-3) -> bool:
    """Whether a finite difference would step over no kink of a nonlinearity, in what the cells have seen."""
    return all(
        np.abs(pre - kink).min() > distance
        for cell in cells
        for name, each in cell.seen.items()
        for pre in each
        for kink in KINKS.get(name, ())
    )


def visits_every_piece(cells: Sequence[Cell]) -> bool:
    """Whether the cells together have been on both sides of every kink that they have."""
    return all(
        seen.min() < kink < seen.max()
        for name in cells[0].seen
        for seen in [np.concatenate([pre.ravel() for cell in cells for pre in cell.seen[name]])]
        for kink in KINKS.get(name, ())
    )


def logits(net: SequenceClassifier, x: npt.NDArray[np.floating]) -> Floats:
    """``x [N, T, D]`` in raw units -> [N, C]."""
    normalised = (x.astype(np.float64) - net.mean.numpy()) / net.std.numpy()
    bricks = np.stack([normalised[:, i :: net.brick] for i in range(net.brick)], axis=2)  # [N, T / brick, brick, D]
    states, _, _ = run(net.rnn, bricks.reshape(*bricks.shape[:2], -1).transpose(1, 0, 2))
    reached = [states[-net.pool :, :, : net.rnn.hidden_size], states[: net.pool, :, net.rnn.hidden_size :]]
    pooled = np.concatenate([part.mean(axis=0) for part in reached], axis=1)
    return linear(net.head, pooled)


def linear(layer: nn.Linear, x: Floats) -> Floats:
    """``x W + b`` of a torch layer."""
    result: Floats = x @ layer.weight.detach().numpy().T.astype(np.float64) + layer.bias.detach().numpy()
    return result
