"""Layers, directions, lengths and packed sequences; torch.nn.LSTM, and each row on its own, are the oracles."""

from __future__ import annotations

import copy
import io
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastzoo.nn import CELLS, GRU, LSTM, NONLINEARITIES, FastGRNN, FastRNN, Recurrent

from . import nets, oracle
from .nets import RANKS, STACKS, D, H, N, T

LENGTHS = torch.tensor([3, 9, 1, 6])
ROWS, STEPS = len(LENGTHS), int(LENGTHS.max())
BOTH = STACKS["two layers, both directions"]

each_cell = pytest.mark.parametrize("kind", CELLS)
each_stack = pytest.mark.parametrize("stack", STACKS)


def close(one: Any, other: Any, tolerance: float = 1e-13) -> bool:
    """Whether two states, or sets of states, agree."""
    both = zip(nets.parts(one), nets.parts(other), strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in both)


# ---------------------------------------------------------------------------------------------------------------------
# torch.nn.LSTM


def torchs_lstm(rnn: Recurrent) -> torch.nn.LSTM:
    """Torch's module with the same weights."""
    twin = torch.nn.LSTM(
        rnn.input_size, rnn.hidden_size, rnn.num_layers, batch_first=rnn.batch_first, bidirectional=rnn.bidirectional
    ).double()
    suffixes = [f"l{layer}{way}" for layer in range(rnn.num_layers) for way in ("", "_reverse")[: rnn.directions]]
    weights: dict[str, Any] = {}
    for suffix, cell in zip(suffixes, rnn.cells, strict=True):
        ours = cell.state_dict()
        weights |= {f"weight_ih_{suffix}": ours["W"].t(), f"weight_hh_{suffix}": ours["U"].t()}
        weights |= {f"bias_ih_{suffix}": ours["bias"], f"bias_hh_{suffix}": torch.zeros(4 * H)}
    twin.load_state_dict(weights)
    return twin


@each_stack
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
def test_the_lstm_is_torchs(stack: str, batch_first: bool) -> None:
    rnn = nets.make("lstm", batch_first=batch_first, **STACKS[stack])
    twin, x, begin = torchs_lstm(rnn), nets.samples(STEPS, ROWS), nets.start(rnn, ROWS)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    x = x.transpose(0, 1) if batch_first else x
    for found, expected in ((rnn(x), twin(x)), (rnn(x, begin), twin(x, begin))):
        assert close(found[0], expected[0])
        assert close(found[1], expected[1])
    (states, last), (expected_states, expected_last) = rnn(packed, begin), twin(packed, begin)
    assert close(states.data, expected_states.data)
    assert close(last, expected_last)
    one = x[0] if batch_first else x[:, 0]
    alone = tuple(part[:, 0] for part in begin)
    assert close(rnn(one, alone)[0], twin(one, alone)[0])
    assert close(rnn(one, alone)[1], twin(one, alone)[1])


# ---------------------------------------------------------------------------------------------------------------------
# Rows of different lengths


@each_cell
@each_stack
def test_rows_of_different_lengths_are_run_as_if_each_were_alone(kind: str, stack: str) -> None:
    rnn, x = nets.make(kind, **STACKS[stack]), nets.samples(STEPS, ROWS)
    begin = nets.start(rnn, ROWS)
    expected, expected_last, _ = oracle.run(rnn, x.numpy(), nets.arrays(begin), LENGTHS.tolist())
    states, last = rnn(x, begin, LENGTHS)
    assert np.abs(states.detach().numpy() - expected).max() < 1e-12
    for found, exact in zip(nets.parts(last), expected_last, strict=True):
        assert np.abs(found.detach().numpy() - exact).max() < 1e-12
    for row, length in enumerate(LENGTHS):
        assert (states[length:, row] == 0).all()


