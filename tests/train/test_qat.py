"""Fake quantization computes what the exported files compute, and lets gradients through as it should."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel

from fastzoo import data
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.export import verify
from fastzoo.export.calibrate import Calibration
from fastzoo.export.contract import Contract
from fastzoo.export.floats import FloatWriter
from fastzoo.export.from_torch import from_torch
from fastzoo.export.layouts import PRODUCTS, Builder, Form, Scheme
from fastzoo.export.source import Source, calibration_windows
from fastzoo.nn import CELLS, NONLINEARITIES, FastGRNN, SequenceClassifier
from fastzoo.train import fit, qat
from fastzoo.train.qat import FakeQuantizer, Levels, round_weight

from . import task

D, H, C, T, POOL = 3, 10, 4, 12, 3
FUSED, UNROLLED = Form("int8", "fused", Scheme()), Form("int8", "unrolled", Scheme(PRODUCTS))
PAIRS = list(dict.fromkeys([*((n, "tanh") for n in NONLINEARITIES), *(("sigmoid", n) for n in NONLINEARITIES)]))
SCALARS: dict[str, dict[str, Any]] = {
    "nu=0": {"nu": 0.0}, "zeta fixed": {"nu": 0.0, "zeta": 0.7}, "nu trained": {}, "fixed": {"nu": 0.1, "zeta": 0.7}
}  # fmt: skip
RANKS: dict[str, tuple[int | None, int | None]] = {"full": (None, None), "low": (2, 4)}


def windows(count: int, seed: int = 1) -> Tensor:
    """Raw windows [count, T, D] with offsets and units."""
    torch.manual_seed(seed)
    return torch.tensor([9.8, -40.0, 1e-5]) + torch.tensor([2.0, 30.0, 3e-5]) * torch.randn(count, T, D)


CALIBRATION = windows(40, seed=2)


def network(kind: type[Any] = FastGRNN, ranks: str = "low", seed: int = 0, **arguments: Any) -> SequenceClassifier:
    """Weights large enough for every piece of the nonlinearities."""
    torch.manual_seed(seed)
    w_rank, u_rank = RANKS[ranks]
    net = SequenceClassifier(kind(D, H, w_rank=w_rank, u_rank=u_rank, **arguments), C, POOL)
    with torch.no_grad():
        for parameter in net.rnn.parameters():
            size = parameter.shape[0] if parameter.dim() == 2 else 4
            parameter.copy_(torch.randn(parameter.shape) / size**0.5)
    net.set_normalisation(windows(50))
    return net


def exported(net: SequenceClassifier, x: Tensor, form: Form) -> npt.NDArray[np.float32]:
    """The answer of the int8 file in onnxruntime."""
    of = from_torch(net, T)
    model = Builder(of, CALIBRATION.numpy()).build(form)
    answer: npt.NDArray[np.float32] = verify.answer(model, of, form, x.numpy())
    return answer


# ---------------------------------------------------------------------------------------------------------------------
# Against the exported files


@pytest.mark.parametrize("scalars", SCALARS)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("form", [FUSED, UNROLLED], ids=["fused", "unrolled"])
def test_answers_are_those_of_the_exported_file(form: Form, ranks: str, scalars: str) -> None:
    net, x = network(ranks=ranks, **SCALARS[scalars]), windows(100)
    quantizer = FakeQuantizer(net, CALIBRATION, activations=form is UNROLLED)
    with torch.no_grad():
        fake, plain = quantizer(x).numpy(), net(x).numpy()
    answer = exported(net, x, form)
    assert close(fake, answer)
    assert np.abs(plain - answer).max() > 1e-3
    assert close(quantizer.rounded()(x).detach().numpy(), answer)


def close(fake: npt.NDArray[Any], answer: npt.NDArray[Any]) -> bool:
    """Equal but for float32's rounding; in one window of a hundred that may push an activation to the next level."""
    difference = np.sort(np.abs(fake - answer).max(axis=1))
    return bool(difference[-2] < 1e-5 and difference[-1] < 2e-3)


@pytest.mark.parametrize(("gate", "update"), PAIRS)
@pytest.mark.parametrize("scalars", ["nu=0", "nu trained"])
def test_every_nonlinearity_is_exported_as_it_was_trained(gate: str, update: str, scalars: str) -> None:
    net = network(gate_nonlinearity=gate, update_nonlinearity=update, **SCALARS[scalars])
    if gate == "relu":  # the state must not explode
        with torch.no_grad():
            for parameter in (*net.rnn.cell.w, *net.rnn.cell.u, net.rnn.cell.bias_gate):
                parameter.mul_(0.3)
    x = windows(100)
    fake = FakeQuantizer(net, CALIBRATION)(x).detach()
    scale = fake.abs().max(dim=1, keepdim=True).values.clamp_min(1)
    assert close((fake / scale).numpy(), exported(net, x, UNROLLED) / scale.numpy())


