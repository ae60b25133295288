"""FastGRNN and the classifier around it in NumPy float64, written from the paper's equation alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastzoo.nn import FastGRNN, FastGRNNCell, SequenceClassifier

Floats = npt.NDArray[np.float64]

FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
    "quant_tanh": lambda a: np.clip(a, -1, 1),
    "quant_sigmoid": lambda a: np.clip((a + 1) / 2, 0, 1),
    "quant_sigmoid4": lambda a: np.clip((a + 2) / 4, 0, 1),
}
KINKS = {"relu": (0,), "quant_tanh": (-1, 1), "quant_sigmoid": (-1, 1), "quant_sigmoid4": (-2, 2)}


def step(rnn: FastGRNN | FastGRNNCell, x: Floats, h: Floats) -> Floats:
    """One step: ``x [N, D]``, ``h [N, H]`` -> [N, H]."""
    gate_pre, update_pre = preactivations(rnn, x, h)
    z = FUNCTIONS[rnn.gate_nonlinearity](gate_pre)
    c = FUNCTIONS[rnn.update_nonlinearity](update_pre)
    zeta, nu = rnn.zeta.item(), rnn.nu.item()
    following: Floats = (zeta * (1 - z) + nu) * c + z * h
    return following


def preactivations(rnn: FastGRNN | FastGRNNCell, x: Floats, h: Floats) -> tuple[Floats, Floats]:
    """What goes into the gate's and into the update's nonlinearity, [N, H] each."""
    p = {name: value.detach().numpy().astype(np.float64) for name, value in rnn.named_parameters()}
    w = p["W"] if rnn.w_rank is None else p["W1"] @ p["W2"]
    u = p["U"] if rnn.u_rank is None else p["U1"] @ p["U2"]
    pre = x @ w + h @ u
    return pre + p["bias_gate"], pre + p["bias_update"]


def states(rnn: FastGRNN | FastGRNNCell, x: Floats, h: Floats | None = None) -> Floats:
    """All states: ``x [T, N, D]`` -> [T, N, H]."""
    h = np.zeros((x.shape[1], rnn.hidden_size)) if h is None else h
    return np.stack([h := step(rnn, x_t, h) for x_t in x.astype(np.float64)])


def logits(net: SequenceClassifier, x: npt.NDArray[np.floating]) -> Floats:
    """``x [N, T, D]`` in raw units -> [N, C]."""
    normalised = (x.astype(np.float64) - net.mean.numpy()) / net.std.numpy()
    pooled = states(net.rnn, normalised.transpose(1, 0, 2))[-net.pool :].mean(axis=0)
    result: Floats = pooled @ net.head.weight.detach().numpy().T.astype(np.float64) + net.head.bias.detach().numpy()
    return result
