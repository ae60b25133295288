"""FastRNN and FastGRNN over a whole sequence on a CPU, compiled by Numba.

Written step by step in torch, a step of a small cell spends most of its time between its operators. Here a compiled
loop takes a few rows of the batch and walks through all their steps: two small products, then the curves and the blend,
in memory that stays in a core's cache. Tiles of rows are independent, so threads share them. Which rows make a tile
does not depend on the number of threads, and so neither does a bit of the result.

Each pass is a loop of its own over few arrays: LLVM vectorises a loop only where a handful of comparisons shows that
what is written overlaps nothing that is read. With ``contract`` alone of the fast-math flags, NaN stays NaN.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import llvmlite.ir as ir
import numpy as np
import numpy.typing as npt
import torch
from numba import njit, types
from numba.extending import intrinsic, overload
from torch import Tensor

Array = npt.NDArray[Any]
Saved = tuple[Tensor, ...]

TANH, SIGMOID, RELU, QUANT_TANH, QUANT_SIGMOID, QUANT_SIGMOID4 = range(6)
CODES = {
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "relu": RELU,
    "quant_tanh": QUANT_TANH,
    "quant_sigmoid": QUANT_SIGMOID,
    "quant_sigmoid4": QUANT_SIGMOID4,
}

# Rows of a tile times H: about ten such arrays stay in a core's second-level cache, and a batch of 100 still has work
# for several cores.
_TILE_ELEMENTS = 2048


def supports(projected: Tensor, u: Sequence[Tensor]) -> bool:
    """Whether the kernels can run on these tensors."""
    return projected.device.type == "cpu" and projected.dtype in (torch.float32, torch.float64)


def fastrnn_forward(
    projected: Tensor, h0: Tensor, u: Sequence[Tensor], alpha: Tensor, beta: Tensor, update: str, save: bool
) -> tuple[Tensor, Saved]:
    """``c = update(projected_t + h U)``, ``h' = beta h + alpha c`` for all steps.

    Args:
        projected: x W + b, [T, N, H].
        h0: [N, H].
        u: ``(U,)`` or ``(U1, U2)``.
        alpha: scalar.
        beta: scalar.
        update: name of a nonlinearity.
        save: whether a backward pass will follow.

    Returns:
        h [T + 1, N, H], the initial state first; for the backward pass c [T, N, H] and h U1 [T, N, u_rank].
    """
    h, between, c = _memory(projected, h0, u, 1, save)
    arrays = tuple(map(_array, (projected, h, between, c)))
    alpha_, beta_ = _scalars(h, alpha, beta)
    u_ = _factors(u)
    _in_tiles(h0.shape, lambda tile, rows: _fastrnn_forward(*arrays, *u_, alpha_, beta_, CODES[update], *rows))
    return h, (between, c)


def fastrnn_backward(
    grad_states: Tensor, h: Tensor, saved: Saved, u: Sequence[Tensor], alpha: Tensor, beta: Tensor, update: str
) -> tuple[Tensor, ...]:
    """The gradients of ``projected`` [T, N, H], h0, alpha, beta and the factors of U."""
    contributed, c = saved
    dpre, between, grad_h0 = torch.empty_like(c), torch.empty_like(contributed), torch.empty_like(h[0])
    sums = h.new_zeros(_tiles(h.shape[1:]), 2)
    arrays = tuple(map(_array, (grad_states, h, c, between, dpre, grad_h0, sums)))
    alpha_, beta_ = _scalars(h, alpha, beta)
    u_ = _factors([factor.t() for factor in reversed(u)])
    _in_tiles(
        h.shape[1:], lambda tile, rows: _fastrnn_backward(*arrays, *u_, alpha_, beta_, CODES[update], tile, *rows)
    )
    grad_alpha, grad_beta = sums.sum(0)
    return dpre, grad_h0, grad_alpha, grad_beta, *_factor_gradients(h, contributed, dpre, between, u)


def fastgrnn_forward(
    projected: Tensor,
    h0: Tensor,
    u: Sequence[Tensor],
    bias_gate: Tensor,
    bias_update: Tensor,
    zeta: Tensor,
    nu: Tensor,
    gate: str,
    update: str,
    save: bool,
) -> tuple[Tensor, Saved]:
    """``z = gate(pre + bias_gate)``, ``c = update(pre + bias_update)``, ``h' = (zeta (1 - z) + nu) c + z h``.

    ``pre`` is ``projected_t + h U``, ``projected`` x W; the rest as in :func:`fastrnn_forward`, with z saved as well.
    """
    h, between, z, c = _memory(projected, h0, u, 2, save)
    arrays = tuple(map(_array, (projected, h, between, z, c)))
    parameters = (*_factors(u), _array(bias_gate), _array(bias_update), *_scalars(h, zeta, nu))
    codes = CODES[gate], CODES[update]
    _in_tiles(h0.shape, lambda tile, rows: _fastgrnn_forward(*arrays, *parameters, *codes, *rows))
    return h, (between, z, c)


def fastgrnn_backward(
    grad_states: Tensor,
    h: Tensor,
    saved: Saved,
    u: Sequence[Tensor],
    zeta: Tensor,
    nu: Tensor,
    gate: str,
    update: str,
) -> tuple[Tensor, ...]:
    """The gradients of ``projected`` [T, N, H], h0, bias_gate, bias_update, zeta, nu and the factors of U."""
    contributed, z, c = saved
    dpre, between, grad_h0 = torch.empty_like(c), torch.empty_like(contributed), torch.empty_like(h[0])
    tiles = _tiles(h.shape[1:])
    biases, sums = h.new_zeros(2, tiles, h.shape[2]), h.new_zeros(tiles, 2)
    arrays = tuple(map(_array, (grad_states, h, z, c, between, dpre, grad_h0, *biases, sums)))
    parameters = (*_factors([factor.t() for factor in reversed(u)]), *_scalars(h, zeta, nu))
    codes = CODES[gate], CODES[update]
    _in_tiles(h.shape[1:], lambda tile, rows: _fastgrnn_backward(*arrays, *parameters, *codes, tile, *rows))
    grad_gate, grad_both = biases.sum(1)
    grad_zeta, grad_nu = sums.sum(0)
    grad_u = _factor_gradients(h, contributed, dpre, between, u)
    return dpre, grad_h0, grad_gate, grad_both - grad_gate, grad_zeta, grad_nu, *grad_u


def _factor_gradients(
    h: Tensor, contributed: Tensor, dpre: Tensor, between: Tensor, u: Sequence[Tensor]
) -> list[Tensor]:
    """Of U's factors, one product over all steps each.

    Args:
        h: [T + 1, N, H].
        contributed: h U1, [T, N, u_rank].
        dpre: gradient of the pre-activations, [T, N, H].
        between: dpre U2^T, [T, N, u_rank].
        u: the factors.
    """
    before, dpre = h[:-1].flatten(0, 1), dpre.flatten(0, 1)  # [T N, H]
    if len(u) == 1:
        return [before.t() @ dpre]
    return [before.t() @ between.flatten(0, 1), contributed.flatten(0, 1).t() @ dpre]


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().contiguous().numpy()
    return array


def _factors(u: Sequence[Tensor]) -> tuple[Array, Array]:
    """Two factors; in the place of the first of only one lies an empty matrix."""
    *first, last = map(_array, u)
    return (first[0] if first else last[:0, :0].copy()), last


def _memory(projected: Tensor, h0: Tensor, u: Sequence[Tensor], curves: int, save: bool) -> list[Tensor]:
    """What a forward pass writes: h [T + 1, N, H], h0 first; h U1 [T, N, u_rank]; ``curves`` times [T, N, H].

    Where nobody will ask for them again, all but h are of one step.
    """
    steps, (batch, hidden) = len(projected), h0.shape
    kept, rank = steps if save else 1, len(u[1]) if len(u) == 2 else 0
    shapes = [(steps + 1, batch, hidden), (kept, batch, rank), *[(kept, batch, hidden)] * curves]
    # One allocation: the C library keeps one large block for the next call, but gives several back to the system.
    parts = projected.new_empty(sum(map(math.prod, shapes))).split([*map(math.prod, shapes)])
    h, *others = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
    h[0] = h0
    return [h, *others]


def _scalars(like: Tensor, *scalars: Tensor) -> tuple[Any, ...]:
    """Numbers of the type that the arrays have: Numba would compute with a Python float in double precision."""
    kind = like.numpy().dtype.type
    return tuple(kind(scalar.item()) for scalar in scalars)


# ---------------------------------------------------------------------------------------------------------------------
# Tiles and threads


def _tiles(shape: Sequence[int]) -> int:
    batch, hidden = shape
    return -(-batch // max(1, _TILE_ELEMENTS // hidden))


def _in_tiles(shape: Sequence[int], run: Callable[[int, tuple[int, int]], None]) -> None:
    """``run(tile, (first row, behind the last))`` for tiles of rows that cover the batch, on torch's threads."""
    tiles = _tiles(shape)
    bounds = [shape[0] * tile // max(1, tiles) for tile in range(tiles + 1)]
    threads = min(torch.get_num_threads(), tiles)
    queue = iter(range(tiles))  # a thread that is held up holds up one tile

    def work() -> None:
        for tile in queue:
            run(tile, (bounds[tile], bounds[tile + 1]))

    others = [_executor(threads).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fastzoo")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executor.cache_clear)  # the threads did not come along


# ---------------------------------------------------------------------------------------------------------------------
# Compiled


def _compiled(function: Any) -> Any:
    """Compile on the first call with each type, without Python's lock; kept on disk where there is a place for it."""
    compile_ = partial(njit, fastmath={"contract"}, error_model="numpy", nogil=True)
    try:
        return compile_(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return compile_()(function)


@intrinsic
def _float_from_bits(context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _exp(x: float) -> float:
    """e to the x; compiled for float32, of operations that LLVM can vectorise."""
    return math.exp(x)


@overload(_exp, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _compiled_exp(x: Any) -> Any:
    if x != types.float32:

        def libm_exp(x: Any) -> Any:
            return math.exp(x)

        return libm_exp
    log2_e, half, lowest, highest = map(np.float32, (1 / math.log(2), 0.5, -87.0, 88.0))
    ln2_high = np.float32(0.693359375)  # few bits, so that its product with a small whole number is exact
    ln2_low = np.float32(math.log(2) - 0.693359375)
    # Taylor's series: |r| <= ln(2) / 2, where the first term left out is 5e-9 of the whole.
    c0, c1, c2, c3, c4, c5, c6, c7 = (np.float32(1 / math.factorial(k)) for k in range(8))
    exponent_bias, mantissa_bits = np.int32(127), np.int32(23)

    def exp(x: Any) -> Any:
        x = lowest if x < lowest else x  # in this form NaN stays
        x = highest if x > highest else x
        n = np.floor(x * log2_e + half)
        r = (x - n * ln2_high) - n * ln2_low
        series = ((((((c7 * r + c6) * r + c5) * r + c4) * r + c3) * r + c2) * r + c1) * r + c0
        whole = np.int32(n if n == n else half)
        bits = np.int32((whole + exponent_bias) << mantissa_bits)
        return series * _float_from_bits(bits)  # type: ignore[call-arg]

    return exp


def _tanh(x: float) -> float:
    """The hyperbolic tangent; compiled for float32, of operations that LLVM can vectorise."""
    return math.tanh(x)


@overload(_tanh, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _compiled_tanh(x: Any) -> Any:
    if x != types.float32:

        def libm_tanh(x: Any) -> Any:
            below = math.expm1(-2 * abs(x))  # exp(-2 |x|) - 1, which does not cancel near 0
            return math.copysign(below / (2 + below), x)

        return libm_tanh
    one, two, small = np.float32(1), np.float32(2), np.float32(0.0625)
    # Near 0, 2 / (1 + e) - 1 cancels; Taylor's series is exact to rounding there.
    t3, t5, t7, t9 = (np.float32(c) for c in (-1 / 3, 2 / 15, -17 / 315, 62 / 2835))

    def tanh(x: Any) -> Any:
        s = x * x
        near = x + x * s * (t3 + s * (t5 + s * (t7 + s * t9)))
        far = two / (one + _exp(-two * x)) - one
        return near if s < small else far

    return tanh


@_compiled
def _activate(y: Array, code: int) -> None:
    """A nonlinearity in place."""
    kind = y.dtype.type
    zero, half, quarter, one = kind(0), kind(0.5), kind(0.25), kind(1)
    if code == SIGMOID:
        for i in range(y.size):
            y[i] = one / (one + _exp(-y[i]))
    elif code == TANH:
        for i in range(y.size):
            y[i] = _tanh(y[i])
    elif code == RELU:
        for i in range(y.size):
            y[i] = zero if y[i] < zero else y[i]
    elif code == QUANT_TANH:
        for i in range(y.size):
            above = -one if y[i] < -one else y[i]
            y[i] = one if above > one else above
    else:
        slope = half if code == QUANT_SIGMOID else quarter
        for i in range(y.size):
            line = slope * y[i] + half
            above = zero if line < zero else line
            y[i] = one if above > one else above


@_compiled
def _differentiate(d: Array, y: Array, code: int) -> None:
    """Times the slope of a nonlinearity where its output is ``y``, in place; 0 at the kinks."""
    kind = y.dtype.type
    zero, half, quarter, one = kind(0), kind(0.5), kind(0.25), kind(1)
    if code == SIGMOID:
        for i in range(y.size):
            d[i] *= y[i] * (one - y[i])
    elif code == TANH:
        for i in range(y.size):
            d[i] *= one - y[i] * y[i]
    elif code == RELU:
        for i in range(y.size):
            d[i] = zero if y[i] <= zero else d[i]
    elif code == QUANT_TANH:
        for i in range(y.size):
            d[i] = zero if abs(y[i]) >= one else d[i]
    else:
        slope = half if code == QUANT_SIGMOID else quarter
        for i in range(y.size):
            d[i] = zero if y[i] <= zero or y[i] >= one else slope * d[i]


@_compiled
def _product(x: Array, first: Array, last: Array, between: Array, out: Array) -> None:
    """``between = x @ first``, ``out = between @ last``; or ``out = x @ last`` where ``first`` is empty."""
    if first.size:
        np.dot(x, first, between)
        np.dot(between, last, out)
    else:
        np.dot(x, last, out)


@_compiled
def _add(total: Array, x: Array) -> None:
    for i in range(total.size):
        total[i] += x[i]


@_compiled
def _fastrnn_forward(
    x: Array,
    h: Array,
    between: Array,
    c: Array,
    u1: Array,
    u2: Array,
    alpha: float,
    beta: float,
    update: int,
    first: int,
    stop: int,
) -> None:
    steps, _, hidden = x.shape
    size = (stop - first) * hidden
    recurrent = np.empty((stop - first, hidden), x.dtype)
    pre = recurrent.reshape(size)
    for t in range(steps):
        kept = min(t, len(c) - 1)
        h_last, h_t = h[t, first:stop], h[t + 1, first:stop].reshape(size)
        x_t, c_t = x[t, first:stop].reshape(size), c[kept, first:stop].reshape(size)
        _product(h_last, u1, u2, between[kept, first:stop], recurrent)
        for i in range(size):
            c_t[i] = x_t[i] + pre[i]
        _activate(c_t, update)
        before = h_last.reshape(size)
        for i in range(size):
            h_t[i] = beta * before[i] + alpha * c_t[i]


@_compiled
def _fastrnn_backward(
    grad: Array,
    h: Array,
    c: Array,
    between: Array,
    dpre: Array,
    grad_h0: Array,
    sums: Array,
    u2t: Array,
    u1t: Array,
    alpha: float,
    beta: float,
    update: int,
    tile: int,
    first: int,
    stop: int,
) -> None:
    steps, _, hidden = grad.shape
    size = (stop - first) * hidden
    recurrent = np.empty((stop - first, hidden), h.dtype)
    through_u = recurrent.reshape(size)
    dh, to_alpha, to_beta = np.zeros(size, h.dtype), np.zeros(size, h.dtype), np.zeros(size, h.dtype)
    for t in range(steps - 1, -1, -1):
        before, c_t = h[t, first:stop].reshape(size), c[t, first:stop].reshape(size)
        _add(dh, grad[t, first:stop].reshape(size))
        for i in range(size):
            to_alpha[i] += dh[i] * c_t[i]
        for i in range(size):
            to_beta[i] += dh[i] * before[i]
        dpre_t = dpre[t, first:stop]
        d = dpre_t.reshape(size)
        for i in range(size):
            d[i] = alpha * dh[i]
        _differentiate(d, c_t, update)
        _product(dpre_t, u2t, u1t, between[t, first:stop], recurrent)
        for i in range(size):
            dh[i] = beta * dh[i] + through_u[i]
    grad_h0[first:stop] = dh.reshape(stop - first, hidden)
    sums[tile, 0], sums[tile, 1] = to_alpha.sum(), to_beta.sum()


@_compiled
def _fastgrnn_forward(
    x: Array,
    h: Array,
    between: Array,
    z: Array,
    c: Array,
    u1: Array,
    u2: Array,
    bias_gate: Array,
    bias_update: Array,
    zeta: float,
    nu: float,
    gate: int,
    update: int,
    first: int,
    stop: int,
) -> None:
    steps, _, hidden = x.shape
    size, whole = (stop - first) * hidden, zeta + nu
    recurrent = np.empty((stop - first, hidden), x.dtype)
    pre = recurrent.reshape(size)
    to_gate, to_update = np.empty(size, x.dtype), np.empty(size, x.dtype)  # the biases of each row
    for i in range(size):
        to_gate[i], to_update[i] = bias_gate[i % hidden], bias_update[i % hidden]
    for t in range(steps):
        h_last, h_t = h[t, first:stop], h[t + 1, first:stop].reshape(size)
        kept = min(t, len(z) - 1)
        z_t, c_t = z[kept, first:stop].reshape(size), c[kept, first:stop].reshape(size)
        _product(h_last, u1, u2, between[kept, first:stop], recurrent)
        _add(pre, x[t, first:stop].reshape(size))
        for i in range(size):
            z_t[i] = pre[i] + to_gate[i]
        for i in range(size):
            c_t[i] = pre[i] + to_update[i]
        _activate(z_t, gate)
        _activate(c_t, update)
        before = h_last.reshape(size)
        for i in range(size):
            h_t[i] = (whole - zeta * z_t[i]) * c_t[i] + z_t[i] * before[i]


@_compiled
def _fastgrnn_backward(
    grad: Array,
    h: Array,
    z: Array,
    c: Array,
    between: Array,
    dpre: Array,
    grad_h0: Array,
    grad_gate: Array,
    grad_both: Array,
    sums: Array,
    u2t: Array,
    u1t: Array,
    zeta: float,
    nu: float,
    gate: int,
    update: int,
    tile: int,
    first: int,
    stop: int,
) -> None:
    steps, _, hidden = grad.shape
    size, whole = (stop - first) * hidden, zeta + nu
    recurrent = np.empty((stop - first, hidden), h.dtype)
    through_u = recurrent.reshape(size)
    dh, dz = np.zeros(size, h.dtype), np.empty(size, h.dtype)
    to_gate, to_both = np.zeros(size, h.dtype), np.zeros(size, h.dtype)
    to_zeta, to_nu = np.zeros(size, h.dtype), np.zeros(size, h.dtype)
    for t in range(steps - 1, -1, -1):
        before = h[t, first:stop].reshape(size)
        z_t, c_t = z[t, first:stop].reshape(size), c[t, first:stop].reshape(size)
        dpre_t = dpre[t, first:stop]
        d = dpre_t.reshape(size)
        _add(dh, grad[t, first:stop].reshape(size))
        for i in range(size):
            dc = dh[i] * c_t[i]
            to_nu[i] += dc
            to_zeta[i] += dc - dc * z_t[i]
        for i in range(size):
            dz[i] = dh[i] * (before[i] - zeta * c_t[i])
        _differentiate(dz, z_t, gate)
        for i in range(size):
            d[i] = dh[i] * (whole - zeta * z_t[i])
        _differentiate(d, c_t, update)
        for i in range(size):
            d[i] += dz[i]
            to_gate[i] += dz[i]
            to_both[i] += d[i]
        _product(dpre_t, u2t, u1t, between[t, first:stop], recurrent)
        for i in range(size):
            dh[i] = dh[i] * z_t[i] + through_u[i]
    grad_h0[first:stop] = dh.reshape(stop - first, hidden)
    for i in range(size):
        grad_gate[tile, i % hidden] += to_gate[i]
        grad_both[tile, i % hidden] += to_both[i]
    sums[tile, 0], sums[tile, 1] = to_zeta.sum(), to_nu.sum()
