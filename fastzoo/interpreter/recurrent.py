"""ONNX's GRU and LSTM, step by step on a tape, in the notation of their specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastzoo.errors import BundleError
from fastzoo.interpreter.activations import ACTIVATIONS, Activation, affine, hard_sigmoid
from fastzoo.interpreter.tape import Array, Tape
from fastzoo.interpreter.wire import Node

# With parameters, and the defaults of alpha and beta.
_PARAMETRIC = {"HardSigmoid": (hard_sigmoid, (0.2, 0.5)), "Affine": (affine, (1.0, 0.0))}


def gru(tape: Tape, node: Node, inputs: Sequence[Array | None]) -> list[Array]:
    """``Y`` [T, directions, N, H] and ``Y_h`` [directions, N, H] of ``X`` [T, N, D]; gates z, r, h."""
    x, w, r, bias, lengths, start = inputs
    if x is None or w is None or r is None or lengths is not None:
        raise BundleError("a GRU without weights, or with lengths")
    hidden, before = int(node.attributes["hidden_size"]), bool(node.attributes.get("linear_before_reset", 0))

    def direction(d: int, steps: Sequence[int], y: Array, f: Activation, g: Activation) -> Array:
        biases = np.zeros(6 * hidden, np.float32) if bias is None else bias[d]
        added = biases[: 3 * hidden].copy()
        added[: 2 * hidden] += biases[3 * hidden : 5 * hidden]
        inner = biases[5 * hidden :]
        if not before:
            added[2 * hidden :] += inner
        driven = _driven(tape, x, w[d], added)
        r_gates, r_candidate = r[d][: 2 * hidden].T, r[d][2 * hidden :].T
        h, count = _begin(tape, start, d, x.shape[1], hidden), x.shape[1]
        gates, candidate, c = (tape.empty((count, size)) for size in (2 * hidden, hidden, hidden))
        z, reset = gates[:, :hidden], gates[:, hidden:]
        for t in steps:
            tape.call(np.dot, h, r_gates, gates)
            tape.call(np.add, gates, driven[t, :, : 2 * hidden], gates)
            f(tape, gates, gates)
            if before:
                tape.call(np.dot, h, r_candidate, candidate)
                if inner.any():
                    tape.call(np.add, candidate, inner, candidate)
                tape.call(np.multiply, candidate, reset, candidate)
            else:
                tape.call(np.multiply, reset, h, c)
                tape.call(np.dot, c, r_candidate, candidate)
            tape.call(np.add, candidate, driven[t, :, 2 * hidden :], candidate)
            g(tape, candidate, c)
            following = y[t, d]
            tape.call(np.subtract, h, c, following)
            tape.call(np.multiply, following, z, following)
            tape.call(np.add, following, c, following)  # (1 - z) c + z h
            h = following
        return h

    return _directions(tape, node, x, hidden, 2, direction)


def lstm(tape: Tape, node: Node, inputs: Sequence[Array | None]) -> list[Array]:
    """``Y`` and ``Y_h`` as of :func:`gru`, and ``Y_c``; gates i, o, f, c."""
    x, w, r, bias, lengths, start, start_cell, peepholes = inputs
    if x is None or w is None or r is None or lengths is not None or peepholes is not None:
        raise BundleError("an LSTM without weights, with lengths or peepholes")
    hidden = int(node.attributes["hidden_size"])
    cells = []

    def direction(d: int, steps: Sequence[int], y: Array, f: Activation, g: Activation, last: Activation) -> Array:
        biases = np.zeros(8 * hidden, np.float32) if bias is None else bias[d]
        driven = _driven(tape, x, w[d], biases[: 4 * hidden] + biases[4 * hidden :])
        weights, count = r[d].T, x.shape[1]
        h, cell = _begin(tape, start, d, count, hidden), _begin(tape, start_cell, d, count, hidden)
        cell = tape.copied(cell)
        gates, candidate = tape.empty((count, 4 * hidden)), tape.empty((count, hidden))
        i, o, forget, c = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
        for t in steps:
            tape.call(np.dot, h, weights, gates)
            tape.call(np.add, gates, driven[t], gates)
            f(tape, gates[:, : 3 * hidden], gates[:, : 3 * hidden])
            g(tape, c, candidate)
            tape.call(np.multiply, candidate, i, candidate)
            tape.call(np.multiply, cell, forget, cell)
            tape.call(np.add, cell, candidate, cell)
            following = y[t, d]
            last(tape, cell, following)
            tape.call(np.multiply, following, o, following)
            h = following
        cells.append(cell)
        return h

    y, ends = _directions(tape, node, x, hidden, 3, direction)
    last_cells = tape.empty(ends.shape)
    for d, cell in enumerate(cells):
        tape.call(np.copyto, last_cells[d], cell)
    return [y, ends, last_cells]


def _directions(tape: Tape, node: Node, x: Array, hidden: int, count: int, run: Callable[..., Array]) -> list[Array]:
    """Run each direction with its ``count`` activations."""
    steps = list(range(len(x)))
    orders = {"forward": [steps], "reverse": [steps[::-1]], "bidirectional": [steps, steps[::-1]]}
    chosen = orders[node.attributes.get("direction", "forward")]
    if node.attributes.get("layout", 0) or "clip" in node.attributes or not steps:
        raise BundleError("a recurrent operator with batches first, clipping, or no steps")
    names = node.attributes.get("activations", ["Sigmoid", "Tanh", "Tanh"][:count] * len(chosen))
    alphas, betas = (list(node.attributes.get(f"activation_{name}", [])) for name in ("alpha", "beta"))
    activations = [_activation(name, alphas, betas) for name in names]
    y = tape.empty((len(x), len(chosen), x.shape[1], hidden))
    ends = tape.empty((len(chosen), x.shape[1], hidden))
    for d, order in enumerate(chosen):
        h = run(d, order, y, *activations[d * count : (d + 1) * count])
        tape.call(np.copyto, ends[d], h)
    return [y, ends]


def _driven(tape: Tape, x: Array, w: Array, bias: Array) -> Array:
    """``x W' + b`` of all steps at once, [T, N, gates]."""
    rows = (x if x.flags.c_contiguous else tape.copied(x)).reshape(-1, x.shape[2])
    out = tape.empty((len(rows), len(w)))
    tape.call(np.dot, rows, w.T, out)
    tape.call(np.add, out, bias, out)
    return out.reshape(*x.shape[:2], len(w))


def _begin(tape: Tape, start: Array | None, d: int, count: int, hidden: int) -> Array:
    if start is not None:
        given: Array = start[d]
        return given
    zeros = tape.empty((count, hidden))
    zeros.fill(0)
    return zeros


def _activation(name: str, alphas: list[float], betas: list[float]) -> Activation:
    """An activation by its name; parameters are taken from the front of the lists."""
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if name not in _PARAMETRIC:
        raise BundleError(f"the NumPy backend does not know the activation {name}")
    made, (alpha, beta) = _PARAMETRIC[name]
    return made(alphas.pop(0) if alphas else alpha, betas.pop(0) if betas else beta)
