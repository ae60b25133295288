"""Nonlinearities of the FastCells, by name, and the recurrence of FastGRNN over a whole sequence.

The piecewise-linear forms are EdgeML's ``quantTanh``, ``quantSigm`` and ``quantSigm4``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """A function, the same function in place, and its derivative as a function of its *output*."""

    forward: Callable[[Tensor], Tensor]
    forward_: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _inside(y: Tensor, low: float, high: float, slope: float) -> Tensor:
    return ((y > low) & (y < high)).to(y.dtype).mul_(slope)


NONLINEARITIES: dict[str, Nonlinearity] = {
    "tanh": Nonlinearity(torch.tanh, torch.tanh_, lambda y: 1 - y * y),
    "sigmoid": Nonlinearity(torch.sigmoid, torch.sigmoid_, lambda y: y * (1 - y)),
    "relu": Nonlinearity(torch.relu, torch.relu_, lambda y: (y > 0).to(y.dtype)),
    "quant_tanh": Nonlinearity(
        quant_tanh,
        lambda x: x.clamp_(-1, 1),
        lambda y: _inside(y, -1, 1, 1.0),
    ),
    "quant_sigmoid": Nonlinearity(
        quant_sigmoid,
        lambda x: x.add_(1).div_(2).clamp_(0, 1),
        lambda y: _inside(y, 0, 1, 0.5),
    ),
    "quant_sigmoid4": Nonlinearity(
        quant_sigmoid4,
        lambda x: x.add_(2).div_(4).clamp_(0, 1),
        lambda y: _inside(y, 0, 1, 0.25),
    ),
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
    xw: Tensor,
    h0: Tensor,
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
        xw: ``x W`` for all steps, [T, N, H].
        h0: initial state, [N, H]; not changed.
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
    states: Tensor = _FastGRNNSequence.apply(xw, h0, bias_gate, bias_update, zeta, nu, names, *u)  # type: ignore[no-untyped-call]
    return states


_CHUNK_ELEMENTS = 1 << 16  # scratch of the backward pass: four buffers of this many numbers, within a core's cache


class _FastGRNNSequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        xw: Tensor,
        h0: Tensor,
        bias_gate: Tensor,
        bias_update: Tensor,
        zeta: Tensor,
        nu: Tensor,
        names: tuple[str, str],
        *u: Tensor,
    ) -> Tensor:
        gate_, update_ = (nonlinearity(name).forward_ for name in names)
        zeta_, nu_ = zeta.item(), nu.item()
        h = torch.empty(len(xw) + 1, *h0.shape, dtype=xw.dtype, device=xw.device)  # [T + 1, N, H]
        h[0] = h0
        c = xw + bias_update  # becomes the pre-activation, then c, in place
        z = torch.empty_like(c)
        bias = bias_gate - bias_update
        scratch = torch.empty_like(h0)
        for h_last, h_t, c_t, z_t in zip(h[:-1].unbind(), h[1:].unbind(), c.unbind(), z.unbind(), strict=True):
            c_t.addmm_(h_last @ u[0] if len(u) == 2 else h_last, u[-1])
            gate_(torch.add(c_t, bias, out=z_t))
            update_(c_t)
            torch.mul(c_t, zeta_, out=scratch)
            torch.lerp(scratch, h_last, z_t, out=h_t)
            if nu_:
                h_t.add_(c_t, alpha=nu_)
        ctx.names, ctx.zeta, ctx.nu = names, zeta_, nu_
        ctx.save_for_backward(h, z, c, *u)
        return h[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:
        """With dh_t the whole gradient at h_t, the gradient of each pre-activation is dh_t times a coefficient that
        needs no recursion. So the coefficients are computed for a chunk of steps at once, the loop keeps only the
        recursion, and the weight gradients are one product a chunk. A chunk's scratch fits the cache."""
        h, z, c, *u = ctx.saved_tensors
        gate, update = (nonlinearity(name) for name in ctx.names)
        u_t = [factor.t().contiguous() for factor in reversed(u)]  # (U2^T, U1^T) or (U^T,)
        steps, (batch, hidden) = len(z), z.shape[1:]
        chunk = max(1, min(steps, _CHUNK_ELEMENTS // (batch * hidden)))
        dpre = torch.empty_like(z)  # the gradient of x W, [T, N, H]
        to_gate, to_update, to_both, dh = z.new_empty(4, chunk, batch, hidden)
        grad_u = [torch.zeros_like(factor) for factor in u]
        grad_gate, grad_update = z.new_zeros(2, hidden)
        grad_zeta, grad_nu = z.new_zeros(2)
        dh_t = torch.zeros_like(h[0])
        for stop in range(steps, 0, -chunk):
            part = slice(max(0, stop - chunk), stop)
            n = part.stop - part.start
            z_, c_, h_last, dpre_ = z[part], c[part], h[part], dpre[part]
            gate_, update_, both_, dh_ = to_gate[:n], to_update[:n], to_both[:n], dh[:n]
            torch.sub(h_last, c_, alpha=ctx.zeta, out=gate_).mul_(gate.slope(z_))
            torch.mul(z_, -ctx.zeta, out=update_).add_(ctx.zeta + ctx.nu).mul_(update.slope(c_))
            torch.add(gate_, update_, out=both_)
            rows = (grad_h[part].unbind(), dh_.unbind(), dpre_.unbind(), both_.unbind(), z_.unbind())
            for grad_t, whole_t, dpre_t, both_t, z_t in reversed(list(zip(*rows, strict=True))):
                torch.add(dh_t, grad_t, out=whole_t)
                torch.mul(whole_t, both_t, out=dpre_t)
                torch.mul(whole_t, z_t, out=dh_t)
                dh_t.addmm_(dpre_t @ u_t[0] if len(u) == 2 else dpre_t, u_t[-1])
            flat_h, flat_d = h_last.flatten(0, 1), dpre_.flatten(0, 1)  # [n N, H]
            if len(u) == 2:
                grad_u[0].addmm_(flat_h.t(), flat_d @ u_t[0])
                grad_u[1].addmm_((flat_h @ u[0]).t(), flat_d)
            else:
                grad_u[0].addmm_(flat_h.t(), flat_d)
            grad_gate += gate_.mul_(dh_).sum((0, 1))
            grad_update += update_.mul_(dh_).sum((0, 1))
            dh_.mul_(c_)
            grad_nu += dh_.sum()
            grad_zeta += dh_.mul_(1 - z_).sum()
        return dpre, dh_t, grad_gate, grad_update, grad_zeta, grad_nu, None, *grad_u
