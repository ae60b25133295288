"""FastRNN and FastGRNN over a whole sequence on a GPU: one Triton kernel forward, one backward.

Written step by step in torch, a recurrence launches several kernels a step and moves its state and U through memory
each time. Here a program takes a few rows of the batch and walks through all their steps: the state stays in registers
and U beside it, as its low-rank factors if it has them. A U that is too large is read from the cache in every step.

Backward needs z and c of each step. Forward saves neither, but what both are made of, x W + h U: half the memory, and
what is left to do is a handful of operations on each number. Starting from x W again would ask for a second product a
step, with a second copy of U on chip. The gradients of W and U are large products over all steps, after the kernel.

The kernels are plain functions until :func:`is_available` has imported Triton; nothing else here needs it.
"""

# ruff: noqa: N803 - upper case are sizes and the kernels' compile-time constants

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# triton.language, and what a kernel takes; Triton knows a compile-time constant by the name of its annotation.
tl: Any = None
Pointer = Any
Tile = Any
Number = Any
constexpr = Any

Saved = tuple[Tensor, ...]

_ON_DEVICE: list[Callable[..., Any]] = []


def _on_device(function: Callable[..., Any]) -> Any:
    """A function of the kernels, which :func:`_load_triton` hands over."""
    _ON_DEVICE.append(function)
    return function


# ---------------------------------------------------------------------------------------------------------------------
# On the GPU.
#
# Tiles are [H, N], the batch across: of the three sizes of a product only the last may be as small as 8 without waste,
# on tensor cores as in plain arithmetic, and 8 rows a program spread a batch of 1024 over 128 processors. Sizes are
# padded to powers of two. Padding enters every product as zeros and is never stored.


@_on_device
def _activate(x: Tile, NAME: constexpr) -> Tile:
    """A nonlinearity by name. NaN stays NaN."""
    if NAME == "tanh":
        # (1 - e) / (1 + e) cancels near 0; there the Taylor series is exact to rounding.
        e = tl.exp(-2.0 * tl.abs(x))
        far = (1.0 - e) / (1.0 + e)
        s = x * x
        near = x * (1.0 + s * (-1.0 / 3 + s * (2.0 / 15 + s * (-17.0 / 315 + s * (62.0 / 2835)))))
        y = tl.where(s < 0.0625, near, tl.where(x < 0.0, -far, far))
    elif NAME == "sigmoid":
        y = tl.sigmoid(x)
    elif NAME == "relu":
        y = tl.where(x < 0.0, 0.0, x)
    elif NAME == "quant_tanh":
        y = _clip(x, -1.0)
    elif NAME == "quant_sigmoid":
        y = _clip((x + 1.0) * 0.5, 0.0)
    else:
        tl.static_assert(NAME == "quant_sigmoid4")
        y = _clip((x + 2.0) * 0.25, 0.0)
    return y


@_on_device
def _clip(x: Tile, LOW: constexpr) -> Tile:
    """``x`` between ``LOW`` and 1."""
    return tl.where(x < LOW, LOW, tl.where(x > 1.0, 1.0, x))


@_on_device
def _slope(y: Tile, NAME: constexpr) -> Tile:
    """The derivative of a nonlinearity where its value is ``y``; 0 at a kink."""
    if NAME == "tanh":
        d = 1.0 - y * y
    elif NAME == "sigmoid":
        d = y * (1.0 - y)
    elif NAME == "relu":
        d = tl.where(y <= 0.0, 0.0, 1.0)
    elif NAME == "quant_tanh":
        d = tl.where(tl.abs(y) >= 1.0, 0.0, 1.0)
    elif NAME == "quant_sigmoid":
        d = tl.where((y <= 0.0) | (y >= 1.0), 0.0, 0.5)
    else:
        tl.static_assert(NAME == "quant_sigmoid4")
        d = tl.where((y <= 0.0) | (y >= 1.0), 0.0, 0.25)
    return d