@each_cell
@pytest.mark.parametrize("order", [[3, 9, 1, 6], [9, 6, 3, 1], [9, 9, 9, 9]], ids=["unsorted", "sorted", "equal"])
def test_a_packed_sequence_is_as_good_as_lengths(kind: str, order: list[int]) -> None:
    rnn, x, lengths = nets.make(kind, (2, 3), **BOTH), nets.samples(STEPS, ROWS), torch.tensor(order)
    begin = nets.start(rnn, ROWS)
    expected, expected_last = rnn(x, begin, lengths)
    for enforce_sorted in (False, True) if order == sorted(order, reverse=True) else (False,):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
        states, last = rnn(packed, begin)
        assert isinstance(states, PackedSequence)
        assert torch.equal(states.batch_sizes, packed.batch_sizes)
        for mine, given_indices in zip(states[2:], packed[2:], strict=True):
            assert mine is given_indices
        unpacked, same_lengths = pad_packed_sequence(states)
        assert torch.equal(same_lengths, lengths)
        assert close(unpacked, expected)
        assert close(last, expected_last)


@each_cell
def test_a_packed_sequence_has_no_first_axis_to_choose(kind: str) -> None:
    packed = pack_padded_sequence(nets.samples(STEPS, ROWS), LENGTHS, enforce_sorted=False)
    time_first, batch_first = nets.make(kind), nets.make(kind, batch_first=True)
    assert torch.equal(batch_first(packed)[0].data, time_first(packed)[0].data)


def test_a_packed_sequence_is_checked_like_any_other() -> None:
    packed = pack_padded_sequence(nets.samples(STEPS, ROWS), LENGTHS, enforce_sorted=False)
    rnn = nets.make("gru")
    with pytest.raises(ValueError, match="a PackedSequence knows its lengths"):
        rnn(packed, None, LENGTHS)
    with pytest.raises(ValueError, match=r"the input is torch\.float64, the weights are torch\.float32"):
        copy.deepcopy(rnn).float()(packed)
    with pytest.raises(ValueError, match=r"a PackedSequence of \[T, N, D\] with D = 4, got \[9, 4, 3\]"):
        GRU(4, H, dtype=torch.float64)(packed)
    with pytest.raises(ValueError, match=r"the initial state must be one tensor \[1, 4, 4\], not \[1, 3, 4\]"):
        rnn(packed, torch.zeros(1, 3, 4).double())


@each_cell
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e300])
def test_what_lies_behind_a_rows_end_is_not_read(kind: str, garbage: float) -> None:
    rnn, clean = nets.make(kind, (2, 3), **BOTH), nets.samples(STEPS, ROWS)
    behind = torch.arange(STEPS)[:, None] >= LENGTHS
    found = []
    for x in (clean.clone(), clean.masked_fill(behind[:, :, None], garbage)):
        x.requires_grad_()
        states, last = rnn(x, None, LENGTHS)
        loss = states.square().sum() + sum(part.square().sum() for part in nets.parts(last))
        found.append([states, *nets.parts(last), *torch.autograd.grad(loss, [x, *rnn.parameters()])])
    assert all(tensor.isfinite().all() for tensor in found[1])
    assert all(map(torch.equal, *found))


@each_cell
def test_lengths_may_be_any_whole_numbers(kind: str) -> None:
    rnn, x = nets.make(kind), nets.samples(STEPS, ROWS)
    expected = rnn(x, None, LENGTHS)
    for lengths in (LENGTHS.int(), LENGTHS.to(torch.uint8), LENGTHS.tolist(), LENGTHS.numpy()):
        states, last = rnn(x, None, lengths)
        assert torch.equal(states, expected[0])
        assert close(last, expected[1], 0)
    turned = nets.make(kind, batch_first=True)
    assert torch.equal(turned(x.transpose(0, 1), None, LENGTHS)[0].transpose(0, 1), expected[0])
    alone, last = rnn(x[:, 0], None, LENGTHS[:1])
    assert close(alone, expected[0][:, 0])
    assert close(last, nets.state(tuple(part[:, 0] for part in nets.parts(expected[1]))))