@pytest.mark.parametrize("gate", ["sigmoid", "quant_sigmoid"])
@pytest.mark.parametrize("scalars", SCALARS)
@pytest.mark.parametrize("ranks", RANKS)
def test_levels_are_those_of_the_quantized_step(ranks: str, scalars: str, gate: str) -> None:
    net = network(ranks=ranks, gate_nonlinearity=gate, **SCALARS[scalars])
    of = from_torch(net, T).unit_scale()
    levels = Calibration(of, CALIBRATION.numpy()).levels(0, FloatWriter(of.cells[0]))
    expected = [levels[key] for key in ("h", "hU1")[: len(of.cells[0].u)]]
    found = qat.ranges(net, CALIBRATION)
    assert [level.zero for level in found] == [level.zero for level in expected]
    assert [level.scale for level in found] == pytest.approx([level.scale for level in expected], rel=1e-6)


def test_saturated_states_meet_the_same_level() -> None:
    """States at exactly -1 and 1 lie half-way between two levels."""
    net = network(nu=0.0, gate_nonlinearity="quant_sigmoid", update_nonlinearity="quant_tanh")
    with torch.no_grad():
        net.rnn.cell.W1.mul_(30)
        net.rnn.cell.bias_gate.fill_(-4)
    (h, _), x = qat.ranges(net, CALIBRATION), windows(100)
    assert h == Levels(float(np.float32(2 / 255)), 128)
    assert close(FakeQuantizer(net, CALIBRATION)(x).detach().numpy(), exported(net, x, UNROLLED))


@pytest.mark.parametrize("count", [1, 511, 512, 513, 3000])
def test_the_exporter_calibrates_on_the_same_windows(count: int) -> None:
    rows = np.arange(count + 20)
    x = np.random.default_rng(0).normal(size=(len(rows), T, D)).astype(np.float32)
    split = np.repeat([0, 1, 2], [count, 10, 10]).astype(np.uint8)
    dataset = Dataset("made-up", x, rows % C, rows, split, tuple("abcd"), tuple("xyz"), 1.0)
    source = Source(network(), Contract("name", tuple("abcd"), tuple("xyz"), 1.0), T, dataset)
    windows = dataset.train.x[qat.calibration_rows(count)]
    assert np.array_equal(calibration_windows(source, None), windows)
    assert len(windows) == min(count, 512) or count in (513, 3000)
    assert len(windows) >= min(count, 256)


# ---------------------------------------------------------------------------------------------------------------------
# Rounding and gradients by hand


def test_weights_are_rounded_half_to_even_and_gradients_pass() -> None:
    weight = torch.tensor([[127.0, 2.5], [3.5, -0.5]], requires_grad=True)
    factor = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rounded = round_weight(weight)
    assert rounded.tolist() == [[127, 2], [4, 0]]
    (rounded * factor).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == factor.tolist()


@pytest.mark.parametrize("value", [0.0, 1e-44])
def test_matrices_of_next_to_nothing_stay_finite(value: float) -> None:
    weight = torch.full((2, 2), value)
    assert torch.allclose(round_weight(weight), weight, atol=1e-43)


def test_activations_are_clipped_and_no_gradient_passes_there() -> None:
    levels = Levels(0.5, 100)  # -50 .. 77.5
    values = [-60.0, -50.26, -50.25, -50.0, -0.25, 0.0, 0.26, 0.75, 77.5, 77.75, 77.76, 90.0]
    x = torch.tensor(values, requires_grad=True)
    rounded = levels(x)
    assert rounded.tolist() == [-50, -50, -50, -50, 0, 0, 0.5, 1, 77.5, 77.5, 77.5, 77.5]
    (rounded * torch.arange(1.0, 13.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([-1.0, 0.5, 4.1], Levels(float(np.float32(0.02)), 50)),
        ([0.51, 2.55], Levels(float(np.float32(0.01)), 0)),  # 0 is always a level
        ([-2.55, -1.0], Levels(float(np.float32(0.01)), 255)),
        ([0.0, 0.0], Levels(1.0, 0)),
        ([1e-40, -1e-40], Levels(1.0, 0)),
    ],
)
def test_levels_of_values(values: list[float], levels: Levels) -> None:
    found = Levels.of(torch.tensor(values))
    assert found.zero == levels.zero
    assert found.scale == pytest.approx(levels.scale, rel=1e-6)
    assert found.scale == np.float32(found.scale)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_without_a_range_is_told_apart(value: float) -> None:
    with pytest.raises(TrainingError, match=r"on the calibration windows.*smaller learning rate"):
        Levels.of(torch.tensor([0.0, value]))


