"""What the five cells share: weights and their start values, checks, and the loop over a sequence.

A cell is three things: :meth:`Cell.project`, the part of its equation that does not need the state and is computed for
all steps at once; :meth:`Cell.step`, the rest of the equation; :meth:`Cell.unroll`, the steps in a row, by the fastest
means at hand.

Everything is ``x @ W`` on row vectors. W is [D, G H] for the G blocks of H columns that the equation needs, or W1 [D,
w_rank] times W2 [w_rank, G H]; U is [H, G H], or U1 [H, u_rank] times U2 [u_rank, G H]. So the blocks of a low-rank
cell share their left factor, as in EdgeML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from fastzoo._values import is_number, is_whole
from fastzoo.nn.nonlinearities import Function, nonlinearity

State = TypeVar("State", Tensor, tuple[Tensor, Tensor])


class Cell(nn.Module, Generic[State]):
    """Base of the cells; called like torch's cells, ``state = cell(x_t, state)``."""

    kind: ClassVar[str]  # the name in configurations and registries
    blocks: ClassVar[tuple[str, ...]]  # of H columns in W and U, in order
    gated: ClassVar[bool] = True
    state_parts: ClassVar[int] = 1  # tensors that make up a state

    input_size: int
    hidden_size: int
    w_rank: int | None  # None: full
    u_rank: int | None
    gate_nonlinearity: str | Function | None
    update_nonlinearity: str | Function

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        w_rank: int | None,
        u_rank: int | None,
        gate_nonlinearity: str | Function | None,
        update_nonlinearity: str | Function,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        _check_size("input_size", input_size)
        _check_size("hidden_size", hidden_size)
        columns = len(self.blocks) * hidden_size
        _check_rank("w_rank", w_rank, min(input_size, columns))
        _check_rank("u_rank", u_rank, hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w_rank, self.u_rank = w_rank, u_rank
        self.gate_nonlinearity, self.update_nonlinearity = gate_nonlinearity, update_nonlinearity
        for name in (gate_nonlinearity, update_nonlinearity) if self.gated else (update_nonlinearity,):
            nonlinearity(name)  # refuses what is none
        self._place: dict[str, Any] = {"device": device, "dtype": dtype}
        self._scalars: dict[str, tuple[float | None, float]] = {}
        for name, rank, rows in (("W", w_rank, input_size), ("U", u_rank, hidden_size)):
            if rank is None:
                self._parameter(name, rows, columns)
            else:
                self._parameter(f"{name}1", rows, rank)
                self._parameter(f"{name}2", rank, columns)

    def _parameter(self, name: str, *shape: int) -> None:
        self.register_parameter(name, nn.Parameter(torch.empty(shape, **self._place)))

    def _scalar(self, name: str, fixed: float | None, start: float) -> None:
        """A number in (0, 1): trained as the logit that starts at ``start``, or fixed."""
        if fixed is None:
            if not is_number(start):
                raise ValueError(f"{name}_init must be a number, not {start!r}")
            self._parameter(f"{name}_logit")
        elif is_number(fixed, 0, 1):
            self.register_buffer(f"fixed_{name}", torch.tensor(float(fixed), **self._place), persistent=False)
        else:
            raise ValueError(f"a fixed {name} is a sigmoid's value, a number between 0 and 1, not {fixed!r}")
        self._scalars[name] = fixed, start

    def _scalar_value(self, name: str) -> Tensor:
        """The number that :meth:`_scalar` made."""
        fixed, _ = self._scalars[name]
        if fixed is None:
            return torch.sigmoid(getattr(self, f"{name}_logit"))
        return self.get_buffer(f"fixed_{name}")

    def _gate(self, x: Tensor) -> Tensor:
        return nonlinearity(self.gate_nonlinearity)(x)

    def _update(self, x: Tensor) -> Tensor:
        return nonlinearity(self.update_nonlinearity)(x)

    def reset_parameters(self) -> None:
        """EdgeML's start values: weights 0.1 N(0, 1), biases 1, scalars as the cell's arguments say."""
        for name, (fixed, _) in self._scalars.items():
            if fixed is not None:
                self.get_buffer(f"fixed_{name}").fill_(fixed)
        for name, parameter in self.named_parameters(recurse=False):
            if name[0] in "WU":
                nn.init.normal_(parameter, std=0.1)
            elif name.endswith("_logit"):
                nn.init.constant_(parameter, self._scalars[name.removesuffix("_logit")][1])
            else:
                nn.init.ones_(parameter)

    @property
    def w(self) -> tuple[Tensor, ...]:
        """The factors of W: ``(W,)`` or ``(W1, W2)``."""
        return (self.W,) if self.w_rank is None else (self.W1, self.W2)  # type: ignore[return-value]

    @property
    def u(self) -> tuple[Tensor, ...]:
        """The factors of U: ``(U,)`` or ``(U1, U2)``."""
        return (self.U,) if self.u_rank is None else (self.U1, self.U2)  # type: ignore[return-value]

    def project(self, x: Tensor) -> Tensor:
        """The part of the equation without the state: ``x [..., D]`` -> [..., G H]."""
        raise NotImplementedError

    def step(self, projected: Tensor, state: State) -> State:
        """The next state from :meth:`project` of one step and the state."""
        raise NotImplementedError

    def zeros(self, x: Tensor, batch: int) -> State:
        """The state before the first step, of the type and on the device of ``x``."""
        parts = tuple(x.new_zeros(batch, self.hidden_size) for _ in range(self.state_parts))
        return parts[0] if self.state_parts == 1 else parts  # type: ignore[return-value]

    def forward(self, x: Tensor, state: State | None = None) -> State:
        """One step: ``x [N, D]`` (or [D]) and a state [N, H] (or [H]; None = zeros) -> the next state.

        Raises:
            ValueError: ``x`` or ``state`` has another shape or dtype than the cell takes.
        """
        check_input(x, self, x.dim() in (1, 2), "[N, D]")
        if state is not None:
            check_state(state, (*x.shape[:-1], self.hidden_size), self)
        if x.dim() == 1:
            batched = None if state is None else each(state, lambda part: part.unsqueeze(0))
            following: State = self(x.unsqueeze(0), batched)
            return each(following, lambda part: part.squeeze(0))
        return self.step(self.project(x), self.zeros(x, len(x)) if state is None else state)

    def unroll(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """A whole sequence.

        Args:
            x: [T, N, D].
            state: before the first step; not changed.
            lengths: steps of each row, [N], at most T; None = T. A row's state is carried on after its last step.

        Returns:
            All (first parts of the) states, [T, N, H], and the last state.
        """
        return self._loop(self.project(x), state, lengths)

    def _loop(self, projected: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Step by step, differentiated by autograd, from the projections of all steps [T, N, ..]."""
        step, inputs = self._stepping(projected)
        states = []
        for t, of_step in enumerate(inputs):
            following = step(of_step, state)
            if lengths is not None:
                following = _where((t < lengths).unsqueeze(1), following, state)
            state = following
            states.append(state if isinstance(state, Tensor) else state[0])
        return torch.stack(states), state

    def _stepping(self, projected: Tensor) -> tuple[Callable[[Any, State], State], Iterable[Any]]:
        """A step, and what it takes of each row of [T, ...]: where the steps share work, that is done here, once."""
        return self.step, projected.unbind()

    def config(self) -> dict[str, Any]:
        """The arguments that fix shape and equation (not the start values), and the cell's name; JSON-able.

        Raises:
            ValueError: a nonlinearity is a function without a name of ours.
        """
        config: dict[str, Any] = {
            "type": self.kind,
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "w_rank": self.w_rank,
            "u_rank": self.u_rank,
        }
        for which in ("gate_nonlinearity", "update_nonlinearity"):
            name = getattr(self, which)
            if name is not None and not isinstance(name, str):
                raise ValueError(
                    f"{which} is a function, which no file can hold; name one of fastzoo.nn.NONLINEARITIES"
                )
            config |= {which: name} if name is not None else {}
        return config | {name: fixed for name, (fixed, _) in self._scalars.items()}

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a step's matrix products, for one row."""
        return sum(factor.numel() for factor in (*self.w, *self.u))

    def extra_repr(self) -> str:
        """What is worth a word in ``print(cell)``."""
        text = f"{self.input_size}, {self.hidden_size}, w_rank={self.w_rank}, u_rank={self.u_rank}"
        if (self.gate_nonlinearity or "sigmoid", self.update_nonlinearity) != ("sigmoid", "tanh"):
            text += f", gate={self.gate_nonlinearity}, update={self.update_nonlinearity}"
        return text + "".join(f", {name}={fixed}" for name, (fixed, _) in self._scalars.items() if fixed is not None)


def product(x: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
    """``x`` times a matrix given by its factors, first factor first: that is the cheap order where the rank is low."""
    return reduce(torch.matmul, factors, x)


def affine(x: Tensor, factors: tuple[Tensor, ...], bias: Tensor) -> Tensor:
    """:func:`product` plus a bias, in one pass."""
    *first, last = factors
    return linear(product(x, tuple(first)), last.t(), bias)


def gate_biases(start: float | Sequence[float], hidden_size: int) -> Tensor:
    """Start values of a gate's biases, [H]: all the same, or spread evenly over a pair, for slow and fast units.

    Raises:
        ValueError: ``start`` is neither a number nor a pair of numbers.
    """
    low_high = tuple(start) if isinstance(start, Sequence) else (start, start)
    if len(low_high) != 2 or not all(map(is_number, low_high)):
        raise ValueError(f"gate_bias must be a number or a pair of numbers, not {start!r}")
    return torch.linspace(*low_high, hidden_size, device="cpu")


def each(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """``function`` of each tensor of a state."""
    if isinstance(state, Tensor):
        return function(state)
    return tuple(map(function, state))  # type: ignore[return-value]


def _where(condition: Tensor, yes: State, no: State) -> State:
    if isinstance(yes, Tensor):
        return torch.where(condition, yes, no)
    return tuple(torch.where(condition, *parts) for parts in zip(yes, no, strict=True))  # type: ignore[return-value]


def check_input(x: Tensor, cell: Cell[Any], has_the_axes: bool, axes: str) -> None:
    """Raise a ValueError where samples do not fit a cell; types may differ under autocast, which converts them."""
    if not has_the_axes or x.shape[-1] != cell.input_size:
        raise ValueError(f"expected {axes} with D = {cell.input_size}, got {list(x.shape)}")
    _check_dtype("the input", x, cell)


def check_state(state: Any, shape: tuple[int, ...], cell: Cell[Any], name: str = "the state") -> None:
    """Raise a ValueError where a state does not fit a cell."""
    wanted = "one tensor" if cell.state_parts == 1 else "a pair (h, c)"
    parts = (state,) if isinstance(state, Tensor) else tuple(state) if isinstance(state, tuple | list) else ()
    if len(parts) != cell.state_parts or not all(isinstance(part, Tensor) for part in parts):
        raise ValueError(f"{name} must be {wanted} {list(shape)}, not {type(state).__name__}")
    for part in parts:
        if part.shape != shape:
            raise ValueError(f"{name} must be {wanted} {list(shape)}, not {list(part.shape)}")
        _check_dtype(name, part, cell)


def _check_dtype(name: str, x: Tensor, cell: Cell[Any]) -> None:
    weights = cell.w[0]
    if x.dtype != weights.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"{name} is {x.dtype}, the weights are {weights.dtype}: convert one with .to(dtype)")


def _check_size(name: str, value: int) -> None:
    if not is_whole(value, 1):
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def _check_rank(name: str, rank: int | None, largest: int) -> None:
    if rank is not None and not is_whole(rank, 1, largest):
        raise ValueError(f"{name} must be None (full) or a whole number between 1 and {largest}, not {rank!r}")
