"""Gradients: written by hand, by torch's kernels, by autograd over the loop, and by finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from fastzoo.nn import CELLS, Cell, FastGRNN, Recurrent

from . import nets, oracle
from .nets import RANKS, STACKS, H, N, T

HAND_WRITTEN = [
    pytest.param(kind, arguments, id="-".join((kind, *arguments.values())))
    for kind in ("fastrnn", "fastgrnn")
    for arguments in nets.pairs(kind)
]
SCALARS: dict[str, list[dict[str, Any]]] = {
    "fastrnn": [{}, {"alpha": 0.3}, {"beta": 0.7}, {"alpha": 0.0, "beta": 1.0}],
    "fastgrnn": [{}, {"nu": 0.0}, {"zeta": 0.7}, {"zeta": 1.0, "nu": 0.0}],
}


def gradients(rnn: Recurrent, x: Tensor, start: Any, lengths: Tensor | None = None) -> dict[str, Tensor]:
    """Of a fixed random sum of all states and the last ones: by ``x``, the start and every parameter."""
    like = next(rnn.parameters())
    inputs = [part.to(like).detach().clone().requires_grad_() for part in (x, *nets.parts(start))]
    states, last = rnn(inputs[0], nets.state(tuple(inputs[1:])), lengths)
    names, parameters = zip(*rnn.named_parameters(), strict=True)
    outputs = states, *nets.parts(last)
    weights = [torch.randn(o.shape, generator=torch.Generator().manual_seed(5)).to(like) for o in outputs]
    found = torch.autograd.grad(outputs, [*inputs, *parameters], weights)
    return dict(zip(("x", "h0", "c0")[: len(inputs)] + names, found, strict=True))


@contextmanager
def by_autograd(rnn: Recurrent) -> Iterator[None]:
    """The plain loop over the cell, for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rnn.cell_type, "unroll", Cell.unroll)
        yield


def differences(rnn: Recurrent, x: Tensor, start: Any, lengths: Tensor | None = None) -> list[str]:
    """Where gradients are not those of autograd: in float64 to 1e-10, in float32 to 1e-4 of the largest."""
    assert rnn.cell_type.unroll is not Cell.unroll, "nothing to compare"
    with by_autograd(rnn):
        expected = gradients(rnn, x, start, lengths)
    faults = []
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        found = gradients(rnn.to(dtype), x, start, lengths)
        assert found.keys() == expected.keys()
        for name, exact in expected.items():
            assert (found[name].shape, found[name].dtype) == (exact.shape, dtype)
            error = (found[name] - exact).abs().max() / exact.abs().max().clamp_min(1e-3)
            if not error <= tolerance:
                faults.append(f"{dtype} {name}: {error:.1e}")
    rnn.double()
    return faults


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(("kind", "nonlinearities"), HAND_WRITTEN)
def test_hand_written_gradients_are_those_of_autograd(kind: str, nonlinearities: dict[str, Any], ranks: str) -> None:
    for scalars in SCALARS[kind]:
        rnn = nets.make(kind, RANKS[ranks], **nonlinearities, **scalars)
        assert differences(rnn, nets.samples(), nets.start(rnn)) == [], scalars


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("kind", ["fastrnn", "fastgrnn", "lstm"])
def test_gradients_of_long_and_uneven_sequences_are_those_of_autograd(kind: str, stack: str) -> None:
    rnn = nets.make(kind, RANKS["W,U"], **STACKS[stack])
    x, start = nets.samples(64, 4), nets.start(rnn, 4)
    assert differences(rnn, x, start) == []
    assert differences(rnn, x, start, torch.tensor([64, 1, 40, 17])) == []