@each_cell
def test_full_lengths_change_nothing(kind: str) -> None:
    rnn, x = nets.make(kind, **BOTH), nets.samples()
    expected, found = rnn(x), rnn(x, None, torch.full((N,), T))
    assert close(found[0], expected[0])
    assert close(found[1], expected[1])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3, 10, 1, 6], r"lengths must lie between 1 and T = 9, not \[3, 10, 1, 6\]"),
        ([3, 9, 0, 6], r"lengths must lie between 1 and T = 9, not \[3, 9, 0, 6\]"),
        ([3, 9, -1, 6], "lengths must lie between 1 and T = 9"),
        ([3, 9, 1], r"lengths must be 4 whole numbers, one for each row, not \[3, 9, 1\]"),
        ([[3, 9, 1, 6]], "lengths must be 4 whole numbers"),
        (5, "lengths must be 4 whole numbers, one for each row, not 5"),
        ([3.0, 9.0, 1.0, 6.0], "lengths must be 4 whole numbers"),
        ([True, True, True, True], "lengths must be 4 whole numbers"),
    ],
)
def test_impossible_lengths_are_refused(lengths: Any, message: str) -> None:
    rnn, x = FastGRNN(D, H), torch.zeros(STEPS, ROWS, D)
    with pytest.raises(ValueError, match=message):
        rnn(x, None, torch.tensor(lengths))


# ---------------------------------------------------------------------------------------------------------------------
# Directions, layers, axes


@each_cell
def test_both_directions_are_aligned_in_time(kind: str) -> None:
    rnn, x = nets.make(kind, bidirectional=True), nets.samples()
    begin = nets.start(rnn)
    ways = [nets.make(kind) for _ in range(2)]
    for way, cell in zip(ways, rnn.cells, strict=True):
        way.cell.load_state_dict(cell.state_dict())
    starts = [nets.state(tuple(part[i : i + 1] for part in nets.parts(begin))) for i in range(2)]
    forwards, forwards_last = ways[0](x, starts[0])
    backwards, backwards_last = ways[1](x.flip(0), starts[1])
    states, last = rnn(x, begin)
    assert rnn.output_size == 2 * H == states.shape[2]
    assert close(states, torch.cat([forwards, backwards.flip(0)], dim=2))
    for whole, first, second in zip(*map(nets.parts, (last, forwards_last, backwards_last)), strict=True):
        assert close(whole, torch.cat([first, second]))
    h = nets.parts(last)[0]
    assert close(h[0], states[-1, :, :H])
    assert close(h[1], states[0, :, H:])


@each_cell
def test_a_layer_reads_the_states_of_the_one_below(kind: str) -> None:
    rnn, x = nets.make(kind, num_layers=2, bidirectional=True), nets.samples()
    below, above = nets.make(kind, bidirectional=True), nets.make(kind, sizes=(2 * H, H), bidirectional=True)
    for layer, cells in ((below, rnn.cells[:2]), (above, rnn.cells[2:])):
        layer.cells.load_state_dict(cells.state_dict())
    between, first = below(x)
    states, second = above(between)
    whole, last = rnn(x)
    assert close(whole, states)
    for part, lower, upper in zip(*map(nets.parts, (last, first, second)), strict=True):
        assert close(part, torch.cat([lower, upper]))


@each_cell
@each_stack
def test_axes_are_as_in_torch(kind: str, stack: str) -> None:
    rnn, turned = nets.make(kind, **STACKS[stack]), nets.make(kind, batch_first=True, **STACKS[stack])
    x, begin = nets.samples(), nets.start(rnn)
    states, last = rnn(x, begin)
    assert states.shape == (T, N, rnn.output_size)
    assert [part.shape for part in nets.parts(last)] == [(len(rnn.cells), N, H)] * rnn.cell_type.state_parts
    found, same_last = turned(x.transpose(0, 1), begin)
    assert close(found, states.transpose(0, 1), 0)
    assert close(same_last, last, 0)
    alone, last_alone = rnn(x[:, 1], nets.state(tuple(part[:, 1] for part in nets.parts(begin))))
    assert close(alone, states[:, 1])
    assert close(last_alone, nets.state(tuple(part[:, 1] for part in nets.parts(last))))
    assert close(turned(x[:, 1])[0], rnn(x[:, 1])[0], 0)


@each_cell
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 4), (6, 1), (3, 0)])
def test_one_step_one_row_and_no_row_are_no_special_case(kind: str, steps: int, batch: int) -> None:
    rnn, x = nets.make(kind, (2, 3), **BOTH), nets.samples(steps, batch)
    for lengths in (None, torch.ones(batch, dtype=torch.long)):
        states, last = rnn(x, None, lengths)
        assert states.shape == (steps, batch, 2 * H)
        assert {part.shape for part in nets.parts(last)} == {(4, batch, H)}
        if batch:
            expected, *_ = oracle.run(rnn, x.numpy(), None, None if lengths is None else lengths.tolist())
            assert np.abs(states.detach().numpy() - expected).max() < 1e-12
        found = torch.autograd.grad(states.sum(), list(rnn.parameters()), materialize_grads=True)
        assert all(gradient.isfinite().all() for gradient in found)


