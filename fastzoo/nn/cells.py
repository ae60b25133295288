"""The five cells, each by its equation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastzoo.nn import functional
from fastzoo.nn.cell import Cell, affine, gate_biases, product
from fastzoo.nn.nonlinearities import Function


class FastRNNCell(Cell[Tensor]):
    """FastRNN: a plain RNN with a weighted residual connection (Kusupati et al., NeurIPS 2018, equation 3)::

        c  = update(x W + h U + b_update)
        h' = beta h + alpha c

    Args:
        input_size: D, features per step.
        hidden_size: H, size of the state.
        w_rank: rank of W; None = full.
        u_rank: rank of U; None = full.
        update_nonlinearity: one of ``fastzoo.nn.NONLINEARITIES``, or a function.
        alpha: None = trained, a number in [0, 1] = fixed.
        beta: None = trained, a number in [0, 1] = fixed.
        alpha_init: start of a trained alpha, before its sigmoid.
        beta_init: start of a trained beta, before its sigmoid.
        device: where the weights are, as in torch.
        dtype: type of the weights, as in torch.

    Raises:
        ValueError: a size, rank, nonlinearity or fixed scalar is out of range.
    """

    kind = "fastrnn"
    blocks = ("c",)
    gated = False
    bias_update: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        w_rank: int | None = None,
        u_rank: int | None = None,
        update_nonlinearity: str | Function = "tanh",
        alpha: float | None = None,
        beta: float | None = None,
        alpha_init: float = -3.0,
        beta_init: float = 3.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, w_rank, u_rank, None, update_nonlinearity, device, dtype)
        self._parameter("bias_update", hidden_size)
        self._scalar("alpha", alpha, alpha_init)
        self._scalar("beta", beta, beta_init)
        self.reset_parameters()

    @property
    def alpha(self) -> Tensor:
        """The weight of the candidate, in (0, 1)."""
        return self._scalar_value("alpha")

    @property
    def beta(self) -> Tensor:
        """The weight of the old state, in (0, 1)."""
        return self._scalar_value("beta")

    def project(self, x: Tensor) -> Tensor:
        """``x W + b_update``"""
        return affine(x, self.w, self.bias_update)

    def step(self, projected: Tensor, h: Tensor) -> Tensor:
        """The equation above."""
        c = self._update(projected + product(h, self.u))
        return self.beta * h + self.alpha * c

    def unroll(self, x: Tensor, h: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As in :meth:`Cell.unroll`, compiled where there is a backend for it."""
        projected = self.project(x)
        kernels = functional.backend(projected, self.u, self.update_nonlinearity)
        if kernels is None:
            return self._loop(projected, h, lengths)
        states = functional.fastrnn(
            kernels, projected, h, self.u, self.alpha, self.beta, str(self.update_nonlinearity), lengths
        )
        return states, _last(states, lengths)


