"""FastRNN and FastGRNN over a whole sequence, by compiled kernels with backward passes written by hand.

The kernels run the recursion and nothing else: forward from ``x W`` to the states, backward from the gradient of the
states to that of the pre-activations. What all steps have in common stays outside of the recursion as large products:
``x W`` and its gradient, and the gradients of U's factors.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastzoo.nn import _triton
from fastzoo.nn.nonlinearities import NONLINEARITIES

Factors = Sequence[Tensor]
Saved = tuple[Tensor, ...]


class Kernels(Protocol):
    """What a backend, a module, must offer.

    ``projected`` is x W [T, N, H], for FastRNN with its bias; ``h0`` [N, H]; ``u`` (U,) or (U1, U2), as in
    :func:`fastrnn`; scalars have no dimensions. A forward pass returns h [T + 1, N, H], the initial state first, and
    what the backward pass needs: nothing where ``save`` is false. A backward pass takes the gradient of the states [T,
    N, H] and returns those of the other tensors, in the order of the forward pass's arguments, U's factors last.
    """

    def supports(self, projected: Tensor, u: Factors) -> bool:
        """Whether the kernels can run on these tensors."""

    def fastrnn_forward(
        self, projected: Tensor, h0: Tensor, u: Factors, alpha: Tensor, beta: Tensor, update: str, save: bool
    ) -> tuple[Tensor, Saved]:
        """All states of FastRNN."""

    def fastrnn_backward(
        self, grad_states: Tensor, h: Tensor, saved: Saved, u: Factors, alpha: Tensor, beta: Tensor, update: str
    ) -> tuple[Tensor, ...]:
        """The gradients of projected, h0, alpha, beta and U's factors."""

    def fastgrnn_forward(
        self, projected: Tensor, h0: Tensor, u: Factors, bias_gate: Tensor, bias_update: Tensor, zeta: Tensor,
        nu: Tensor, gate: str, update: str, save: bool,
    ) -> tuple[Tensor, Saved]:  # fmt: skip
        """All states of FastGRNN."""

    def fastgrnn_backward(
        self, grad_states: Tensor, h: Tensor, saved: Saved, u: Factors, zeta: Tensor, nu: Tensor, gate: str,
        update: str,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """The gradients of projected, h0, bias_gate, bias_update, zeta, nu and U's factors."""


def backend(projected: Tensor, u: Factors, *nonlinearities: object) -> Kernels | None:
    """The kernels that can run this recurrence, if any: Numba's on a CPU, Triton's on a GPU.

    Args:
        projected: [T, N, H].
        u: the factors of U.
        nonlinearities: names of ``fastzoo.nn.NONLINEARITIES`` have kernels, functions have none.
    """
    if torch.compiler.is_compiling():
        return None
    if not all(isinstance(name, str) and name in NONLINEARITIES for name in nonlinearities):
        return None
    kernels: Kernels | None = _numba() if projected.device.type == "cpu" else _triton
    return kernels if kernels is not None and kernels.supports(projected, u) else None


@cache
def _numba() -> Kernels | None:
    """The module, imported when it is first needed, where all that it needs is installed."""
    if not all(find_spec(name) for name in ("numba", "scipy")):
        return None
    try:
        from fastzoo.nn import _numba
    except ImportError as error:  # a Numba that does not go with this NumPy says so when it is imported
        warnings.warn(f"without Numba, FastRNN and FastGRNN run step by step: {error}", stacklevel=2)
        return None
    return _numba


def fastrnn(
    kernels: Kernels,
    projected: Tensor,
    h0: Tensor,
    u: Factors,
    alpha: Tensor,
    beta: Tensor,
    update: str,
    lengths: Tensor | None = None,
) -> Tensor:
    """All states of FastRNN: Kusupati et al., NeurIPS 2018, equation (3)::

        h_t = beta h_{t-1} + alpha update(projected_t + h_{t-1} U)

    Args:
        kernels: from :func:`backend`.
        projected: x W + b, [T, N, H].
        h0: initial state, [N, H]; not changed.
        u: the factors of U, ``(U,)`` with [H, H], or ``(U1, U2)`` with [H, r] and [r, H].
        alpha: scalar, after its sigmoid.
        beta: scalar, after its sigmoid.
        update: a name of ``fastzoo.nn.NONLINEARITIES``.
        lengths: steps of each row, [N]; None = T. States behind a row's end mean nothing, and no gradient passes them.

    Returns:
        h_1 .. h_T, [T, N, H]. Differentiable once in every tensor argument.
    """
    h0, u = h0.to(projected.dtype), [factor.to(projected.dtype) for factor in u]  # autocast spares parameters
    if not _wants_gradient(projected, h0, alpha, beta, *u):
        return kernels.fastrnn_forward(projected, h0, u, alpha, beta, update, False)[0][1:]
    states: Tensor = _FastRNN.apply(  # type: ignore[no-untyped-call]
        kernels, update, lengths, projected, h0, alpha, beta, *u
    )
    return states


def fastgrnn(
    kernels: Kernels,
    projected: Tensor,
    h0: Tensor,
    u: Factors,
    bias_gate: Tensor,
    bias_update: Tensor,
    zeta: Tensor,
    nu: Tensor,
    gate: str,
    update: str,
    lengths: Tensor | None = None,
) -> Tensor:
    """All states of FastGRNN: Kusupati et al., NeurIPS 2018, equation (6)::

        z_t = gate(projected_t + h_{t-1} U + b_gate)
        c_t = update(projected_t + h_{t-1} U + b_update)
        h_t = (zeta (1 - z_t) + nu) c_t + z_t h_{t-1}

    Args:
        kernels: from :func:`backend`.
        projected: x W, [T, N, H].
        h0: initial state, [N, H]; not changed.
        u: the factors of U, ``(U,)`` with [H, H], or ``(U1, U2)`` with [H, r] and [r, H].
        bias_gate: [H].
        bias_update: [H].
        zeta: scalar, after its sigmoid.
        nu: scalar, after its sigmoid.
        gate: a name of ``fastzoo.nn.NONLINEARITIES``.
        update: a name of ``fastzoo.nn.NONLINEARITIES``.
        lengths: steps of each row, [N]; None = T. States behind a row's end mean nothing, and no gradient passes them.

    Returns:
        h_1 .. h_T, [T, N, H]. Differentiable once in every tensor argument.
    """
    h0, u = h0.to(projected.dtype), [factor.to(projected.dtype) for factor in u]  # autocast spares parameters
    others = (bias_gate, bias_update, zeta, nu)
    if not _wants_gradient(projected, h0, *others, *u):
        return kernels.fastgrnn_forward(projected, h0, u, *others, gate, update, False)[0][1:]
    states: Tensor = _FastGRNN.apply(  # type: ignore[no-untyped-call]
        kernels, gate, update, lengths, projected, h0, *others, *u
    )
    return states


class _FastRNN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        update: str,
        lengths: Tensor | None,
        projected: Tensor,
        h0: Tensor,
        alpha: Tensor,
        beta: Tensor,
        *u: Tensor,
    ) -> Tensor:
        h, saved = kernels.fastrnn_forward(projected, h0, u, alpha, beta, update, True)
        _blank(lengths, h, saved)
        ctx.kernels, ctx.update, ctx.factors = kernels, update, len(u)
        ctx.save_for_backward(h, alpha, beta, *u, *saved)
        states: Tensor = h[1:]
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        h, alpha, beta, *rest = ctx.saved_tensors
        u, saved = rest[: ctx.factors], tuple(rest[ctx.factors :])
        gradients = ctx.kernels.fastrnn_backward(grad_states, h, saved, u, alpha, beta, ctx.update)
        return None, None, None, *gradients