def gradients(net: SequenceClassifier, logits: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    cross_entropy(logits, torch.arange(len(logits)) % C).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("activations", [False, True])
def test_gradients_are_those_at_the_rounded_weights(activations: bool) -> None:
    net, x = network(), windows(30)
    quantizer = FakeQuantizer(net, CALIBRATION, activations)
    twin = quantizer.rounded()
    expected, found = gradients(twin, twin(x)), gradients(net, quantizer(x))
    assert expected.keys() == found.keys() == dict(net.named_parameters()).keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("activations", [False, True])
def test_gradients_follow_zeta_where_it_is_absorbed(activations: bool) -> None:
    net, x = network(nu=0.0), windows(30)
    quantizer = FakeQuantizer(net, CALIBRATION, activations)
    twin = quantizer.rounded()
    at, found = gradients(twin, twin(x)), gradients(net, quantizer(x))
    cell, zeta = net.rnn.cell, net.rnn.cell.zeta.item()
    u1, head = at["rnn.cells.0.U1"], at["head.weight"]
    by_zeta = (u1 * cell.U1).sum() + (head * net.head.weight).sum()
    expected = at | {
        "rnn.cells.0.U1": zeta * u1,
        "head.weight": zeta * head,
        "rnn.cells.0.zeta_logit": zeta * (1 - zeta) * by_zeta.detach(),
    }
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-7), name


def test_gradients_are_near_those_without_rounding() -> None:
    net, x = network(nu=0.0), windows(30)
    plain, fake = gradients(net, net(x)), gradients(net, FakeQuantizer(net, CALIBRATION)(x))
    for name, value in plain.items():
        assert 0 < (fake[name] - value).norm() < 0.1 * value.norm(), name


# ---------------------------------------------------------------------------------------------------------------------
# In training