@each_cell
def test_inputs_are_not_changed(kind: str) -> None:
    rnn, x = nets.make(kind, **BOTH), nets.samples(STEPS, ROWS).requires_grad_()
    begin = tuple(part.requires_grad_() for part in nets.parts(nets.start(rnn, ROWS)))
    before = [tensor.detach().clone() for tensor in (x, *begin)]
    lengths = LENGTHS.clone()
    for given_lengths in (None, lengths):
        rnn(x, nets.state(begin), given_lengths)[0].sum().backward()
        with torch.no_grad():
            rnn(x, nets.state(begin), given_lengths)
    assert all(map(torch.equal, (x, *begin), before))
    assert torch.equal(lengths, LENGTHS)


@each_cell
def test_states_given_back_share_no_memory_with_what_was_given(kind: str) -> None:
    rnn, x = nets.make(kind), nets.samples()
    begin = nets.start(rnn)
    with torch.no_grad():
        states, last = rnn(x, begin)
        kept = states.clone()
        for part in (*nets.parts(last), *nets.parts(begin), x):
            part.fill_(7)
    assert torch.equal(states, kept)


@each_cell
def test_a_missing_start_is_zero(kind: str) -> None:
    rnn, x = nets.make(kind, **BOTH), nets.samples()
    zeros = nets.state(tuple(torch.zeros_like(part) for part in nets.parts(nets.start(rnn))))
    assert torch.equal(rnn(x)[0], rnn(x, zeros)[0])


@each_cell
def test_a_sequence_can_be_run_in_parts(kind: str) -> None:
    rnn, x = nets.make(kind, num_layers=2), nets.samples()
    whole, _ = rnn(x)
    first, carried = rnn(x[:2])
    second, _ = rnn(x[2:], carried)
    assert close(torch.cat([first, second]), whole)


# ---------------------------------------------------------------------------------------------------------------------
# Dropout


@each_cell
def test_dropout_is_for_training_and_between_layers_only(kind: str) -> None:
    x = nets.samples()
    for stack in STACKS.values():
        rnn, plain = nets.make(kind, dropout=0.5, **stack), nets.make(kind, **stack)
        expected = plain.eval()(x)[0]
        assert torch.equal(rnn.eval()(x)[0], expected)
        trained = [rnn.train()(x)[0] for _ in range(2)]
        if rnn.num_layers == 1:
            assert close(trained[0], expected)
        else:
            assert not torch.allclose(trained[0], expected)
            assert not torch.allclose(*trained)


def test_dropout_zeroes_its_share_and_scales_the_rest() -> None:
    rnn = FastRNN(1, 50, num_layers=2, dropout=0.25, update_nonlinearity="relu", alpha=1.0, beta=0.0)
    with torch.no_grad():  # both layers hand on what they get
        for cell in rnn.cells:
            for parameter in cell.parameters():
                parameter.zero_()
        rnn.cells[0].W.fill_(1)  # type: ignore[operator]
        torch.nn.init.eye_(rnn.cells[1].W)  # type: ignore[arg-type]
    torch.manual_seed(0)
    states, _ = rnn(torch.ones(100, 10, 1))
    assert states.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert (states == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# Copies, files, types


@each_cell
def test_a_copy_lives_its_own_life(kind: str) -> None:
    rnn, x = nets.make(kind, (2, 3), **BOTH), nets.samples()
    expected = rnn(x)[0]
    buffer = io.BytesIO()
    torch.save(rnn.state_dict(), buffer)
    buffer.seek(0)
    loaded = nets.make(kind, (2, 3), seed=9, **BOTH)
    assert not torch.allclose(loaded(x)[0], expected)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for twin in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn)), loaded):
        assert torch.equal(twin(x)[0], expected)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert torch.equal(rnn(x)[0], expected)
        assert not torch.equal(twin(x)[0], expected)


