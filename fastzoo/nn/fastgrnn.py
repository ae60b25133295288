"""FastGRNN: one step that reads like the paper's equation, and the sequence module."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastzoo._values import is_number, is_whole
from fastzoo.nn.functional import fastgrnn_sequence, nonlinearity


class _FastGRNNParameters(nn.Module):
    """Weights of FastGRNN, shared by the cell and the sequence module.

    W [D, H] or W1 [D, w_rank], W2 [w_rank, H]; U [H, H] or U1 [H, u_rank], U2 [u_rank, H]. ``zeta`` and ``nu`` are
    stored before their sigmoid, as in EdgeML; a fixed one is a buffer.
    """

    fixed_zeta: Tensor
    fixed_nu: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        w_rank: int | None = None,
        u_rank: int | None = None,
        gate_nonlinearity: str = "sigmoid",
        update_nonlinearity: str = "tanh",
        zeta: float | None = None,
        nu: float | None = None,
        zeta_init: float = 1.0,
        nu_init: float = -4.0,
        gate_bias: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        _check_size("input_size", input_size)
        _check_size("hidden_size", hidden_size)
        _check_rank("w_rank", w_rank, min(input_size, hidden_size))
        _check_rank("u_rank", u_rank, hidden_size)
        nonlinearity(gate_nonlinearity)
        nonlinearity(update_nonlinearity)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w_rank, self.u_rank = w_rank, u_rank
        self.gate_nonlinearity, self.update_nonlinearity = gate_nonlinearity, update_nonlinearity
        self.fixed = {"zeta": zeta, "nu": nu}
        self.initial = {"zeta": zeta_init, "nu": nu_init}
        self.gate_bias_init = _range("gate_bias", gate_bias)
        for name, rank, size in (("W", w_rank, input_size), ("U", u_rank, hidden_size)):
            if rank is None:
                self.register_parameter(name, nn.Parameter(torch.empty(size, hidden_size)))
            else:
                self.register_parameter(f"{name}1", nn.Parameter(torch.empty(size, rank)))
                self.register_parameter(f"{name}2", nn.Parameter(torch.empty(rank, hidden_size)))
        self.bias_gate = nn.Parameter(torch.empty(hidden_size))
        self.bias_update = nn.Parameter(torch.empty(hidden_size))
        for name, value in self.fixed.items():
            if value is None:
                self.register_parameter(f"{name}_logit", nn.Parameter(torch.empty(())))
            elif is_number(value, 0, 1):
                self.register_buffer(f"fixed_{name}", torch.tensor(float(value)), persistent=False)
            else:
                raise ValueError(f"a fixed {name} is a sigmoid's value, a number between 0 and 1, not {value!r}")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """EdgeML's initial values: weights 0.1 N(0, 1), biases 1, zeta and nu sigmoid(1) and sigmoid(-4).

        ``gate_bias`` given as a pair spreads the gate biases evenly, which gives slow and fast units from the start.
        """
        for name, parameter in self.named_parameters():
            if name[0] in "WU":
                nn.init.normal_(parameter, std=0.1)
            elif name.endswith("_logit"):
                nn.init.constant_(parameter, self.initial[name.removesuffix("_logit")])
            else:
                nn.init.ones_(parameter)
        with torch.no_grad():
            self.bias_gate.copy_(torch.linspace(*self.gate_bias_init, self.hidden_size))

    @property
    def w(self) -> tuple[Tensor, ...]:
        """The factors of W: ``(W,)`` or ``(W1, W2)``."""
        return self._factors("W")

    @property
    def u(self) -> tuple[Tensor, ...]:
        """The factors of U: ``(U,)`` or ``(U1, U2)``."""
        return self._factors("U")

    def _factors(self, name: str) -> tuple[Tensor, ...]:
        parameters = dict(self.named_parameters(recurse=False))
        return tuple(parameters[key] for key in (name, f"{name}1", f"{name}2") if key in parameters)

    @property
    def zeta(self) -> Tensor:
        """The weight of the candidate, in (0, 1)."""
        return self._scalar("zeta")

    @property
    def nu(self) -> Tensor:
        """The share of the candidate that passes a closed gate, in [0, 1)."""
        return self._scalar("nu")

    def _scalar(self, name: Literal["zeta", "nu"]) -> Tensor:
        if self.fixed[name] is None:
            logit: Tensor = getattr(self, f"{name}_logit")
            return torch.sigmoid(logit)
        return self.get_buffer(f"fixed_{name}")

    def config(self) -> dict[str, Any]:
        """The arguments that fix the shape and the equation (not the start values), and the cell's name; JSON-able."""
        return {
            "type": "fastgrnn",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "w_rank": self.w_rank,
            "u_rank": self.u_rank,
            "gate_nonlinearity": self.gate_nonlinearity,
            "update_nonlinearity": self.update_nonlinearity,
            "zeta": self.fixed["zeta"],
            "nu": self.fixed["nu"],
        }

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, w_rank={self.w_rank}, u_rank={self.u_rank}"
        if (self.gate_nonlinearity, self.update_nonlinearity) != ("sigmoid", "tanh"):
            text += f", gate={self.gate_nonlinearity}, update={self.update_nonlinearity}"
        return text + "".join(f", {name}={value}" for name, value in self.fixed.items() if value is not None)