class _FastGRNN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        gate: str,
        update: str,
        lengths: Tensor | None,
        projected: Tensor,
        h0: Tensor,
        bias_gate: Tensor,
        bias_update: Tensor,
        zeta: Tensor,
        nu: Tensor,
        *u: Tensor,
    ) -> Tensor:
        h, saved = kernels.fastgrnn_forward(projected, h0, u, bias_gate, bias_update, zeta, nu, gate, update, True)
        _blank(lengths, h, saved)
        ctx.kernels, ctx.names, ctx.factors = kernels, (gate, update), len(u)
        ctx.save_for_backward(h, zeta, nu, *u, *saved)
        states: Tensor = h[1:]
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        h, zeta, nu, *rest = ctx.saved_tensors
        u, saved = rest[: ctx.factors], tuple(rest[ctx.factors :])
        gradients = ctx.kernels.fastgrnn_backward(grad_states, h, saved, u, zeta, nu, *ctx.names)
        return None, None, None, None, *gradients


def _wants_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _blank(lengths: Tensor | None, h: Tensor, saved: Saved) -> None:
    """Zero what lies behind the rows' ends: the state may grow there until 0, its gradient, times infinity is NaN."""
    if lengths is not None:
        beyond = (torch.arange(len(h) - 1, device=h.device).unsqueeze(1) >= lengths).unsqueeze(2)  # [T, N, 1]
        for tensor in (h[1:], *(of_steps for of_steps in saved if of_steps.dim() == 3)):
            tensor.masked_fill_(beyond, 0)