def check_by_finite_differences(rnn: Recurrent, lengths: Tensor | None = None) -> None:
    """For ``x``, the start and every parameter, at a place where no kink is near."""
    for seed in range(100):
        x, start = nets.samples(4, N, 2, seed), nets.start(rnn, N, seed + 100)
        *_, cells = oracle.run(rnn, x.numpy(), nets.arrays(start), None if lengths is None else lengths.tolist())
        if oracle.clear_of_kinks(cells):
            break
    else:
        pytest.fail("every sample is near a kink")
    names, parameters = zip(*rnn.named_parameters(), strict=True)
    assert all(parameter.requires_grad for parameter in parameters)
    begin = nets.parts(start)

    def outputs(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        given = nets.state(values[: len(begin)])
        states, last = functional_call(rnn, dict(zip(names, values[len(begin) :], strict=True)), (x, given, lengths))
        return states, *nets.parts(last)

    inputs = [tensor.requires_grad_() for tensor in (x, *begin)]
    assert gradcheck(outputs, (*inputs, *parameters))


@pytest.mark.parametrize("ranks", ["full", "W,U"])
@pytest.mark.parametrize(("kind", "nonlinearities"), HAND_WRITTEN)
def test_hand_written_gradients_are_those_of_finite_differences(
    kind: str, nonlinearities: dict[str, Any], ranks: str
) -> None:
    rnn = nets.make(kind, (None, None) if ranks == "full" else (1, 2), (2, 3), **nonlinearities)
    assert sum(name.endswith("_logit") for name, _ in rnn.named_parameters()) == 2
    check_by_finite_differences(rnn)


@pytest.mark.parametrize("stack", ["one layer", "two layers, both directions"])
@pytest.mark.parametrize("kind", CELLS)
def test_gradients_are_those_of_finite_differences(kind: str, stack: str) -> None:
    check_by_finite_differences(nets.make(kind, (1, 2), (2, 2), **STACKS[stack]))


@pytest.mark.parametrize("kind", CELLS)
def test_gradients_of_uneven_sequences_are_those_of_finite_differences(kind: str) -> None:
    rnn = nets.make(kind, (None, None), (2, 2), num_layers=2, bidirectional=True)
    check_by_finite_differences(rnn, torch.tensor([2, 4]))


@pytest.mark.parametrize("kind", CELLS)
def test_the_gradient_reaches_only_what_asks_for_it(kind: str) -> None:
    rnn, x = nets.make(kind), nets.samples().requires_grad_()
    asking = gradients(rnn, x, nets.start(rnn))
    rnn.cell.U.requires_grad_(False)
    rnn(x)[0].sum().backward()
    assert x.grad is not None
    assert rnn.cell.U.grad is None
    assert {name for name, p in rnn.named_parameters() if p.grad is not None} == asking.keys() - {"x", "h0", "c0"} - {
        "cells.0.U"
    }
    rnn.requires_grad_(False)
    assert rnn(x)[0].requires_grad
    assert not rnn(x.detach())[0].requires_grad


@pytest.mark.parametrize("kind", ["fastrnn", "fastgrnn"])
def test_a_second_derivative_is_refused_and_not_wrong(kind: str) -> None:
    rnn, x = nets.make(kind), nets.samples().requires_grad_()
    (slope,) = torch.autograd.grad(rnn(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(slope.sum())


@pytest.mark.parametrize("kind", CELLS)
def test_a_change_of_the_states_in_place_is_refused_and_not_wrong(kind: str) -> None:
    rnn, x = nets.make(kind), nets.samples().requires_grad_()
    (expected,) = torch.autograd.grad((2 * rnn(x)[0]).square().sum(), x)
    refused = ""
    try:
        (found,) = torch.autograd.grad(rnn(x)[0].mul_(2).square().sum(), x)
    except RuntimeError as error:
        refused = str(error)
    assert "modified" in refused if refused else torch.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["fastrnn", "fastgrnn"])
@pytest.mark.parametrize("ranks", ["full", "W,U"])
def test_gradients_and_inputs_may_lie_in_memory_as_they_like(kind: str, ranks: str) -> None:
    rnn = nets.make(kind, RANKS[ranks])
    weight = torch.randn(N, 1, T, generator=torch.Generator().manual_seed(5)).double()

    def of(x: Tensor, contiguous: bool) -> tuple[Tensor, ...]:
        states, _ = rnn(x)
        grad = weight.permute(2, 0, 1).expand(T, N, H)  # turned around, and one number for a whole state
        return torch.autograd.grad(states, list(rnn.parameters()), grad.contiguous() if contiguous else grad)

    x = nets.samples()
    everywhere = torch.stack([x, x + 1], dim=3)[..., 0]  # every other number
    assert not everywhere.is_contiguous()
    expected = of(x, True)
    for found in (of(x, False), of(everywhere, False), of(x.flip(0).contiguous().flip(0), False)):
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    with torch.no_grad():
        for parameter in rnn.parameters():
            if parameter.dim() == 2:
                parameter.set_(torch.stack([parameter, parameter + 1], dim=2)[..., 0])  # type: ignore[call-overload]
    assert not next(rnn.parameters()).is_contiguous()
    for one, other in zip(of(x, False), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("kind", CELLS)
def test_other_weights_can_be_put_in_the_place_of_the_parameters(kind: str) -> None:
    rnn, twin, x = nets.make(kind), nets.make(kind, seed=9), nets.samples()
    weights = {name: value.detach().clone() for name, value in twin.named_parameters()}
    assert torch.equal(functional_call(rnn, weights, (x,))[0], twin(x)[0])


def test_a_network_that_explodes_behind_a_rows_end_has_the_gradients_of_the_row() -> None:
    rnn = FastGRNN(1, 2, gate_nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.fill_(0.5)
    x, lengths = torch.ones(3, 2, 1).double(), torch.tensor([1, 3])
    found = []
    for padding in (0, 500):
        states, last = rnn(torch.cat([x, torch.zeros(padding, 2, 1)]), None, lengths)
        found.append(torch.autograd.grad(states.square().sum() + last.sum(), list(rnn.parameters())))
    for name, expected, padded in zip(dict(rnn.named_parameters()), *found, strict=True):
        assert torch.allclose(padded, expected, rtol=1e-12), name