class FastGRNNCell(_FastGRNNParameters):
    """One step of FastGRNN (NeurIPS 2018, equation 6); called like :class:`torch.nn.GRUCell`.

    Args:
        input_size: D, features per step.
        hidden_size: H, size of the state.
        w_rank: rank of W; None = full.
        u_rank: rank of U; None = full.
        gate_nonlinearity: one of ``fastzoo.nn.NONLINEARITIES``.
        update_nonlinearity: one of ``fastzoo.nn.NONLINEARITIES``.
        zeta: None = trained, a number in [0, 1] = fixed.
        nu: None = trained, a number in [0, 1] = fixed; 0 bounds the state by zeta and lets the whole recurrence run
            as one ONNX GRU.
        zeta_init: start of a trained zeta, before its sigmoid.
        nu_init: start of a trained nu, before its sigmoid.
        gate_bias: start of the gate biases, one number, or a pair over which they are spread.

    Raises:
        ValueError: a size, rank, nonlinearity or fixed scalar is out of range.

    The loop over a sequence, which :class:`FastGRNN` does faster, is::

        for x_t in x:  # x [T, N, D]
            h = cell(x_t, h)
    """

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """``x [N, D]``, ``h [N, H]`` (None = zeros) -> the next state, [N, H]."""
        if h is None:
            h = x.new_zeros(len(x), self.hidden_size)
        pre = reduce(torch.matmul, self.w, x) + reduce(torch.matmul, self.u, h)
        z = nonlinearity(self.gate_nonlinearity).forward(pre + self.bias_gate)
        c = nonlinearity(self.update_nonlinearity).forward(pre + self.bias_update)
        return (self.zeta * (1 - z) + self.nu) * c + z * h


class FastGRNN(_FastGRNNParameters):
    """FastGRNN over sequences; drop-in where a one-layer, one-direction :class:`torch.nn.GRU` stands.

    The input projection is one product over all steps, and the backward pass is written by hand
    (:func:`fastzoo.nn.functional.fastgrnn_sequence`): several times faster than autograd over a loop of
    :class:`FastGRNNCell`, same result.

    Args:
        batch_first: input and output are [N, T, ...] instead of [T, N, ...].

    The other arguments are those of :class:`FastGRNNCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        w_rank: int | None = None,
        u_rank: int | None = None,
        gate_nonlinearity: str = "sigmoid",
        update_nonlinearity: str = "tanh",
        zeta: float | None = None,
        nu: float | None = None,
        zeta_init: float = 1.0,
        nu_init: float = -4.0,
        gate_bias: float | Sequence[float] = 1.0,
        batch_first: bool = False,
    ) -> None:
        super().__init__(
            input_size, hidden_size, w_rank, u_rank, gate_nonlinearity, update_nonlinearity,
            zeta, nu, zeta_init, nu_init, gate_bias,
        )  # fmt: skip
        self.batch_first = batch_first

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over a sequence.

        Args:
            x: [T, N, D], or [N, T, D] with ``batch_first``.
            h0: [1, N, H]; None = zeros. Not changed.

        Returns:
            All states, [T, N, H] (or [N, T, H]), and the last one, [1, N, H].

        Raises:
            ValueError: ``x`` is not three-dimensional, is empty in time, or has another number of features; or ``h0``
                is not [1, N, H].
        """
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            axes = "[N, T, D]" if self.batch_first else "[T, N, D]"
            raise ValueError(f"expected {axes} with D = {self.input_size}, got {list(x.shape)}")
        if self.batch_first:
            x = x.transpose(0, 1)
        if len(x) == 0:
            raise ValueError("the sequence has no steps")
        shape = (1, x.shape[1], self.hidden_size)
        if h0 is not None and h0.shape != shape:
            raise ValueError(f"h0 must be [1, N, H] = {list(shape)}, not {list(h0.shape)}")
        h = x.new_zeros(shape[1:]) if h0 is None else h0.squeeze(0)
        states = fastgrnn_sequence(
            x, h, self.w, self.u, self.bias_gate, self.bias_update, self.zeta, self.nu,
            self.gate_nonlinearity, self.update_nonlinearity,
        )  # fmt: skip
        last = states[-1:]
        return (states.transpose(0, 1) if self.batch_first else states), last


def _check_size(name: str, value: int) -> None:
    if not is_whole(value, 1):
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def _check_rank(name: str, rank: int | None, largest: int) -> None:
    if rank is not None and not is_whole(rank, 1, largest):
        raise ValueError(f"{name} must be None (full) or a whole number between 1 and {largest}, not {rank!r}")


def _range(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    """A pair as it is, one number as a range without width."""
    low_high = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(low_high) != 2 or not all(map(is_number, low_high)):
        raise ValueError(f"{name} must be a number or a pair of numbers, not {value!r}")
    low, high = low_high
    return low, high