def test_zeros_stay_zeros_and_the_network_as_it_is() -> None:
    net = network(nu=0.0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter[torch.rand(parameter.shape) < 0.5] = 0
    before = {name: value.clone() for name, value in net.state_dict().items()}
    quantizer = FakeQuantizer(net, CALIBRATION)
    twin = quantizer.rounded()
    quantizer(windows(3))
    for (name, parameter), rounded in zip(net.named_parameters(), twin.parameters(), strict=True):
        if parameter.dim() == 2:
            assert (rounded[parameter == 0] == 0).all(), name
            assert (rounded.unique() != 0).any(), name
    assert task.same(before, net.state_dict())


def test_outside_of_a_call_nothing_is_rounded() -> None:
    net, x = network(nu=0.0), windows(5)
    before = net(x)
    quantizer = FakeQuantizer(net, CALIBRATION)
    quantizer(x)
    assert torch.equal(net(x), before)
    with pytest.raises(ValueError, match="expected windows"):
        quantizer(x[..., :2])
    assert torch.equal(net(x), before)
    assert copy.deepcopy(net).rnn.cell.rounding is None


@pytest.mark.parametrize("activations", [False, True])
def test_weights_alone_are_left_to_the_compiled_kernels(activations: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net, loops = network(nu=0.0), []
    quantizer = FakeQuantizer(net, CALIBRATION, activations)
    original = type(net.rnn.cell)._loop
    monkeypatch.setattr(type(net.rnn.cell), "_loop", lambda *a: loops.append(1) or original(*a))  # type: ignore[func-returns-value]
    quantizer(windows(3))
    assert bool(loops) == activations


def test_training_rounds_weights_alone_where_it_is_told_to() -> None:
    dataset = task.motions()
    runs = {
        what: fit(task.network(), dataset, replace(task.QUICK, epochs=3, qat=what), progress=False)
        for what in (True, "weights")
    }
    assert runs[True].answering.rnn.cell.rounding is not None
    run, x = runs["weights"], dataset.test.x
    assert run.history[-1].phase == "quantized"
    assert run.answering.rnn.cell.rounding is None
    of = from_torch(run.net, x.shape[1])
    answer = verify.answer(Builder(of, x).build(FUSED), of, FUSED, x)
    assert close(run.answering(torch.from_numpy(x)).detach().numpy(), answer)


def test_ranges_are_kept_until_they_are_refreshed() -> None:
    net, x = network(nu=0.0), windows(20)
    quantizer = FakeQuantizer(net, CALIBRATION)
    quantizer(x)
    with torch.no_grad():
        net.rnn.cell.U1.mul_(2)
    old = quantizer(x)
    fresh = FakeQuantizer(net, CALIBRATION)(x)  # what a resumed run has after the first refresh of its epoch
    assert not torch.equal(old, fresh)
    quantizer.refresh()
    assert torch.equal(quantizer(x), fresh)


def test_the_running_average_is_judged_with_its_own_ranges() -> None:
    net, x = network(nu=0.0), windows(20)
    average = cast(SequenceClassifier, AveragedModel(net).module)
    with torch.no_grad():
        net.rnn.cell.U1.mul_(3)
    quantizer = FakeQuantizer(net, CALIBRATION)
    quantizer(x)
    assert torch.equal(quantizer.rounded(average)(x), FakeQuantizer(average, CALIBRATION).rounded()(x))
    assert close(quantizer.rounded(average)(x).detach().numpy(), exported(average, x, UNROLLED))


OTHERS = [
    *((kind, {}) for kind in CELLS if kind != "fastgrnn"),
    ("fastgrnn", {"num_layers": 2, "nu": 0.0}),
    ("fastgrnn", {"bidirectional": True}),
    ("lstm", {"num_layers": 2, "bidirectional": True, "dropout": 0.5}),
]


@pytest.mark.parametrize(("kind", "arguments"), OTHERS, ids=str)
def test_of_all_cells_the_weights_can_be_rounded(kind: str, arguments: dict[str, Any]) -> None:
    net, x = network(CELLS[kind], "full", **arguments).eval(), windows(10)
    with pytest.raises(ValueError, match=rf"one direction only, not in .* of a {type(net.rnn).__name__}"):
        FakeQuantizer(net, CALIBRATION, activations=True)
    quantizer = FakeQuantizer(net, CALIBRATION)
    assert not quantizer.activations
    twin = quantizer.rounded()
    for (name, weight), rounded in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(rounded, round_weight(weight) if weight.dim() == 2 else weight), name
    assert torch.allclose(quantizer(x), twin(x), atol=1e-6)
    expected, found = gradients(twin, twin(x)), gradients(net, quantizer(x))
    assert len(found) == len(list(net.parameters()))
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-6), name


# ---------------------------------------------------------------------------------------------------------------------
# Piecewise-linear networks


@pytest.fixture(scope="module")
def digits() -> tuple[data.Split, data.Split]:
    found = data.load("digits")
    return found.train, found.validation


# Start values inside of the gate's linear piece: quant_sigmoid ends at 1.
@pytest.mark.parametrize(("gate", "gate_bias"), [("quant_sigmoid", 0.0), ("quant_sigmoid4", 1.0)])
def test_piecewise_linear_networks_train_stably(
    gate: str, gate_bias: float, digits: tuple[data.Split, data.Split]
) -> None:
    torch.manual_seed(0)
    curves: dict[str, Any] = {"gate_nonlinearity": gate, "update_nonlinearity": "quant_tanh", "gate_bias": gate_bias}
    net = SequenceClassifier(FastGRNN(8, 24, w_rank=6, u_rank=8, nu=0.0, **curves), 10)
    train, validation = digits
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    net.set_normalisation(x)
    quantizer = FakeQuantizer(net, x[qat.calibration_rows(len(x))])
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    losses = []
    for epoch in range(24):
        quantizer.refresh()
        total = 0.0
        for rows in torch.randperm(len(x)).split(128):
            logits = quantizer(x[rows]) if epoch >= 16 else net(x[rows])
            loss = cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows) / len(x)
        losses.append(total)
    assert max(after - before for before, after in pairwise(losses)) < 0.1, "never far back"
    assert losses[15] < 0.4
    assert losses[-1] < losses[15], "also after the switch"
    net.zero_grad()
    cross_entropy(quantizer(x), y).backward()
    for name in ("bias_gate", "bias_update"):
        gradient = net.rnn.cell.get_parameter(name).grad
        assert gradient is not None
        assert (gradient != 0).all(), "no unit is dead"
    with torch.no_grad():
        right = quantizer.rounded()(torch.from_numpy(validation.x)).argmax(1).numpy() == validation.y
    assert right.mean() > 0.85


def test_a_gate_that_starts_beyond_its_linear_piece_never_opens() -> None:
    net = SequenceClassifier(FastGRNN(D, H, nu=0.0, gate_nonlinearity="quant_sigmoid", gate_bias=4.0), C)
    net.set_normalisation(windows(50))
    logits = FakeQuantizer(net, CALIBRATION)(windows(10))
    found = gradients(net, logits)
    assert {name for name, value in found.items() if value.any()} == {"head.bias"}