@_on_device
def _load_vector(vector: Pointer, H: constexpr, BLOCK_H: constexpr) -> Tile:
    """[H] as [H, 1]."""
    column = tl.arange(0, BLOCK_H)[:, None]
    return tl.load(vector + column, mask=column < H, other=0.0).to(tl.float32)


@_on_device
def _load_rows(
    matrix: Pointer, first: Number, K: constexpr, M: constexpr, ROWS: constexpr, BLOCK_M: constexpr, OPERAND: constexpr
) -> Tile:
    """Rows of a matrix [K, M] from ``first`` on, transposed: [M, ROWS]."""
    row = first + tl.arange(0, ROWS)[None, :]
    column = tl.arange(0, BLOCK_M)[:, None]
    return tl.load(matrix + row * M + column, mask=(row < K) & (column < M), other=0.0).to(OPERAND)


@_on_device
def _load_parts(
    matrix: Pointer,
    K: constexpr,
    M: constexpr,
    PARTS: constexpr,
    ROWS: constexpr,
    BLOCK_M: constexpr,
    OPERAND: constexpr,
) -> Tile:
    """A matrix [K, M] in parts of some rows each, transposed: [PARTS, M, ROWS]."""
    row = tl.arange(0, PARTS)[:, None, None] * ROWS + tl.arange(0, ROWS)[None, None, :]
    column = tl.arange(0, BLOCK_M)[None, :, None]
    return tl.load(matrix + row * M + column, mask=(row < K) & (column < M), other=0.0).to(OPERAND)


@_on_device
def _add_product(
    total: Tile,  # [M, N]
    state: Tile,  # [K, N]
    matrix: Pointer,  # [K, M]; on chip, the tile of _load_rows
    K: constexpr,
    M: constexpr,
    CHUNK: constexpr,
    OPERAND: constexpr,
) -> Tile:
    """``total + matrix^T state``. A matrix in memory comes in chunks of rows, the next underway during a product."""
    state = state.to(OPERAND)
    if CHUNK == 0:
        total = tl.dot(matrix, state, total, input_precision="ieee")
    else:
        for first in tl.range(0, state.shape[0], CHUNK, num_stages=3):
            rows = tl.broadcast_to(first + tl.arange(0, CHUNK)[:, None], [CHUNK, state.shape[1]])
            chunk = _load_rows(matrix, first, K, M, CHUNK, total.shape[0], OPERAND)  # [M, CHUNK]
            total = tl.dot(chunk, tl.gather(state, rows, axis=0), total, input_precision="ieee")
    return total


@_on_device
def _add_recurrence(
    total: Tile,  # [H, N]
    state: Tile,  # [H, N]
    w1: Pointer,  # [H, R]; on chip, a tile: of _load_rows if it is alone, of _load_parts if there are two
    w2: Pointer,  # [R, H]; on chip, the tile of _load_rows; None: w1 is all
    H: constexpr,
    R: constexpr,
    BLOCK_R: constexpr,
    CHUNK: constexpr,
    OPERAND: constexpr,
) -> Tile:
    """``total + (w1 w2)^T state``"""
    if w2 is None:
        total = _add_product(total, state, w1, H, H, CHUNK, OPERAND)
    else:
        if CHUNK == 0:
            # As one product, R rows would occupy few threads, each with a long row of w1 in its registers.
            parts = tl.reshape(state.to(OPERAND), [w1.shape[0], w1.shape[2], state.shape[1]])
            low = tl.sum(tl.dot(w1, parts, input_precision="ieee"), axis=0)  # [R, N]
        else:
            low = _add_product(tl.zeros([BLOCK_R, state.shape[1]], tl.float32), state, w1, H, R, CHUNK, OPERAND)
        total = _add_product(total, low, w2, R, H, CHUNK, OPERAND)
    return total