@each_cell
def test_weights_of_another_shape_are_not_loaded(kind: str) -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        nets.make(kind).load_state_dict(nets.make(kind, (2, 3)).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        nets.make(kind).load_state_dict(nets.make(kind, sizes=(D, H + 1)).state_dict())


@each_cell
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 3e-3), (torch.bfloat16, 3e-2)], ids=["float16", "bfloat16"]
)
def test_half_precision_is_near_enough_and_trains(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    rnn, x = nets.make(kind, (2, 3), **BOTH), nets.samples(STEPS, ROWS).to(dtype)
    for lengths in (None, LENGTHS):
        expected = rnn.double()(x.double(), None, lengths)[0]
        states, last = rnn.to(dtype)(x, None, lengths)
        assert {tensor.dtype for tensor in (states, *nets.parts(last))} == {dtype}
        assert close(states.double(), expected, tolerance)
        found = torch.autograd.grad(states.float().square().sum(), list(rnn.parameters()))
        assert all(gradient.isfinite().all() and gradient.any() for gradient in found)


@each_cell
@pytest.mark.parametrize("ranks", ["full", "W,U"])
def test_autocast_is_near_enough_and_trains(kind: str, ranks: str) -> None:
    rnn, x = nets.make(kind, RANKS[ranks], **BOTH).float(), nets.samples(STEPS, ROWS).float()
    for lengths in (None, LENGTHS):
        expected = rnn(x, None, lengths)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states, _ = rnn(x, None, lengths)
            same_as_bfloat16, _ = rnn(x.bfloat16(), None, lengths)
        for found in (states, same_as_bfloat16):
            assert close(found.float(), expected, 3e-2)
            gradients = torch.autograd.grad(found.float().square().sum(), list(rnn.parameters()))
            assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


@each_cell
def test_without_gradients_no_graph_is_kept(kind: str) -> None:
    rnn, x = nets.make(kind, **BOTH), nets.samples()
    with torch.no_grad():
        states, last = rnn(x)
    assert not any(tensor.requires_grad for tensor in (states, *nets.parts(last)))
    with torch.inference_mode():
        assert close(rnn(x)[0], states, 0)
    assert close(rnn(x)[0].detach(), states)


# ---------------------------------------------------------------------------------------------------------------------
# Compilers


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, [1, 2]], ids=["full", "uneven"])
@pytest.mark.parametrize(
    ("kind", "backend"), [*((kind, "eager") for kind in CELLS), ("fastgrnn", "aot_eager"), ("lstm", "aot_eager")]
)
def test_torch_compiles_all_of_it(kind: str, backend: str, lengths: list[int] | None) -> None:
    rnn, x = nets.make(kind, (2, 3), **BOTH), nets.samples(2)
    steps = None if lengths is None else torch.tensor(lengths)
    torch.compiler.reset()
    compiled = torch.compile(rnn, fullgraph=True, backend=backend)
    both = []
    for module in (rnn, compiled):
        states, last = module(x, nets.start(rnn), steps)
        both.append([states, *nets.parts(last), *torch.autograd.grad(states.square().sum(), list(rnn.parameters()))])
    for found, expected in zip(*both, strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


@each_cell
def test_torch_exports_all_of_it(kind: str) -> None:
    rnn, x = nets.make(kind, **BOTH).eval(), nets.samples(3)
    states, last = torch.export.export(rnn, (x,)).module()(x)
    assert close(states, rnn(x)[0])
    assert close(last, rnn(x)[1])


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


def test_the_only_cell_has_a_short_name() -> None:
    rnn = FastGRNN(D, H)
    assert rnn.cell is rnn.cells[0]
    for stack, count in (("both directions", 2), ("two layers", 2), ("two layers, both directions", 4)):
        with pytest.raises(ValueError, match=f"there are {count} cells; name one in `cells`"):
            _ = FastGRNN(D, H, **STACKS[stack]).cell


@each_cell
def test_ranks_may_differ_between_layers(kind: str) -> None:
    rnn: Recurrent = CELLS[kind](D, H, num_layers=3, bidirectional=True, w_rank=[2, None, 4], u_rank=(None, 3, 1))
    assert [cell.w_rank for cell in rnn.cells] == [2, 2, None, None, 4, 4]
    assert [cell.u_rank for cell in rnn.cells] == [None, None, 3, 3, 1, 1]
    assert rnn(torch.zeros(T, N, D))[0].shape == (T, N, 2 * H)


def test_fastrnns_layers_may_start_at_speeds_of_their_own() -> None:
    rnn = FastRNN(D, H, num_layers=2, bidirectional=True, alpha_init=(1.0, -2.0), beta_init=[0.0, 3.0])
    for _ in range(2):  # built, and drawn again
        starts = [tuple(cell.state_dict()[f"{name}_logit"].item() for name in ("alpha", "beta")) for cell in rnn.cells]
        assert starts == [(1.0, 0.0), (1.0, 0.0), (-2.0, 3.0), (-2.0, 3.0)]
        for cell in rnn.cells:
            cell.reset_parameters()  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"beta_init must be one number, or one for each of the 2 layers, not \[3\]"):
        FastRNN(D, H, num_layers=2, beta_init=[3])
    with pytest.raises(ValueError, match="alpha_init must be a number, not None"):
        FastRNN(D, H, num_layers=2, alpha_init=[None, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1, not 0"),
        ({"num_layers": 1.0}, "num_layers must be a whole number .* not 1.0"),
        ({"num_layers": True}, "num_layers must be a whole number .* not True"),
        ({"dropout": 1.5}, "dropout must be a number between 0 and 1, not 1.5"),
        ({"dropout": -0.1}, "dropout must be a number between 0 and 1, not -0.1"),
        ({"dropout": "half"}, "dropout must be a number between 0 and 1, not 'half'"),
        ({"bidirectional": "no"}, "bidirectional must be .* not 'no'"),
        ({"num_layers": 2, "w_rank": [2]}, r"w_rank must be one rank, or one for each of the 2 layers, not \[2\]"),
        ({"num_layers": 2, "u_rank": [1, 2, 3]}, "u_rank must be one rank, or one for each of the 2 layers"),
        ({"w_rank": "2"}, "w_rank must be"),
        ({"num_layers": 2, "w_rank": [2, 5]}, "w_rank must be None .* between 1 and 4, not 5"),
        ({"num_layers": 2, "u_rank": [2, "2"]}, "u_rank must be None .* not '2'"),
    ],
)
def test_an_impossible_stack_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FastGRNN(3, 4, **arguments)


