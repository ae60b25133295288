"""Nonlinearities of the FastCells, by name, and the recurrence of FastGRNN over a whole sequence.

The piecewise-linear forms are EdgeML's ``quantTanh``, ``quantSigm`` and ``quantSigm4``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def quant_tanh(x: Tensor) -> Tensor:
    """max(min(x, 1), -1)"""
    return x.clamp(-1.0, 1.0)


def quant_sigmoid(x: Tensor) -> Tensor:
    """max(min((x + 1) / 2, 1), 0)"""
    return ((x + 1.0) / 2.0).clamp(0.0, 1.0)


def quant_sigmoid4(x: Tensor) -> Tensor:
    """max(min((x + 2) / 4, 1), 0)"""
    return ((x + 2.0) / 4.0).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Nonlinearity:
    """A function, the same in place, and its backward pass: (gradient of the output, output) -> gradient of the input.

    All of them have a derivative that the output alone determines.
    """

    forward: Callable[[Tensor], Tensor]
    forward_: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _between(low: float, high: float, slope: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The backward pass of a line that is clipped to [low, high]; 0 at the kinks."""
    return lambda d, y: torch.where((y > low) & (y < high), slope * d, 0.0)


NONLINEARITIES: dict[str, Nonlinearity] = {
    "tanh": Nonlinearity(torch.tanh, torch.tanh_, torch.ops.aten.tanh_backward),
    "sigmoid": Nonlinearity(torch.sigmoid, torch.sigmoid_, torch.ops.aten.sigmoid_backward),
    "relu": Nonlinearity(torch.relu, torch.relu_, lambda d, y: torch.where(y > 0, d, 0.0)),
    "quant_tanh": Nonlinearity(quant_tanh, lambda x: x.clamp_(-1, 1), _between(-1, 1, 1.0)),
    "quant_sigmoid": Nonlinearity(quant_sigmoid, lambda x: x.add_(1).div_(2).clamp_(0, 1), _between(0, 1, 0.5)),
    "quant_sigmoid4": Nonlinearity(quant_sigmoid4, lambda x: x.add_(2).div_(4).clamp_(0, 1), _between(0, 1, 0.25)),
}