@_on_device
def _forward(
    projected: Pointer,  # [T, N, H]
    stride_t: Number,
    stride_n: Number,
    h0: Pointer,  # [N, H]
    w1: Pointer,  # U, or U1 [H, R]
    w2: Pointer,  # None, or U2 [R, H]
    bias_gate: Pointer,  # [H]
    bias_update: Pointer,  # [H]
    a: Pointer,  # alpha of FastRNN, zeta of FastGRNN
    b: Pointer,  # beta, nu
    states: Pointer,  # [T + 1, N, H]
    pre: Pointer,  # [T, N, H], or None where no backward pass will follow
    T: Number,
    N: Number,
    GATE: constexpr,  # None: FastRNN, whose bias is in projected
    UPDATE: constexpr,
    H: constexpr,
    R: constexpr,
    BLOCK_N: constexpr,
    BLOCK_H: constexpr,
    BLOCK_R: constexpr,
    PARTS: constexpr,
    CHUNK: constexpr,  # 0: U stays on chip
    OPERAND: constexpr,
) -> None:
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]  # [1, N]
    column = tl.arange(0, BLOCK_H)[:, None]  # [H, 1]
    inside = (row < N) & (column < H)
    tile = row * H + column  # [H, N]
    tile_given = row.to(tl.int64) * stride_n + column
    if CHUNK == 0:
        if w2 is None:
            w1 = _load_rows(w1, 0, H, H, BLOCK_H, BLOCK_H, OPERAND)
        else:
            w1 = _load_parts(w1, H, R, PARTS, BLOCK_H // PARTS, BLOCK_R, OPERAND)
            w2 = _load_rows(w2, 0, R, H, BLOCK_R, BLOCK_H, OPERAND)
    if GATE is not None:
        bias_gate = _load_vector(bias_gate, H, BLOCK_H)
        bias_update = _load_vector(bias_update, H, BLOCK_H)
    a = tl.load(a).to(tl.float32)
    b = tl.load(b).to(tl.float32)

    h = tl.load(h0 + tile, mask=inside, other=0.0).to(tl.float32)
    tl.store(states + tile, h, mask=inside)
    x = tl.load(projected + tile_given, mask=inside, other=0.0)
    for t in range(T):
        projected += (t + 1 < T).to(tl.int32) * stride_t
        x_after = tl.load(projected + tile_given, mask=inside, other=0.0)  # underway during this step
        p = _add_recurrence(x.to(tl.float32), h, w1, w2, H, R, BLOCK_R, CHUNK, OPERAND)
        if GATE is None:
            c = _activate(p, UPDATE)
            h = b * h + a * c
        else:
            z = _activate(p + bias_gate, GATE)
            c = _activate(p + bias_update, UPDATE)
            h = (a * (1.0 - z) + b) * c + z * h
        if pre is not None:
            tl.store(pre + tile, p, mask=inside)
            pre += N * H
        states += N * H
        tl.store(states + tile, h, mask=inside)
        x = x_after


@_on_device
def _backward(
    grad_states: Pointer,  # [N, H] of the last step, and backwards from there
    stride_t: Number,
    stride_n: Number,
    states: Pointer,  # [N, H] before the last step, and backwards
    pre: Pointer,  # [N, H] of the last step, and backwards
    w1: Pointer,  # U^T, or U2^T [H, R]
    w2: Pointer,  # None, or U1^T [R, H]
    bias_gate: Pointer,  # [H]
    bias_update: Pointer,  # [H]
    a: Pointer,
    b: Pointer,
    dpre: Pointer,  # [N, H] of the last step, and backwards
    grad_h0: Pointer,  # [N, H]
    sums: Pointer,  # [2 or 2 + 2 H, programs]: a program's share of the gradients of a, b and the biases
    T: Number,
    N: Number,
    GATE: constexpr,
    UPDATE: constexpr,
    H: constexpr,
    R: constexpr,
    BLOCK_N: constexpr,
    BLOCK_H: constexpr,
    BLOCK_R: constexpr,
    PARTS: constexpr,
    CHUNK: constexpr,
    OPERAND: constexpr,
) -> None:
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]  # [1, N]
    column = tl.arange(0, BLOCK_H)[:, None]  # [H, 1]
    inside = (row < N) & (column < H)
    tile = row * H + column  # [H, N]
    tile_given = row.to(tl.int64) * stride_n + column
    if CHUNK == 0:
        if w2 is None:
            w1 = _load_rows(w1, 0, H, H, BLOCK_H, BLOCK_H, OPERAND)
        else:
            w1 = _load_parts(w1, H, R, PARTS, BLOCK_H // PARTS, BLOCK_R, OPERAND)
            w2 = _load_rows(w2, 0, R, H, BLOCK_R, BLOCK_H, OPERAND)
    if GATE is not None:
        bias_gate = _load_vector(bias_gate, H, BLOCK_H)
        bias_update = _load_vector(bias_update, H, BLOCK_H)
    a = tl.load(a).to(tl.float32)
    b = tl.load(b).to(tl.float32)

    dh = tl.zeros([BLOCK_H, BLOCK_N], tl.float32)
    grad_a = tl.zeros([BLOCK_H, BLOCK_N], tl.float32)
    grad_b = tl.zeros([BLOCK_H, BLOCK_N], tl.float32)
    grad_gate = tl.zeros([BLOCK_H, BLOCK_N], tl.float32)
    grad_update = tl.zeros([BLOCK_H, BLOCK_N], tl.float32)
    g = tl.load(grad_states + tile_given, mask=inside, other=0.0)
    h = tl.load(states + tile, mask=inside, other=0.0)
    p = tl.load(pre + tile, mask=inside, other=0.0)
    for t in range(T):
        further = (t + 1 < T).to(tl.int32)
        grad_states -= further * stride_t
        states -= further * N * H
        pre -= further * N * H
        g_before = tl.load(grad_states + tile_given, mask=inside, other=0.0)  # underway during this step
        h_before = tl.load(states + tile, mask=inside, other=0.0)
        p_before = tl.load(pre + tile, mask=inside, other=0.0)
        h = h.to(tl.float32)
        p = p.to(tl.float32)
        dh += g.to(tl.float32)
        if GATE is None:
            c = _activate(p, UPDATE)
            dp = dh * a * _slope(c, UPDATE)
            grad_a += dh * c
            grad_b += dh * h
            dh *= b
        else:
            z = _activate(p + bias_gate, GATE)
            c = _activate(p + bias_update, UPDATE)
            dz = dh * (h - a * c) * _slope(z, GATE)
            dc = dh * (a * (1.0 - z) + b) * _slope(c, UPDATE)
            dp = dz + dc
            grad_gate += dz
            grad_update += dc
            grad_a += dh * c * (1.0 - z)
            grad_b += dh * c
            dh *= z
        tl.store(dpre + tile, dp, mask=inside)
        dpre -= N * H
        dh = _add_recurrence(dh, dp, w1, w2, H, R, BLOCK_R, CHUNK, OPERAND)
        g, h, p = g_before, h_before, p_before
    tl.store(grad_h0 + tile, dh, mask=inside)

    programs = tl.num_programs(0)
    sums += tl.program_id(0)
    tl.store(sums, tl.sum(grad_a))
    tl.store(sums + programs, tl.sum(grad_b))
    if GATE is not None:
        sums += (2 + column) * programs
        tl.store(sums, tl.sum(grad_gate, axis=1, keep_dims=True), mask=column < H)
        tl.store(sums + H * programs, tl.sum(grad_update, axis=1, keep_dims=True), mask=column < H)


# ---------------------------------------------------------------------------------------------------------------------
# On the host.

_BLOCK_N = 8  # rows of the batch in a program
_LARGEST = 256  # H; beyond, one product a step for the whole batch reads less of U
_OPERANDS = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@functools.cache
def is_available() -> bool:
    """Whether Triton can be imported and there is a GPU for it, or its interpreter is on (``TRITON_INTERPRET=1``)."""
    try:
        return (_interpreted() or torch.cuda.is_available()) and _load_triton()
    except Exception:  # a driver or a Triton that is there but broken
        return False


def supports(projected: Tensor, u: Sequence[Tensor]) -> bool:
    """Whether the kernels can run on these tensors, and are a good choice for their size."""
    if not is_available() or projected.dtype not in _OPERANDS or projected.numel() == 0:
        return False
    _, batch, hidden = projected.shape
    if hidden > _LARGEST or batch * hidden >= 2**31 or any(factor.device != projected.device for factor in u):
        return False
    if _interpreted():
        return projected.device.type == "cpu"
    if projected.device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(projected.device) >= (8, 0)


def fastrnn_forward(
    projected: Tensor, h0: Tensor, u: Sequence[Tensor], alpha: Tensor, beta: Tensor, update: str, save: bool
) -> tuple[Tensor, Saved]:
    """``c = update(projected_t + h U)``, ``h' = beta h + alpha c`` for all steps.

    Args:
        projected: x W + b, [T, N, H].
        h0: [N, H].
        u: ``(U,)`` or ``(U1, U2)``.
        alpha: scalar, on the device like all tensors: its value is not waited for.
        beta: scalar.
        update: name of a nonlinearity.
        save: whether a backward pass will follow.

    Returns:
        h [T + 1, N, H], the initial state first; for the backward pass, projected + h U [T, N, H].
    """
    return _run_forward(
        projected, h0, u, save, a=alpha, b=beta, bias_gate=None, bias_update=None, GATE=None, UPDATE=update
    )


def fastrnn_backward(
    grad_states: Tensor, h: Tensor, saved: Saved, u: Sequence[Tensor], alpha: Tensor, beta: Tensor, update: str
) -> tuple[Tensor, ...]:
    """The gradients of ``projected`` [T, N, H], h0, alpha, beta and the factors of U."""
    (pre,) = saved
    dpre, grad_h0, sums = _run_backward(
        grad_states, h, pre, u, a=alpha, b=beta, bias_gate=None, bias_update=None, GATE=None, UPDATE=update
    )
    return dpre, grad_h0, *sums, *_factor_gradients(h, dpre, u)


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

    ``pre`` is ``projected_t + h U``, ``projected`` x W; the rest as in :func:`fastrnn_forward`, with the biases saved
    as well.
    """
    biases = {"bias_gate": bias_gate.contiguous(), "bias_update": bias_update.contiguous()}
    h, saved = _run_forward(projected, h0, u, save, a=zeta, b=nu, GATE=gate, UPDATE=update, **biases)
    return h, (*saved, *biases.values()) if save else saved


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
    pre, bias_gate, bias_update = saved
    dpre, grad_h0, sums = _run_backward(
        grad_states, h, pre, u, a=zeta, b=nu, bias_gate=bias_gate, bias_update=bias_update, GATE=gate, UPDATE=update
    )
    (grad_zeta, grad_nu), grad_biases = sums[:2], sums[2:].chunk(2)
    return dpre, grad_h0, *grad_biases, grad_zeta, grad_nu, *_factor_gradients(h, dpre, u)


def _run_forward(projected: Tensor, h0: Tensor, u: Sequence[Tensor], save: bool, **cell: Any) -> tuple[Tensor, Saved]:
    """All states, and the pre-activations if they are to be saved."""
    steps, batch, hidden = projected.shape
    projected = _with_unit_stride(projected)
    states = projected.new_empty(steps + 1, batch, hidden)
    pre = projected.new_empty(steps, batch, hidden) if save else None
    _launch(
        _forward, states, u, **cell, projected=projected, stride_t=projected.stride(0), stride_n=projected.stride(1),
        h0=h0.contiguous(), states=states, pre=pre,
    )  # fmt: skip
    return states, () if pre is None else (pre,)


def _run_backward(
    grad_states: Tensor, h: Tensor, pre: Tensor, u: Sequence[Tensor], **cell: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``projected`` [T, N, H] and h0 [N, H], and a vector of those of a, b and the biases."""
    _, batch, hidden = h.shape
    grad_states = _with_unit_stride(grad_states)
    dpre, grad_h0 = torch.empty_like(pre), torch.empty_like(h[0])
    sums = h.new_empty(2 if cell["GATE"] is None else 2 + 2 * hidden, _programs(batch), dtype=torch.float32)
    transposed = [factor.t() for factor in reversed(u)]  # dpre U^T = (dpre U2^T) U1^T
    _launch(
        _backward, h, transposed, **cell, grad_states=grad_states[-1], stride_t=grad_states.stride(0),
        stride_n=grad_states.stride(1), states=h[-2], pre=pre[-1], dpre=dpre[-1], grad_h0=grad_h0, sums=sums,
    )  # fmt: skip
    return dpre, grad_h0, sums.sum(1)


def _factor_gradients(h: Tensor, dpre: Tensor, u: Sequence[Tensor]) -> list[Tensor]:
    """Of U's factors, from all steps at once."""
    before, dpre = h[:-1].flatten(0, 1), dpre.flatten(0, 1)  # [T N, H]
    if len(u) == 1:
        return [before.t() @ dpre]
    u1, u2 = u
    return [before.t() @ (dpre @ u2.t()), (before @ u1).t() @ dpre]


def _launch(kernel: Any, h: Tensor, factors: Sequence[Tensor], **arguments: Any) -> None:
    """Run a kernel over states of this form [T + 1, N, H], which it multiplies by the factors, the first one first."""
    steps, batch, hidden = len(h) - 1, *h.shape[1:]
    w1, *rest = (factor.contiguous() for factor in factors)
    w2 = rest[0] if rest else None
    layout = _layout(hidden, w1.shape[1], w2 is not None, h.dtype, _shared_memory(h.device))
    with torch.cuda.device_of(h):  # Triton launches on the current device
        kernel[(_programs(batch),)](**arguments, w1=w1, w2=w2, T=steps, N=batch, H=hidden, **layout)


def _layout(hidden: int, rank: int, low_rank: bool, dtype: torch.dtype, shared_memory: int) -> dict[str, Any]:
    """How a program lays out U and the state: constants of the kernels, and the number of warps."""
    block_h, block_r = _padded(hidden), _padded(rank)
    factors = dtype.itemsize * block_h * block_r * (2 if low_rank else 1)
    tiles = 4 * block_h * _BLOCK_N * 4  # the state as an operand, and whatever passes from threads to threads
    warps = 4 if block_h <= 128 else 8
    operand = _OPERANDS[dtype]
    if _interpreted() and operand == "bfloat16":
        operand = "float32"  # the interpreter would multiply the bits: NumPy has no bfloat16
    return {
        "R": rank,
        "BLOCK_N": _BLOCK_N,
        "BLOCK_H": block_h,
        "BLOCK_R": block_r,
        "PARTS": min(warps if dtype == torch.float32 else 2, block_h // 16),
        "CHUNK": 0 if factors + tiles <= shared_memory else min(block_r, 128 // dtype.itemsize),
        "OPERAND": getattr(tl, operand),
        "num_warps": warps,
        "enable_fp_fusion": True,  # a product and a sum in one operation: twice the speed, and one rounding less
    }


def _padded(size: int) -> int:
    """A side of a tile: a power of two, and at least the 16 that a product must sum over."""
    return max(16, 1 << (size - 1).bit_length())


def _programs(batch: int) -> int:
    return -(-batch // _BLOCK_N)


@functools.cache
def _shared_memory(device: torch.device) -> int:
    """Bytes on chip for a program."""
    if device.type != "cuda":
        return 227 * 1024  # interpreted, as on an H100
    properties: Any = torch.cuda.get_device_properties(device)
    return int(properties.shared_memory_per_block_optin)


def _with_unit_stride(x: Tensor) -> Tensor:
    """[T, N, H] with neighbours in the last dimension; the other two may be transposed or expanded."""
    return x if x.stride(2) == 1 else x.contiguous()


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _load_triton() -> bool:
    """Import Triton and hand it the functions above; False if there is none."""
    if importlib.util.find_spec("triton") is None:
        return False
    names = globals()
    names["tl"] = importlib.import_module("triton.language")
    names.update(Pointer=tl.tensor, Tile=tl.tensor, Number=tl.tensor, constexpr=tl.constexpr)
    jit = importlib.import_module("triton").jit
    names.update({function.__name__: jit(function, do_not_specialize=["T", "N"]) for function in _ON_DEVICE})
    return True