class FastGRNNCell(Cell[Tensor]):
    """FastGRNN: gate and candidate share W and U (Kusupati et al., NeurIPS 2018, equation 6)::

        z  = gate(x W + h U + b_gate)
        c  = update(x W + h U + b_update)
        h' = (zeta (1 - z) + nu) c + z h

    Args:
        input_size: D, features per step.
        hidden_size: H, size of the state.
        w_rank: rank of W; None = full.
        u_rank: rank of U; None = full.
        gate_nonlinearity: one of ``fastzoo.nn.NONLINEARITIES``, or a function.
        update_nonlinearity: the same for the candidate.
        zeta: None = trained, a number in [0, 1] = fixed.
        nu: None = trained, a number in [0, 1] = fixed; 0 bounds the state by zeta and lets the whole recurrence run
            as one ONNX GRU.
        zeta_init: start of a trained zeta, before its sigmoid.
        nu_init: start of a trained nu, before its sigmoid.
        gate_bias: start of the gate's biases, one number, or a pair over which they are spread.
        device: where the weights are, as in torch.
        dtype: type of the weights, as in torch.

    Raises:
        ValueError: a size, rank, nonlinearity or fixed scalar is out of range.

    The loop over a sequence, which :class:`FastGRNN` does faster, is::

        for x_t in x:  # x [T, N, D]
            h = cell(x_t, h)
    """

    kind = "fastgrnn"
    blocks = ("zc",)
    bias_gate: Tensor
    bias_update: Tensor
    rounding: Sequence[Function] | None = None  # of what each factor of U reads; quantization-aware training sets it

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        w_rank: int | None = None,
        u_rank: int | None = None,
        gate_nonlinearity: str | Function = "sigmoid",
        update_nonlinearity: str | Function = "tanh",
        zeta: float | None = None,
        nu: float | None = None,
        zeta_init: float = 1.0,
        nu_init: float = -4.0,
        gate_bias: float | Sequence[float] = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, w_rank, u_rank, gate_nonlinearity, update_nonlinearity, device, dtype)
        self._gate_bias = gate_biases(gate_bias, hidden_size)
        self._parameter("bias_gate", hidden_size)
        self._parameter("bias_update", hidden_size)
        self._scalar("zeta", zeta, zeta_init)
        self._scalar("nu", nu, nu_init)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in :meth:`Cell.reset_parameters`, with the gate's biases at ``gate_bias``."""
        super().reset_parameters()
        with torch.no_grad():
            self.bias_gate.copy_(self._gate_bias)

    @property
    def zeta(self) -> Tensor:
        """The weight of the candidate, in (0, 1)."""
        return self._scalar_value("zeta")

    @property
    def nu(self) -> Tensor:
        """The share of the candidate that passes a closed gate, in [0, 1)."""
        return self._scalar_value("nu")

    def project(self, x: Tensor) -> Tensor:
        """``x W``"""
        return product(x, self.w)

    def recurrent_product(self, h: Tensor) -> Tensor:
        """``h U``, with :attr:`rounding` of what each factor reads."""
        if not self.rounding:
            return product(h, self.u)
        for rounded, factor in zip(self.rounding, self.u, strict=True):
            h = rounded(h) @ factor
        return h

    def step(self, projected: Tensor, h: Tensor) -> Tensor:
        """The equation above."""
        pre = projected + self.recurrent_product(h)
        z = self._gate(pre + self.bias_gate)
        c = self._update(pre + self.bias_update)
        return (self.zeta * (1 - z) + self.nu) * c + z * h

    def unroll(self, x: Tensor, h: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As in :meth:`Cell.unroll`, compiled where there is a backend for it."""
        projected = self.project(x)
        kernels = functional.backend(projected, self.u, self.gate_nonlinearity, self.update_nonlinearity)
        if kernels is None or self.rounding:  # no kernel rounds
            return self._loop(projected, h, lengths)
        states = functional.fastgrnn(
            kernels, projected, h, self.u, self.bias_gate, self.bias_update, self.zeta, self.nu,
            str(self.gate_nonlinearity), str(self.update_nonlinearity), lengths,
        )  # fmt: skip
        return states, _last(states, lengths)


class _GatedCell(Cell[Any]):
    """UGRNN, GRU and LSTM: W, U and the biases have a block of H columns for each gate and the candidate."""

    keeps: ClassVar[str]  # the block of the gate that keeps the state
    bias: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        w_rank: int | None = None,
        u_rank: int | None = None,
        gate_nonlinearity: str | Function = "sigmoid",
        update_nonlinearity: str | Function = "tanh",
        gate_bias: float | Sequence[float] = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, w_rank, u_rank, gate_nonlinearity, update_nonlinearity, device, dtype)
        self._gate_bias = gate_biases(gate_bias, hidden_size)
        self._parameter("bias", len(self.blocks) * hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in :meth:`Cell.reset_parameters`, with the biases of the gate that keeps the state at ``gate_bias``."""
        super().reset_parameters()
        with torch.no_grad():
            self.bias.view(len(self.blocks), -1)[self.blocks.index(self.keeps)] = self._gate_bias

    def project(self, x: Tensor) -> Tensor:
        """``x W + b``"""
        return affine(x, self.w, self.bias)


class UGRNNCell(_GatedCell):
    """UGRNN, one gate (Collins, Sohl-Dickstein, Sussillo, ICLR 2017), with low-rank factors as in EdgeML::

        z  = gate(x W_z + h U_z + b_z)
        c  = update(x W_c + h U_c + b_c)
        h' = z h + (1 - z) c

    W, U and ``bias`` hold the blocks z, c. Arguments and errors are those of
    :class:`FastGRNNCell`, without zeta and nu; ``gate_bias`` starts b_z.
    """

    kind = "ugrnn"
    blocks = ("z", "c")
    keeps = "z"

    def step(self, projected: Tensor, h: Tensor) -> Tensor:
        """The equation above."""
        z, c = (projected + product(h, self.u)).chunk(2, dim=-1)
        z, c = self._gate(z), self._update(c)
        return z * h + (1 - z) * c


class GRUCell(_GatedCell):
    """GRU as EdgeML has it: the reset gate acts before the product (ONNX ``linear_before_reset = 0``)::

        r  = gate(x W_r + h U_r + b_r)
        z  = gate(x W_z + h U_z + b_z)
        c  = update(x W_c + (r h) U_c + b_c)
        h' = z h + (1 - z) c

    :class:`torch.nn.GRUCell` applies r after the product: weights cannot be exchanged. W, U and ``bias`` hold the
    blocks r, z, c. Arguments and errors are those of
    :class:`FastGRNNCell`, without zeta and nu; ``gate_bias`` starts b_z.
    """

    kind = "gru"
    blocks = ("r", "z", "c")
    keeps = "z"

    @property
    def macs(self) -> int:
        """As in :attr:`Cell.macs`; the first factor of U meets both h and r h."""
        return super().macs + (self.u[0].numel() if self.u_rank else 0)

    def step(self, projected: Tensor, h: Tensor) -> Tensor:
        """The equation above."""
        step, (of_step,) = self._stepping(projected.unsqueeze(0))
        return step(of_step, h)

    def _stepping(
        self, projected: Tensor
    ) -> tuple[Callable[[tuple[Tensor, Tensor], Tensor], Tensor], Iterable[tuple[Tensor, Tensor]]]:
        """The equation above; U is split once, whose gradient would else be put together in every step."""
        sizes = [2 * self.hidden_size, self.hidden_size]
        *first, last = self.u
        u_gates, u_update = ((*first, part) for part in last.split(sizes, dim=1))

        def step(of_step: tuple[Tensor, Tensor], h: Tensor) -> Tensor:
            x_gates, x_update = of_step
            r, z = self._gate(x_gates + product(h, u_gates)).chunk(2, dim=-1)
            c = self._update(x_update + product(r * h, u_update))
            return z * h + (1 - z) * c

        x_gates, x_update = projected.split(sizes, dim=-1)
        return step, zip(x_gates.unbind(), x_update.unbind(), strict=True)


class LSTMCell(_GatedCell):
    """LSTM with low-rank factors as in EdgeML; the state is the pair (h, c)::

        i  = gate(x W_i + h U_i + b_i)
        f  = gate(x W_f + h U_f + b_f)
        g  = update(x W_c + h U_c + b_c)
        o  = gate(x W_o + h U_o + b_o)
        c' = f c + i g
        h' = o update(c')

    W, U and ``bias`` hold the blocks i, f, c, o, torch's order. Arguments and errors are those of
    :class:`FastGRNNCell`, without zeta and nu; ``gate_bias`` starts b_f.
    """

    kind = "lstm"
    blocks = ("i", "f", "c", "o")
    keeps = "f"
    state_parts = 2

    def step(self, projected: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The equation above."""
        h, c = state
        i, f, g, o = (projected + product(h, self.u)).chunk(4, dim=-1)
        c = self._gate(f) * c + self._gate(i) * self._update(g)
        return self._gate(o) * self._update(c), c

    def unroll(
        self, x: Tensor, state: tuple[Tensor, Tensor], lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As in :meth:`Cell.unroll`; with its usual curves this is torch's LSTM, whose own kernel runs it."""
        usual = (self.gate_nonlinearity, self.update_nonlinearity) == ("sigmoid", "tanh")
        if not usual or lengths is not None or torch.compiler.is_compiling():
            return self._loop(self.project(x), state, lengths)
        w, u = (reduce(torch.matmul, factors).t() for factors in (self.w, self.u))
        weights = [w, u, self.bias, torch.zeros_like(self.bias)]
        start = [part.unsqueeze(0) for part in state]
        states, h, c = torch.lstm(x, start, weights, True, 1, 0.0, self.training, False, False)
        return states, (h[0], c[0])


def _last(states: Tensor, lengths: Tensor | None) -> Tensor:
    """The state after each row's last step, [N, H]."""
    if lengths is None:
        return states[-1]
    return states[lengths - 1, torch.arange(states.shape[1], device=states.device)]
