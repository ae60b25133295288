"""States and gradients of FastGRNN against NumPy in float64 and against autograd."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from fastzoo.nn import NONLINEARITIES, FastGRNN, FastGRNNCell, functional

from . import oracle

D, H, N, T = 3, 4, 2, 5
Ranks = tuple[int | None, int | None]

# Each nonlinearity once as the gate and once as the update.
PAIRS = dict.fromkeys([*((name, "tanh") for name in NONLINEARITIES), *(("sigmoid", name) for name in NONLINEARITIES)])

pairs = pytest.mark.parametrize(("gate", "update"), PAIRS)
ranks = pytest.mark.parametrize("ranks", [(None, None), (2, None), (None, 3), (2, 3)], ids=["full", "W", "U", "W,U"])
scalars = pytest.mark.parametrize(
    "scalars", [{}, {"nu": 0.0}, {"zeta": 0.7}, {"zeta": 1.0, "nu": 0.0}], ids=["trained", "nu=0", "zeta=.7", "unit"]
)


def make(
    kind: Any = FastGRNN,
    ranks: Ranks = (None, None),
    seed: int = 0,
    **arguments: Any,
) -> Any:
    """A module in float64 whose states stay of order one and visit every piece of the piecewise-linear functions."""
    torch.manual_seed(seed)
    rnn = kind(D, H, *ranks, **arguments).double()
    with torch.no_grad():
        for name, parameter in rnn.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
            if name[0] == "U" or name.startswith("bias"):
                parameter.mul_(0.5)
    return rnn


def sequence(steps: int = T, batch: int = N, size: int = D, seed: int = 1) -> Tensor:
    """Samples [T, N, D] in float64."""
    return torch.randn(steps, batch, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(rnn: FastGRNN | FastGRNNCell, x: Tensor, h: Tensor) -> list[Tensor]:
    """Gradients of a fixed random sum of all states, for ``x``, ``h`` and every parameter."""
    inputs = [x.clone().requires_grad_(), h.clone().requires_grad_()]
    if isinstance(rnn, FastGRNN):
        states = rnn(inputs[0], inputs[1][None])[0]
    else:
        h_t, each = inputs[1], []
        for x_t in inputs[0]:
            h_t = rnn(x_t, h_t)
            each.append(h_t)
        states = torch.stack(each)
    loss = (states * sequence(len(x), x.shape[1], H, seed=5)).sum()
    return list(torch.autograd.grad(loss, [*inputs, *rnn.parameters()]))


@pairs
@ranks
@scalars
def test_states_are_those_of_the_equation(gate: str, update: str, ranks: Ranks, scalars: dict[str, Any]) -> None:
    rnn = make(FastGRNN, ranks, gate_nonlinearity=gate, update_nonlinearity=update, **scalars)
    cell = make(FastGRNNCell, ranks, gate_nonlinearity=gate, update_nonlinearity=update, **scalars)
    x, h0 = sequence(), sequence(1, N, H, seed=2)
    expected = oracle.states(rnn, x.numpy(), h0[0].numpy())
    tolerance = 1e-12 * max(1, np.abs(expected).max())  # a relu gate may be larger than 1, and its states grow
    with torch.no_grad():
        assert np.abs(rnn(x, h0)[0].numpy() - expected).max() <= tolerance
        h = h0[0]
        for t in range(T):
            h = cell(x[t], h)
            assert np.abs(h.numpy() - expected[t]).max() <= tolerance


@pairs
@ranks
def test_float32_stays_close_over_a_long_sequence(gate: str, update: str, ranks: Ranks) -> None:
    torch.manual_seed(3)
    rnn = FastGRNN(D, 16, *ranks, gate, update, gate_bias=0.0)
    x = sequence(128)
    expected = oracle.states(rnn, x.numpy())
    with torch.no_grad():
        states = rnn(x.float())[0].numpy()
    assert states.dtype == np.float32
    assert np.abs(states - expected).max() <= 1e-5 * np.abs(expected).max()


def clear_of_kinks(rnn: FastGRNN, x: Tensor, h: Tensor) -> bool:
    """Whether no pre-activation is so near a kink that a finite difference would step over it."""
    states = np.concatenate([h.numpy()[None], oracle.states(rnn, x.numpy(), h.numpy())])
    for name, pre in zip(
        (rnn.gate_nonlinearity, rnn.update_nonlinearity),
        oracle.preactivations(rnn, x.numpy(), states[:-1]),
        strict=True,
    ):
        if any(np.abs(pre - kink).min() < 1e-3 for kink in oracle.KINKS.get(name, ())):
            return False
    return True


@pairs
@pytest.mark.parametrize("ranks", [(None, None), (2, 3)], ids=["full", "low"])
def test_hand_written_gradients_are_those_of_finite_differences(gate: str, update: str, ranks: Ranks) -> None:
    rnn = make(FastGRNN, ranks, gate_nonlinearity=gate, update_nonlinearity=update)
    x, h0 = sequence(seed=4), sequence(1, N, H, seed=2)[0]
    assert clear_of_kinks(rnn, x, h0)
    names, parameters = zip(*rnn.named_parameters(), strict=True)
    assert {"zeta_logit", "nu_logit"} <= set(names)

    def states(x: Tensor, h: Tensor, *values: Tensor) -> Tensor:
        result: Tensor = functional_call(rnn, dict(zip(names, values, strict=True)), (x, h[None]))[0]
        return result

    assert gradcheck(states, (x.requires_grad_(), h0.requires_grad_(), *parameters))


@pairs
@ranks
@scalars
def test_gradients_are_those_of_autograd_over_the_cell(
    gate: str, update: str, ranks: Ranks, scalars: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"gate_nonlinearity": gate, "update_nonlinearity": update, **scalars}
    rnn, cell = make(FastGRNN, ranks, **arguments), make(FastGRNNCell, ranks, **arguments)
    x, h = sequence(), sequence(1, N, H, seed=2)[0]
    for hand_written, automatic in zip(gradients(rnn, x, h), gradients(cell, x, h), strict=True):
        assert hand_written.shape == automatic.shape
        assert torch.allclose(hand_written, automatic, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("elements", [0, 1, N * H, 2 * N * H, 3 * N * H + 1, T * N * H, 10**9])
@ranks
def test_gradients_do_not_depend_on_the_chunks_of_the_backward_pass(
    elements: int, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    rnn, cell = make(FastGRNN, ranks), make(FastGRNNCell, ranks)
    x, h = sequence(), sequence(1, N, H, seed=2)[0]
    monkeypatch.setattr(functional, "_CHUNK_ELEMENTS", elements)
    for chunked, automatic in zip(gradients(rnn, x, h), gradients(cell, x, h), strict=True):
        assert torch.allclose(chunked, automatic, rtol=1e-10, atol=1e-10)


def test_a_fixed_scalar_is_not_trained() -> None:
    assert {"zeta_logit", "nu_logit"} <= dict(make().named_parameters()).keys()
    fixed = make(zeta=0.9, nu=0.0)
    assert not {"zeta_logit", "nu_logit"} & dict(fixed.named_parameters()).keys()
    assert (fixed.zeta.item(), fixed.nu.item()) == (pytest.approx(0.9), 0.0)
    assert not fixed.zeta.requires_grad


def test_the_gradient_reaches_only_what_asks_for_it() -> None:
    rnn = make()
    rnn.U.requires_grad_(False)
    rnn(sequence())[0].sum().backward()
    assert rnn.U.grad is None
    assert rnn.W.grad is not None


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    rnn, x = make(), sequence().requires_grad_()
    (slope,) = torch.autograd.grad(rnn(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(slope.sum())


def test_batch_first_only_turns_the_axes() -> None:
    time_first, batch_first = make(), make(batch_first=True)
    x, h0 = sequence(), sequence(1, N, H, seed=2)
    states, last = time_first(x, h0)
    turned, same_last = batch_first(x.transpose(0, 1), h0)
    assert torch.equal(turned, states.transpose(0, 1))
    assert torch.equal(same_last, last)
    assert torch.equal(last[0], states[-1])
    assert last.shape == (1, N, H)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 4), (6, 1)])
def test_one_window_and_one_step_are_no_special_case(steps: int, batch: int) -> None:
    rnn, x = make(ranks=(2, 3)), sequence(steps, batch)
    states, last = rnn(x)
    assert (states.shape, last.shape) == ((steps, batch, H), (1, batch, H))
    assert np.abs(states.detach().numpy() - oracle.states(rnn, x.numpy())).max() < 1e-12
    states.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in rnn.parameters())


def test_inputs_are_not_changed() -> None:
    rnn, x, h0 = make(), sequence(), sequence(1, N, H, seed=2)
    before = x.clone(), h0.clone()
    rnn(x.requires_grad_(), h0.requires_grad_())[0].sum().backward()
    assert torch.equal(x, before[0])
    assert torch.equal(h0, before[1])


def test_a_missing_start_is_zero() -> None:
    x = sequence()
    assert torch.equal(make()(x)[0], make()(x, torch.zeros(1, N, H, dtype=torch.float64))[0])
    assert torch.equal(make(FastGRNNCell)(x[0]), make(FastGRNNCell)(x[0], torch.zeros(N, H, dtype=torch.float64)))


def test_a_sequence_can_be_run_in_parts() -> None:
    rnn, x = make(), sequence()
    whole, _ = rnn(x)
    first, carried = rnn(x[:2])
    second, _ = rnn(x[2:], carried)
    assert torch.allclose(torch.cat([first, second]), whole, rtol=0, atol=1e-14)


def test_without_gradients_no_graph_is_kept() -> None:
    rnn, x = make(), sequence()
    with torch.no_grad():
        states, last = rnn(x)
    assert not states.requires_grad
    assert not last.requires_grad
    assert torch.equal(states, rnn(x)[0])


def test_a_copy_lives_its_own_life() -> None:
    rnn, x = make(zeta=0.5), sequence()
    twin = copy.deepcopy(rnn)
    before = rnn(x)[0]
    assert torch.equal(twin(x)[0], before)
    with torch.no_grad():
        twin.W.zero_()
    assert torch.equal(rnn(x)[0], before)
    assert not torch.equal(twin(x)[0], before)


@ranks
@scalars
def test_state_dict_carries_the_function(ranks: Ranks, scalars: dict[str, Any]) -> None:
    source, target = make(ranks=ranks, seed=0, **scalars), make(ranks=ranks, seed=9, **scalars)
    x = sequence()
    assert not torch.equal(source(x)[0], target(x)[0])
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(x)[0], target(x)[0])


@given(
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    data=st.data(),
    gate=st.sampled_from(list(NONLINEARITIES)),
    update=st.sampled_from(list(NONLINEARITIES)),
    zeta=st.none() | st.floats(0, 1),
    nu=st.none() | st.floats(0, 1),
)
def test_config_describes_the_equation(
    sizes: tuple[int, int], data: st.DataObject, gate: str, update: str, zeta: float | None, nu: float | None
) -> None:
    w_rank = data.draw(st.none() | st.integers(1, min(sizes)))
    u_rank = data.draw(st.none() | st.integers(1, sizes[1]))
    rnn = FastGRNN(*sizes, w_rank, u_rank, gate, update, zeta, nu, gate_bias=(0, 4))
    config = rnn.config()
    assert config.pop("type") == "fastgrnn"
    again = FastGRNN(**config)
    assert again.config() == rnn.config()
    again.load_state_dict(rnn.state_dict())
    x = sequence(2, 2, sizes[0]).float()
    assert torch.equal(again(x)[0], rnn(x)[0])


def test_weights_start_as_in_edgeml() -> None:
    torch.manual_seed(0)
    rnn = FastGRNN(64, 128, w_rank=32)
    for weights in (*rnn.w, *rnn.u):
        assert weights.mean().item() == pytest.approx(0, abs=0.005)
        assert weights.std().item() == pytest.approx(0.1, rel=0.05)
    assert (rnn.bias_gate == 1).all()
    assert (rnn.bias_update == 1).all()
    assert rnn.zeta.item() == pytest.approx(1 / (1 + np.exp(-1)))
    assert rnn.nu.item() == pytest.approx(1 / (1 + np.exp(4)))


def test_gate_biases_can_be_spread() -> None:
    assert FastGRNN(D, 5, gate_bias=(0, 4)).bias_gate.tolist() == [0, 1, 2, 3, 4]
    assert FastGRNN(D, 5, gate_bias=[0.0, 4.0]).bias_update.tolist() == [1] * 5
    assert FastGRNN(D, 3, gate_bias=-0.5).bias_gate.tolist() == [-0.5] * 3


def test_trained_scalars_start_where_they_are_told() -> None:
    rnn = FastGRNN(D, H, zeta_init=0.0, nu_init=3.0)
    assert rnn.zeta.item() == 0.5
    assert rnn.nu.item() == pytest.approx(1 / (1 + np.exp(-3)))


def test_repr_says_what_is_not_usual() -> None:
    assert repr(FastGRNN(3, 4)) == "FastGRNN(3, 4, w_rank=None, u_rank=None)"
    assert "gate=relu" in repr(FastGRNN(3, 4, gate_nonlinearity="relu", nu=0.0))
    assert repr(FastGRNNCell(3, 4, nu=0.0)).endswith("nu=0.0)")


@pytest.mark.parametrize("kind", [FastGRNN, FastGRNNCell])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "input_size must be a whole number of at least 1, not 0"),
        ({"hidden_size": -4}, "hidden_size must be .* not -4"),
        ({"hidden_size": 4.0}, "hidden_size must be a whole number .* not 4.0"),
        ({"hidden_size": True}, "hidden_size must be a whole number .* not True"),
        ({"hidden_size": "ten"}, "hidden_size must be a whole number .* not 'ten'"),
        ({"w_rank": 4}, r"w_rank must be None \(full\) or a whole number between 1 and 3, not 4"),
        ({"u_rank": 5}, r"u_rank must be None \(full\) or a whole number between 1 and 4, not 5"),
        ({"u_rank": 0}, "u_rank must be None"),
        ({"w_rank": 1.5}, "w_rank must be None"),
        ({"gate_nonlinearity": "sigmoidal"}, "unknown nonlinearity 'sigmoidal'; known are tanh, sigmoid, relu, quant_"),
        ({"update_nonlinearity": ""}, "unknown nonlinearity ''; known are"),
        ({"zeta": 1.5}, "a fixed zeta is a sigmoid's value, a number between 0 and 1, not 1.5"),
        ({"nu": -0.1}, "a fixed nu is .* a number between 0 and 1, not -0.1"),
        ({"nu": float("nan")}, "a fixed nu is .* a number between 0 and 1, not nan"),
        ({"nu": "0"}, "a fixed nu is .* a number between 0 and 1, not '0'"),
        ({"gate_bias": (0, 1, 2)}, "gate_bias must be a number or a pair of numbers"),
        ({"gate_bias": "wide"}, "gate_bias must be a number or a pair of numbers, not 'wide'"),
    ],
)
def test_an_impossible_cell_is_refused(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{"input_size": 3, "hidden_size": 4, **arguments})


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 2, 4), r"with D = 3, got \[5, 2, 4\]"),
        ((5, 3), r"with D = 3, got \[5, 3\]"),
        ((1, 5, 2, 3), r"got \[1, 5, 2, 3\]"),
    ],
)
def test_a_sequence_of_another_form_is_refused(shape: tuple[int, ...], message: str, batch_first: bool) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        FastGRNN(3, 4, batch_first=batch_first)(torch.zeros(shape))
    assert ("[N, T, D]" if batch_first else "[T, N, D]") in str(caught.value)


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="the sequence has no steps"):
        FastGRNN(3, 4)(torch.zeros(0, 2, 3))
    with pytest.raises(ValueError, match="the sequence has no steps"):
        FastGRNN(3, 4, batch_first=True)(torch.zeros(2, 0, 3))


@pytest.mark.parametrize("shape", [(2, 4), (1, 1, 4), (2, 2, 4), (1, 2, 5)])
def test_a_start_of_another_form_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"h0 must be \[1, N, H\] = \[1, 2, 4\], not"):
        FastGRNN(3, 4)(torch.zeros(5, 2, 3), torch.zeros(shape))