def test_an_argument_that_a_cell_lacks_is_named() -> None:
    for module, wrong in ((FastRNN, "gate_nonlinearity"), (GRU, "nu"), (LSTM, "bias"), (FastGRNN, "alpha")):
        given: dict[str, Any] = {wrong: 0.5}
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{wrong}'"):
            module(D, H, **given)


@each_cell
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
def test_a_sequence_of_another_form_is_refused(kind: str, batch_first: bool) -> None:
    rnn: Recurrent = CELLS[kind](3, 4, batch_first=batch_first)
    for shape in ((5, 2, 4), (5, 4), (1, 5, 2, 3), (3,), ()):
        with pytest.raises(ValueError, match=f"with D = 3, got \\[{', '.join(map(str, shape))}\\]") as caught:
            rnn(torch.zeros(shape))
        assert ("[N, T, D]" if batch_first else "[T, N, D]") in str(caught.value)
    with pytest.raises(
        ValueError, match=r"the input is torch\.int64, the weights are torch\.float32: convert one with"
    ):
        rnn(torch.zeros(5, 2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="the sequence has no steps"):
        rnn(torch.zeros(2, 0, 3) if batch_first else torch.zeros(0, 2, 3))


@each_cell
def test_a_start_of_another_form_is_refused(kind: str) -> None:
    rnn: Recurrent = CELLS[kind](3, 4, **BOTH)
    pair = kind == "lstm"
    what = r"the initial state must be a pair \(h, c\)" if pair else "the initial state must be one tensor"
    for x, right in ((torch.zeros(5, 2, 3), torch.zeros(4, 2, 4)), (torch.zeros(5, 3), torch.zeros(4, 4))):
        for wrong in ((right,) * 3, right if pair else (right, right), 5, "h", (), [None] * (2 if pair else 1)):
            with pytest.raises(ValueError, match=what):
                rnn(x, wrong)
        for shape in ((2, 4), (1, 2, 4), (4, 3, 4), (4, 2, 5), (4, 1, 4), (4, 4, 1)):
            with pytest.raises(ValueError, match=what):
                rnn(x, nets.state((torch.zeros(shape),) * (2 if pair else 1)))
        with pytest.raises(ValueError, match=r"the initial state is torch\.float64, the weights are torch\.float32"):
            rnn(x, nets.state((right.double(),) * (2 if pair else 1)))


# ---------------------------------------------------------------------------------------------------------------------
# What a module says of itself


def test_repr_says_what_is_not_usual() -> None:
    lines = repr(FastGRNN(3, 4)).splitlines()
    assert lines[:2] == ["FastGRNN(", "  3, 4"]
    assert "FastGRNNCell(3, 4, w_rank=None, u_rank=None)" in lines[3]
    text = repr(GRU(3, 4, 2, batch_first=True, bidirectional=True, dropout=1.0))
    assert "  3, 4, num_layers=2, batch_first=True, dropout=1.0, bidirectional=True\n" in text
    assert "GRUCell(8, 4, " in text


@st.composite
def arguments(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A cell's name and arguments of its module, all that a configuration keeps."""
    kind = draw(st.sampled_from(list(CELLS)))
    size, hidden, layers = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    both = draw(st.booleans())
    blocks = len(CELLS[kind].cell_type.blocks)
    inputs = [size, *[(1 + both) * hidden] * (layers - 1)]
    limits = {"w_rank": [min(below, blocks * hidden) for below in inputs], "u_rank": [hidden] * layers}
    made: dict[str, Any] = {"input_size": size, "hidden_size": hidden, "num_layers": layers, "bidirectional": both}
    for name, largest in limits.items():
        for_all = st.none() | st.integers(1, min(largest))
        made[name] = draw(for_all | st.tuples(*(st.none() | st.integers(1, limit) for limit in largest)))
    made["dropout"] = draw(st.just(0.0) | st.floats(0, 1))
    curves = st.sampled_from(list(NONLINEARITIES))
    scalars = {"fastrnn": ("alpha", "beta"), "fastgrnn": ("zeta", "nu")}.get(kind, ())
    made |= {name: draw(st.none() | st.floats(0, 1)) for name in scalars}
    made |= {"update_nonlinearity": draw(curves)} | ({} if kind == "fastrnn" else {"gate_nonlinearity": draw(curves)})
    return kind, made


@given(arguments())
def test_config_describes_the_whole_network(case: tuple[str, dict[str, Any]]) -> None:
    kind, made = case
    rnn: Recurrent = CELLS[kind](**made).eval()
    config = json.loads(json.dumps(rnn.config()))
    assert config == rnn.config()
    assert config.pop("type") == kind
    again = CELLS[kind](**config).eval()
    assert again.config() == rnn.config()
    again.load_state_dict(rnn.state_dict())
    x = torch.ones(2, 2, made["input_size"])
    assert torch.equal(again(x)[0], rnn(x)[0])
    for name in ("num_layers", "bidirectional", "dropout"):
        assert getattr(again, name) == made[name]
    for name in ("w_rank", "u_rank"):
        ranks = made[name] if isinstance(made[name], tuple) else (made[name],) * made["num_layers"]
        assert tuple(getattr(cell, name) for cell in again.cells[:: again.directions]) == ranks


def test_config_keeps_quiet_about_what_is_usual() -> None:
    usual = FastGRNN(3, 4, nu=0.0)
    assert usual.config() == usual.cell.config()
    config = FastGRNN(3, 4, 2, batch_first=True, bidirectional=True, dropout=0.5, w_rank=2, u_rank=[1, None]).config()
    assert config.items() > {"input_size": 3, "num_layers": 2, "bidirectional": True, "dropout": 0.5}.items()
    assert (config["w_rank"], config["u_rank"]) == (2, [1, None])
    assert "batch_first" not in config
    with pytest.raises(ValueError, match="is a function, which no file can hold"):
        FastRNN(3, 4, 2, update_nonlinearity=torch.tanh).config()


@each_cell
def test_nothing_is_kept_between_calls(kind: str) -> None:
    rnn, x = nets.make(kind, **BOTH), nets.samples()
    first = rnn(x)[0]
    rnn(x + 1)
    assert torch.equal(rnn(x)[0], first)
