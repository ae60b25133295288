"""The cells over sequences: stacked, in one direction or both, with torch's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastzoo._values import is_number, is_whole
from fastzoo.nn.cell import Cell, check_input, check_state, each
from fastzoo.nn.cells import FastGRNNCell, FastRNNCell, GRUCell, LSTMCell, UGRNNCell

State = Any  # a tensor [num_layers * directions, N, H], or for the LSTM a pair of them
Rank = int | Sequence[int | None] | None
Value = TypeVar("Value")


class Recurrent(nn.Module):
    """Layers and directions of one kind of cell; a drop-in where a :class:`torch.nn.GRU` or ``LSTM`` stands.

    Args:
        input_size: D, features per step.
        hidden_size: H, size of the state.
        num_layers: cells above one another; each reads the states of the one below.
        batch_first: input and output are [N, T, ...] instead of [T, N, ...].
        dropout: share of the states between layers that is zeroed in training.
        bidirectional: a second cell in each layer reads the sequence backwards; its states follow the first's in the
            last dimension, aligned in time.
        w_rank: rank of W, one for all layers or a sequence with one for each; None = full.
        u_rank: the same for U.
        arguments: the others of the cell, such as ``gate_nonlinearity``, ``nu``, ``device`` or ``dtype``.

    The cells are ``self.cells``, in torch's order: layer 0 forwards, layer 0 backwards, layer 1 forwards, ...

    Raises:
        ValueError: an argument is out of range.
    """

    cell_type: ClassVar[type[Cell[Any]]]
    of_layers: ClassVar[tuple[str, ...]] = ()  # arguments of the cell that may be a sequence with one for each layer
    cells: nn.ModuleList

    input_size: int
    hidden_size: int
    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool
    directions: int  # 2 if bidirectional, else 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        w_rank: Rank = None,
        u_rank: Rank = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        if not is_whole(num_layers, 1):
            raise ValueError(f"num_layers must be a whole number of at least 1, not {num_layers!r}")
        if not isinstance(bidirectional, bool):
            raise ValueError(f"bidirectional must be true or false, not {bidirectional!r}")
        if not is_number(dropout, 0, 1):
            raise ValueError(f"dropout must be a number between 0 and 1, not {dropout!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        self.directions = 2 if bidirectional else 1
        given = {name: arguments.pop(name) for name in self.of_layers if name in arguments}
        given |= {"w_rank": w_rank, "u_rank": u_rank}
        of_layers = {name: _of_layers(name, value, num_layers) for name, value in given.items()}
        self.cells = nn.ModuleList(
            self.cell_type(
                self.output_size if layer else input_size,
                hidden_size,
                **{name: values[layer] for name, values in of_layers.items()},
                **arguments,
            )
            for layer in range(num_layers)
            for _ in range(self.directions)
        )

    @property
    def cell(self) -> Any:
        """The only cell of a one-layer, one-direction network.

        Raises:
            ValueError: there are more.
        """
        if len(self.cells) != 1:
            raise ValueError(f"there are {len(self.cells)} cells; name one in `cells`")
        return self.cells[0]

    @property
    def output_size(self) -> int:
        """Size of the last dimension of the states: H, or 2 H in both directions."""
        return self.directions * self.hidden_size

    def forward(
        self, x: Tensor | PackedSequence, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run over a sequence.

        Args:
            x: [T, N, D], or [N, T, D] with ``batch_first``, or [T, D] for one sequence, or a ``PackedSequence``.
            state: before the first step: [num_layers * directions, N, H] ([.., H] for one sequence), for the LSTM a
                pair; None = zeros. Not changed.
            lengths: steps of each row [N], whole numbers from 1 to T; None = T. What lies behind a row's last step is
                not read, and its states are zero.

        Returns:
            All states of the last layer, in the form of ``x`` with [.., H] or [.., 2 H] in the place of D, and the last
            state of each cell, in the form of ``state``. The last state of the backward direction is that at step 0.

        Raises:
            ValueError: ``x``, ``state`` or ``lengths`` has another shape or dtype, or the sequence has no steps.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence knows its lengths; do not give them again")
            padded, lengths = pad_packed_sequence(x)  # [T, N, D], rows in the order they had before packing
            check_input(padded, self.cells[0], True, "a PackedSequence of [T, N, D]")  # type: ignore[arg-type]
            states, last = self._run(padded, state, lengths)
            return _packed_like(x, states, lengths), last
        axes = "[N, T, D]" if self.batch_first else "[T, N, D]"
        check_input(x, self.cells[0], x.dim() in (2, 3), axes)  # type: ignore[arg-type]
        if x.dim() == 2:
            if state is not None:
                cell = self.cells[0]
                check_state(state, (len(self.cells), self.hidden_size), cell, "the initial state")  # type: ignore[arg-type]
                state = each(state, lambda part: part.unsqueeze(1))
            states, last = self._run(x.unsqueeze(1), state, lengths)
            return states.squeeze(1), each(last, lambda part: part.squeeze(1))
        states, last = self._run(x.transpose(0, 1) if self.batch_first else x, state, lengths)
        return states.transpose(0, 1) if self.batch_first else states, last

    def _run(self, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """All layers and directions: ``x`` [T, N, D] -> states [T, N, directions H], last state."""
        steps, batch = x.shape[:2]
        if steps == 0:
            raise ValueError("the sequence has no steps")
        starts = self._starts(x, state, batch)
        beyond = None
        if lengths is not None:
            lengths = _checked_lengths(lengths, steps, batch).to(x.device)
            beyond = (torch.arange(steps, device=x.device).unsqueeze(1) >= lengths).unsqueeze(2)  # [T, N, 1]
            x = x.masked_fill(beyond, 0)  # whatever is there, NaN included, must not reach a gradient
        last = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self.directions):
                index = layer * self.directions + direction
                ordered = _reversed(x, lengths) if direction else x
                states, final = self.cells[index].unroll(ordered, starts[index], lengths)  # type: ignore[operator]
                outputs.append(_reversed(states, lengths) if direction else states)
                last.append(final)
            x = torch.cat(outputs, dim=2) if self.bidirectional else outputs[0]
            if beyond is not None:
                x = x.masked_fill(beyond, 0)
            if self.dropout and layer < self.num_layers - 1:
                x = drop(x, self.dropout, self.training)
        if isinstance(last[0], Tensor):
            return x, torch.stack(last)
        return x, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _starts(self, x: Tensor, state: State | None, batch: int) -> list[Any]:
        """The state of each cell before its first step."""
        if state is None:
            return [cell.zeros(x, batch) for cell in self.cells]  # type: ignore[operator]
        cell = self.cells[0]
        check_state(state, (len(self.cells), batch, self.hidden_size), cell, "the initial state")  # type: ignore[arg-type]
        if isinstance(state, Tensor):
            return list(state.unbind())
        return list(zip(*state, strict=True))

    def config(self) -> dict[str, Any]:
        """The cell's :meth:`~Cell.config`, with what is not usual about the stack; JSON-able."""
        config: dict[str, Any] = {**self.cells[0].config(), "input_size": self.input_size}  # type: ignore[operator]
        for name in ("w_rank", "u_rank"):
            ranks = [getattr(cell, name) for cell in self.cells[:: self.directions]]
            config[name] = ranks[0] if len(set(ranks)) == 1 else ranks
        stack = {"num_layers": 1, "bidirectional": False, "dropout": 0.0}
        return config | {name: getattr(self, name) for name, usual in stack.items() if getattr(self, name) != usual}

    def extra_repr(self) -> str:
        """What is worth a word in ``print(rnn)``."""
        usual = {"num_layers": 1, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        unusual = [f"{name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *unusual])


class FastRNN(Recurrent):
    """:class:`FastRNNCell` over sequences, with a backward pass written by hand; see :class:`Recurrent`.

    ``alpha_init`` and ``beta_init`` may be sequences with one number for each layer: without gates a layer has one
    speed, and a fast one below a slow one follows two.
    """

    cell_type = FastRNNCell
    of_layers = ("alpha_init", "beta_init")


class FastGRNN(Recurrent):
    """:class:`FastGRNNCell` over sequences, with a backward pass written by hand; see :class:`Recurrent`."""

    cell_type = FastGRNNCell


class UGRNN(Recurrent):
    """:class:`UGRNNCell` over sequences; see :class:`Recurrent`."""

    cell_type = UGRNNCell


class GRU(Recurrent):
    """:class:`GRUCell` over sequences; see :class:`Recurrent`."""

    cell_type = GRUCell


class LSTM(Recurrent):
    """:class:`LSTMCell` over sequences; see :class:`Recurrent`. With usual curves torch's own kernel runs it."""

    cell_type = LSTMCell


CELLS: dict[str, type[Recurrent]] = {kind.cell_type.kind: kind for kind in (FastRNN, FastGRNN, UGRNN, GRU, LSTM)}


def _reversed(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row [T, N, ..] backwards within its length; what lies behind stays."""
    if lengths is None:
        return x.flip(0)
    step = torch.arange(len(x), device=x.device).unsqueeze(1)  # [T, 1]
    source = torch.where(step < lengths, lengths - 1 - step, step)
    return x.gather(0, source.unsqueeze(2).expand_as(x))


def _packed_like(x: PackedSequence, states: Tensor, lengths: Tensor) -> PackedSequence:
    """States [T, N, H] as a packed sequence in the order of ``x``."""
    if x.sorted_indices is not None:
        states, lengths = states.index_select(1, x.sorted_indices), lengths[x.sorted_indices.cpu()]
    data = pack_padded_sequence(states, lengths).data
    return PackedSequence(data, x.batch_sizes, x.sorted_indices, x.unsorted_indices)


def _of_layers(name: str, value: Value | Sequence[Value], num_layers: int) -> list[Value]:
    """A value for each layer; whether a layer allows it is the cell's to say."""
    if not isinstance(value, list | tuple):
        return [value] * num_layers  # type: ignore[list-item]  # the cell complains of what is none
    if len(value) != num_layers:
        what = "rank" if name.endswith("_rank") else "number"
        raise ValueError(f"{name} must be one {what}, or one for each of the {num_layers} layers, not {value!r}")
    return list(value)


def _checked_lengths(lengths: Tensor, steps: int, batch: int) -> Tensor:
    lengths = torch.as_tensor(lengths)
    whole = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
    if not whole or lengths.shape != (batch,):
        raise ValueError(f"lengths must be {batch} whole numbers, one for each row, not {lengths.tolist()}")
    if batch and not torch.compiler.is_compiling() and not (lengths.min() >= 1 and lengths.max() <= steps):
        raise ValueError(f"lengths must lie between 1 and T = {steps}, not {lengths.tolist()}")
    return lengths.long()