def nonlinearity(name: str) -> Nonlinearity:
    """Look a nonlinearity up.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    try:
        return NONLINEARITIES[name]
    except KeyError:
        raise ValueError(f"unknown nonlinearity {name!r}; known are {', '.join(NONLINEARITIES)}") from None


def fastgrnn_sequence(
    x: Tensor,
    h0: Tensor,
    w: tuple[Tensor, ...],
    u: tuple[Tensor, ...],
    bias_gate: Tensor,
    bias_update: Tensor,
    zeta: Tensor,
    nu: Tensor,
    gate_nonlinearity: str = "sigmoid",
    update_nonlinearity: str = "tanh",
) -> Tensor:
    """All states of FastGRNN over a sequence, with a hand-written backward pass.

    Kusupati et al., "FastGRNN: A Fast, Accurate, Stable and Tiny Kilobyte Sized Gated Recurrent Neural Network",
    NeurIPS 2018, equation (6)::

        z_t = gate(x_t W + h_{t-1} U + b_gate)
        c_t = update(x_t W + h_{t-1} U + b_update)
        h_t = (zeta (1 - z_t) + nu) c_t + z_t h_{t-1}

    Args:
        x: [T, N, D].
        h0: initial state, [N, H]; not changed.
        w: the factors of W, ``(W,)`` with [D, H], or ``(W1, W2)`` with [D, r] and [r, H].
        u: the factors of U, ``(U,)`` with [H, H], or ``(U1, U2)`` with [H, r] and [r, H].
        bias_gate: [H].
        bias_update: [H].
        zeta: scalar, after its sigmoid.
        nu: scalar, after its sigmoid.
        gate_nonlinearity: a name of :data:`NONLINEARITIES`.
        update_nonlinearity: a name of :data:`NONLINEARITIES`.

    Returns:
        h_1 .. h_T, [T, N, H].

    Differentiable once in every tensor argument.
    """
    names = (gate_nonlinearity, update_nonlinearity)
    states: Tensor = _FastGRNNSequence.apply(  # type: ignore[no-untyped-call]
        x, h0, reduce(torch.matmul, w), bias_gate, bias_update, zeta, nu, names, *u
    )
    return states


# Steps of the backward pass that share a chunk: together about this many numbers. Fewer would pay each chunk's fixed
# cost too often; measured on T 128, batch 100, H 64.
_CHUNK_ELEMENTS = 1 << 17


class _FastGRNNSequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        w: Tensor,
        bias_gate: Tensor,
        bias_update: Tensor,
        zeta: Tensor,
        nu: Tensor,
        names: tuple[str, str],
        *u: Tensor,
    ) -> Tensor:
        gate_, update_ = (nonlinearity(name).forward_ for name in names)
        steps, nu_ = len(x), nu.item()
        # One allocation: the C library keeps one large block for the next call, but gives several back to the system.
        memory = x.new_empty(3 * steps + 1, *h0.shape)
        h, c, z = _parts(memory, steps)
        h[0] = h0
        # c becomes x W + b_update, the pre-activation, and at last the candidate, in place.
        torch.addmm(bias_update, x.flatten(0, 1), w, out=c.flatten(0, 1))
        bias = bias_gate - bias_update
        add_product = _adder(u)
        between = x.new_empty(len(h0), len(u[-1]))
        scaled = torch.empty_like(h0)
        h_last = h[0]
        for h_t, c_t, z_t in zip(h[1:].unbind(), c.unbind(), z.unbind(), strict=True):
            add_product(c_t, h_last, between)
            gate_(torch.add(c_t, bias, out=z_t))
            update_(c_t)
            torch.mul(c_t, zeta, out=scaled)
            torch.lerp(scaled, h_last, z_t, out=h_t)
            if nu_:
                h_t.add_(c_t, alpha=nu_)
            h_last = h_t
        ctx.names, ctx.zeta, ctx.nu = names, zeta.item(), nu_
        ctx.save_for_backward(x, memory, w, *u)
        return h[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:
        """Chunks of steps, last one first.

        With dh_t the whole gradient at h_t, the gradient of each pre-activation is dh_t times a coefficient that
        needs no recursion. So the coefficients are computed for a chunk at once, the loop keeps only the recursion
        dh_{t-1} = grad_{t-1} + z_t dh_t + dpre_t U^T, and the weight gradients are one product a chunk.
        """
        x, memory, w, *u = ctx.saved_tensors
        gate, update = (nonlinearity(name).backward for name in ctx.names)
        steps, (batch, hidden) = len(x), memory.shape[1:]
        h, c, z = _parts(memory, steps)
        u_transposed = [factor.t().contiguous() for factor in reversed(u)]
        add_product = _adder(u_transposed)
        chunk = max(1, min(steps, _CHUNK_ELEMENTS // (batch * hidden)))
        dh = x.new_empty(chunk + 1, batch, hidden)  # row 0 is the step before the chunk
        dpre = x.new_empty(chunk, batch, hidden)
        between = x.new_empty(chunk, batch, len(u_transposed[-1]))  # of two factors: dpre_t U2^T
        dh[0] = grad_h[-1]
        grad_before = [torch.zeros_like(dh[0]), *grad_h[:-1].unbind()]
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_w, *grad_u = (torch.zeros_like(factor) for factor in (w, *u))
        grad_gate, grad_both = x.new_zeros(2, hidden)
        grad_zeta, grad_nu = x.new_zeros(2)
        for stop in range(steps, 0, -chunk):
            part = slice(max(0, stop - chunk), stop)
            z_, c_, h_last = z[part], c[part], h[part]
            n = len(z_)
            dh[n] = dh[0]
            dh_, dpre_, between_ = dh[1 : n + 1], dpre[:n], between[:n]
            to_gate = gate(torch.sub(h_last, c_, alpha=ctx.zeta), z_)
            to_both = update(torch.mul(z_, -ctx.zeta).add_(ctx.zeta + ctx.nu), c_).add_(to_gate)
            rows = (dh[:n], dh_, dpre_, between_, to_both, z_)
            for grad_t, dh_before, dh_t, dpre_t, between_t, to_both_t, z_t in zip(
                reversed(grad_before[part]), *(reversed(row.unbind()) for row in rows), strict=True
            ):
                torch.mul(dh_t, to_both_t, out=dpre_t)
                torch.addcmul(grad_t, dh_t, z_t, out=dh_before)
                add_product(dh_before, dpre_t, between_t)
            flat, flat_h = dpre_.flatten(0, 1), h_last.flatten(0, 1)  # [n N, H]
            grad_w.addmm_(x[part].flatten(0, 1).t(), flat)
            if len(u) == 2:
                grad_u[0].addmm_(flat_h.t(), between_.flatten(0, 1))
                grad_u[1].addmm_((flat_h @ u[0]).t(), flat)
            else:
                grad_u[0].addmm_(flat_h.t(), flat)
            if grad_x is not None:
                grad_x[part] = dpre_ @ w.t()
            grad_both += flat.sum(0)
            grad_gate += to_gate.mul_(dh_).flatten(0, 1).sum(0)
            dh_.mul_(c_)
            grad_nu += dh_.sum()
            grad_zeta -= torch.dot(dh_.flatten(), z_.flatten())
        grad_zeta += grad_nu
        return grad_x, dh[0], grad_w, grad_gate, grad_both - grad_gate, grad_zeta, grad_nu, None, *grad_u


def _parts(memory: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """h [T + 1, N, H], the initial state first; c [T, N, H]; z [T, N, H]."""
    return memory[: steps + 1], memory[steps + 1 : 2 * steps + 1], memory[2 * steps + 1 :]


def _adder(factors: Sequence[Tensor]) -> Callable[[Tensor, Tensor, Tensor], object]:
    """``total += x @ matrix``, for a matrix given by one factor or two; ``between`` takes ``x`` times the first."""
    *first, last = factors
    if not first:
        return lambda total, x, between: total.addmm_(x, last)
    return lambda total, x, between: total.addmm_(torch.mm(x, first[0], out=between), last)
