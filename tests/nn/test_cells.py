"""The cells one step at a time: how they are called, how they start, and what they refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from fastzoo.nn import CELLS, NONLINEARITIES, FastGRNNCell, FastRNNCell, GRUCell, LSTMCell, Recurrent, UGRNNCell

from . import nets
from .nets import D, H, N, T

GATED = [kind for kind in CELLS if kind != "fastrnn"]
BLOCKS = {"fastrnn": "c", "fastgrnn": "zc", "ugrnn": "z c", "gru": "r z c", "lstm": "i f c o"}


def make(kind: str, **arguments: Any) -> Any:
    """A cell with default arguments."""
    torch.manual_seed(0)
    return CELLS[kind].cell_type(**{"input_size": D, "hidden_size": H, **arguments})


def test_each_cell_has_a_name_and_a_module() -> None:
    assert {kind: module.cell_type for kind, module in CELLS.items()} == {
        "fastrnn": FastRNNCell,
        "fastgrnn": FastGRNNCell,
        "ugrnn": UGRNNCell,
        "gru": GRUCell,
        "lstm": LSTMCell,
    }
    for kind, module in CELLS.items():
        assert module.cell_type.kind == kind


@pytest.mark.parametrize("kind", CELLS)
def test_the_loop_over_a_cell_is_the_sequence_module(kind: str) -> None:
    rnn, x = nets.make(kind, (2, 3)), nets.samples()
    begin = nets.start(rnn)
    states, last = rnn(x, begin)
    state = nets.state(tuple(part[0] for part in nets.parts(begin)))
    for t in range(T):
        state = rnn.cell(x[t], state)
        assert torch.allclose(nets.parts(state)[0], states[t], rtol=0, atol=1e-14)
    for part, whole in zip(nets.parts(state), nets.parts(last), strict=True):
        assert torch.allclose(part, whole[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", CELLS)
def test_a_missing_state_is_zero_and_one_sample_needs_no_batch(kind: str) -> None:
    cell, x = nets.make(kind).cell, nets.samples()[0]
    zeros = nets.state((torch.zeros(N, H).double(),) * cell.state_parts)
    following = cell(x, zeros)
    assert isinstance(following, tuple if kind == "lstm" else Tensor)
    for part, from_nothing in zip(nets.parts(following), nets.parts(cell(x)), strict=True):
        assert part.shape == (N, H)
        assert torch.equal(part, from_nothing)
    again = cell(x, following)
    alone = cell(x[1], nets.state(tuple(part[1] for part in nets.parts(following))))
    for part, of_one in zip(nets.parts(again), nets.parts(alone), strict=True):
        assert of_one.shape == (H,)
        assert torch.allclose(part[1], of_one, rtol=0, atol=1e-14)
    assert nets.parts(cell(x[1]))[0].shape == (H,)


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_does_not_change_its_arguments(kind: str) -> None:
    cell, x = nets.make(kind).cell, nets.samples()[0].requires_grad_()
    state = tuple(part[0].requires_grad_() for part in nets.parts(nets.start(nets.make(kind))))
    before = copy.deepcopy((x, state))
    torch.autograd.backward([part.sum() for part in nets.parts(cell(x, nets.state(state)))])
    assert all(map(torch.equal, (x, *state), (before[0], *before[1])))


# ---------------------------------------------------------------------------------------------------------------------
# Start values


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("ranks", nets.RANKS)
def test_weights_have_the_shapes_of_the_equation(kind: str, ranks: str) -> None:
    w_rank, u_rank = nets.RANKS[ranks]
    cell = make(kind, w_rank=w_rank, u_rank=u_rank)
    columns = H * len(BLOCKS[kind].split())
    shapes = {name: tuple(p.shape) for name, p in cell.named_parameters() if name[0] in "WU"}
    w = {"W": (D, columns)} if w_rank is None else {"W1": (D, w_rank), "W2": (w_rank, columns)}
    u = {"U": (H, columns)} if u_rank is None else {"U1": (H, u_rank), "U2": (u_rank, columns)}
    assert shapes == {**w, **u}
    assert cell.blocks == tuple(BLOCKS[kind].split())


@pytest.mark.parametrize("kind", CELLS)
def test_weights_start_as_in_edgeml(kind: str) -> None:
    torch.manual_seed(0)
    cell = make(kind, input_size=64, hidden_size=128, w_rank=32)
    for weights in (*cell.w, *cell.u):
        assert weights.mean().item() == pytest.approx(0, abs=0.005)
        assert weights.std().item() == pytest.approx(0.1, rel=0.05)
    biases = {name: value for name, value in cell.named_parameters() if name.startswith("bias")}
    assert biases
    for value in biases.values():
        assert (value == 1).all()
    scalars = {name: value.item() for name, value in cell.named_parameters() if name.endswith("_logit")}
    assert scalars == {
        "fastrnn": {"alpha_logit": -3, "beta_logit": 3},
        "fastgrnn": {"zeta_logit": 1, "nu_logit": -4},
    }.get(kind, {})
    assert {*dict(cell.named_parameters())} == {"W1", "W2", "U", *biases, *scalars}


def test_scalars_are_sigmoids_of_what_is_trained() -> None:
    fastrnn, fastgrnn = make("fastrnn"), make("fastgrnn")
    assert (fastrnn.alpha.item(), fastrnn.beta.item()) == (pytest.approx(0.0474259), pytest.approx(0.9525741))
    assert (fastgrnn.zeta.item(), fastgrnn.nu.item()) == (pytest.approx(0.7310586), pytest.approx(0.0179862))
    assert make("fastrnn", alpha_init=0.0, beta_init=-1.0).beta_logit.item() == -1
    assert make("fastrnn", alpha_init=0.0).alpha.item() == 0.5
    assert make("fastgrnn", zeta_init=0.0, nu_init=3.0).zeta.item() == 0.5
    assert make("fastgrnn", zeta_init=0.0, nu_init=3.0).nu_logit.item() == 3


@pytest.mark.parametrize(
    ("kind", "name"), [("fastrnn", "alpha"), ("fastrnn", "beta"), ("fastgrnn", "zeta"), ("fastgrnn", "nu")]
)
@pytest.mark.parametrize("value", [0, 0.7, 1.0])
def test_a_fixed_scalar_is_not_trained(kind: str, name: str, value: float) -> None:
    cell = make(kind, **{name: value})
    assert getattr(cell, name).item() == pytest.approx(value)
    assert not getattr(cell, name).requires_grad
    assert f"{name}_logit" not in dict(cell.named_parameters())
    assert not [key for key in cell.state_dict() if name in key], "the configuration holds it, not the weights"
    assert len([key for key in cell.state_dict() if key.endswith("_logit")]) == 1
    assert cell.config()[name] == value


@pytest.mark.parametrize("kind", GATED)
def test_gate_biases_can_be_spread_over_slow_and_fast_units(kind: str) -> None:
    def biases(gate_bias: Any) -> dict[str, list[float]]:
        cell = make(kind, hidden_size=5, gate_bias=gate_bias)
        if kind == "fastgrnn":
            return {"z": cell.bias_gate.tolist(), "c": cell.bias_update.tolist()}
        return dict(zip(cell.blocks, cell.bias.view(-1, 5).tolist(), strict=True))

    keeps = "f" if kind == "lstm" else "z"
    for start, expected in (((0, 4), [0, 1, 2, 3, 4]), ([4.0, 0.0], [4, 3, 2, 1, 0]), (-0.5, [-0.5] * 5)):
        found = biases(start)
        assert found.pop(keeps) == expected
        assert len(found) == (1 if kind == "fastgrnn" else len(BLOCKS[kind].split()) - 1)
        assert set(map(tuple, found.values())) == {(1.0,) * 5}


@pytest.mark.parametrize("kind", CELLS)
def test_weights_can_be_drawn_anew(kind: str) -> None:
    spread = {} if kind == "fastrnn" else {"gate_bias": (0, 3)}
    cell, other = make(kind, **spread), make(kind, **spread)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.fill_(7)
    torch.manual_seed(0)
    cell.reset_parameters()
    for name, value in cell.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("kind", CELLS)
def test_type_and_place_of_the_weights_can_be_chosen(kind: str) -> None:
    arguments = {"fastrnn": {"alpha": 0.3}, "fastgrnn": {"nu": 0.5}}.get(kind, {})
    double = make(kind, dtype=torch.float64, **arguments)
    tensors = [*double.parameters(), *double.buffers()]
    assert {tensor.dtype for tensor in tensors} == {torch.float64}
    assert nets.parts(double(nets.samples()[0]))[0].dtype == torch.float64
    nowhere = make(kind, device="meta", **arguments)
    assert {tensor.device.type for tensor in (*nowhere.parameters(), *nowhere.buffers())} == {"meta"}
    rnn: Recurrent = CELLS[kind](D, H, num_layers=2, bidirectional=True, device="meta", dtype=torch.float16)
    states, last = rnn(torch.empty(T, N, D, device="meta", dtype=torch.float16))
    assert (states.shape, states.dtype, states.device.type) == ((T, N, 2 * H), torch.float16, "meta")
    assert {part.shape for part in nets.parts(last)} == {(4, N, H)}


# ---------------------------------------------------------------------------------------------------------------------
# Nonlinearities that are functions


@pytest.mark.parametrize("kind", CELLS)
def test_a_nonlinearity_may_be_a_function(kind: str) -> None:
    gate: dict[str, Any] = {} if kind == "fastrnn" else {"gate_nonlinearity": lambda a: 0.5 * (1 + torch.tanh(0.5 * a))}
    by_name, by_function = nets.make(kind), nets.make(kind, **gate, update_nonlinearity=torch.tanh)
    x, begin = nets.samples(), nets.start(by_name)
    states, _ = by_function(x, begin)
    assert torch.allclose(states, by_name(x, begin)[0], rtol=0, atol=1e-14)
    states.sum().backward()
    assert all(parameter.grad is not None for parameter in by_function.parameters())
    squared = nets.make(kind, update_nonlinearity=torch.square)
    assert not torch.allclose(squared(x, begin)[0], states)


@pytest.mark.parametrize("kind", CELLS)
def test_no_file_can_hold_a_function(kind: str) -> None:
    with pytest.raises(ValueError, match=r"update_nonlinearity is a function, .* name one of fastzoo\.nn\.NONL"):
        make(kind, update_nonlinearity=torch.tanh).config()
    if kind != "fastrnn":
        with pytest.raises(ValueError, match="gate_nonlinearity is a function"):
            CELLS[kind](D, H, gate_nonlinearity=torch.sigmoid).config()


def test_an_unknown_nonlinearity_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown nonlinearity 'sigmoidal'") as caught:
        make("gru", gate_nonlinearity="sigmoidal")
    assert ", ".join(NONLINEARITIES) in str(caught.value)
    assert "function" in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("module", [False, True], ids=["cell", "module"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "input_size must be a whole number of at least 1, not 0"),
        ({"hidden_size": -4}, "hidden_size must be .* not -4"),
        ({"hidden_size": 4.0}, "hidden_size must be a whole number .* not 4.0"),
        ({"hidden_size": True}, "hidden_size must be a whole number .* not True"),
        ({"hidden_size": "ten"}, "hidden_size must be a whole number .* not 'ten'"),
        ({"w_rank": 4}, r"w_rank must be None \(full\) or a whole number between 1 and 3, not 4"),
        ({"input_size": 99, "w_rank": 98}, "w_rank must be None .* and (4|8|12|16), not 98"),
        ({"u_rank": 5}, r"u_rank must be None \(full\) or a whole number between 1 and 4, not 5"),
        ({"u_rank": 0}, "u_rank must be None"),
        ({"w_rank": 1.5}, "w_rank must be None"),
        ({"w_rank": "2"}, "w_rank must be"),
        ({"update_nonlinearity": ""}, "unknown nonlinearity ''; known are"),
        ({"update_nonlinearity": None}, "unknown nonlinearity None; known are"),
        ({"update_nonlinearity": ["tanh"]}, r"unknown nonlinearity \['tanh'\]; known are"),
    ],
)
def test_an_impossible_cell_is_refused(kind: str, module: bool, arguments: dict[str, Any], message: str) -> None:
    made: Any = CELLS[kind] if module else CELLS[kind].cell_type
    with pytest.raises(ValueError, match=message):
        made(**{"input_size": 3, "hidden_size": 4, **arguments})


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("fastgrnn", {"zeta": 1.5}, "a fixed zeta is a sigmoid's value, a number between 0 and 1, not 1.5"),
        ("fastgrnn", {"nu": -0.1}, "a fixed nu is .* a number between 0 and 1, not -0.1"),
        ("fastgrnn", {"nu": float("nan")}, "a fixed nu is .* a number between 0 and 1, not nan"),
        ("fastgrnn", {"nu": "0"}, "a fixed nu is .* a number between 0 and 1, not '0'"),
        ("fastgrnn", {"nu": True}, "a fixed nu is .* a number between 0 and 1, not True"),
        ("fastrnn", {"alpha": 2}, "a fixed alpha is .* a number between 0 and 1, not 2"),
        ("fastrnn", {"beta": -1}, "a fixed beta is .* a number between 0 and 1, not -1"),
        *((kind, {"gate_bias": (0, 1, 2)}, "gate_bias must be a number or a pair of numbers") for kind in GATED),
        *((kind, {"gate_bias": "wide"}, "gate_bias must be .* not 'wide'") for kind in GATED),
        *((kind, {"gate_nonlinearity": "step"}, "unknown nonlinearity 'step'") for kind in GATED),
    ],
)
def test_what_only_some_cells_have_is_checked_there(kind: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(kind, **arguments)


@pytest.mark.parametrize("kind", CELLS)
def test_samples_of_another_form_are_refused(kind: str) -> None:
    for shape in ((N, D + 1), (D + 1,), (T, N, D), ()):
        with pytest.raises(ValueError, match=r"expected \[N, D\] with D = 3, got \["):
            make(kind)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"the input is torch\.float64, the weights are torch\.float32: convert one"):
        make(kind)(torch.zeros(N, D).double())


@pytest.mark.parametrize("kind", CELLS)
def test_a_state_of_another_form_is_refused(kind: str) -> None:
    cell, x = make(kind), torch.zeros(N, D)
    right = torch.zeros(N, H)
    wanted = (
        r"the state must be a pair \(h, c\) \[2, 4\]" if kind == "lstm" else r"the state must be one tensor \[2, 4\]"
    )
    for wrong in ((right, right, right), right if kind == "lstm" else (right, right), 5, (), [None] * cell.state_parts):
        with pytest.raises(ValueError, match=wanted):
            cell(x, wrong)
    for shape in ((H,), (1, H), (N, H + 1), (1, N, H)):
        with pytest.raises(ValueError, match=wanted):
            cell(x, nets.state((torch.zeros(shape),) * cell.state_parts))
    with pytest.raises(ValueError, match=r"the state is torch\.float64, the weights are torch\.float32: convert one"):
        cell(x, nets.state((right.double(),) * cell.state_parts))


# ---------------------------------------------------------------------------------------------------------------------
# What a cell says of itself


def test_repr_says_what_is_not_usual() -> None:
    assert repr(FastRNNCell(3, 4, u_rank=2)) == "FastRNNCell(3, 4, w_rank=None, u_rank=2)"
    assert repr(GRUCell(3, 4)) == "GRUCell(3, 4, w_rank=None, u_rank=None)"
    assert "gate=relu" in repr(FastGRNNCell(3, 4, gate_nonlinearity="relu"))
    assert "update=quant_tanh" in repr(LSTMCell(3, 4, update_nonlinearity="quant_tanh"))
    assert repr(FastGRNNCell(3, 4, nu=0.0)).endswith("nu=0.0)")


def test_config_is_the_equation_and_not_the_start() -> None:
    sizes = {"input_size": 3, "hidden_size": 4, "w_rank": None, "u_rank": 2}
    curves = {"gate_nonlinearity": "sigmoid", "update_nonlinearity": "tanh"}
    assert FastRNNCell(3, 4, u_rank=2, alpha=0.5, beta_init=0.0).config() == {
        "type": "fastrnn", **sizes, "update_nonlinearity": "tanh", "alpha": 0.5, "beta": None
    }  # fmt: skip
    assert FastGRNNCell(3, 4, u_rank=2, nu=0.0, gate_bias=3).config() == {
        "type": "fastgrnn", **sizes, **curves, "zeta": None, "nu": 0.0
    }  # fmt: skip
    for kind in ("ugrnn", "gru", "lstm"):
        assert make(kind, u_rank=2).config() == {"type": kind, **sizes, **curves}
