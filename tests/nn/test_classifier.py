from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastzoo.nn import CELLS, FastGRNN, SequenceClassifier

from . import nets, oracle

D, H, C, T = 3, 4, 5, 6


def make(pool: int = 1, **arguments: Any) -> SequenceClassifier:
    torch.manual_seed(0)
    return SequenceClassifier(FastGRNN(D, H, **arguments), C, pool)


def windows(batch: int = 7, steps: int = T) -> Tensor:
    """Windows [N, T, D] far from zero, as raw sensor units are."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal([9.8, -300.0, 0.001], [1.0, 50.0, 2e-4], (batch, steps, D)).astype(np.float32))


@pytest.mark.parametrize("pool", [1, 2, T])
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("stack", nets.STACKS)
@pytest.mark.parametrize("kind", CELLS)
def test_logits_are_those_of_the_equation(kind: str, stack: str, batch: int, pool: int) -> None:
    torch.manual_seed(0)
    net, x = SequenceClassifier(nets.make(kind, **nets.STACKS[stack]).float(), C, pool), windows(batch)
    net.set_normalisation(windows())
    with torch.no_grad():
        logits = net(x)
    assert logits.shape == (batch, C)
    assert np.abs(logits.numpy() - oracle.logits(net, x.numpy())).max() < 1e-5


@pytest.mark.parametrize("brick", [2, 3, 6])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_bricks_are_samples_side_by_side(brick: int, bidirectional: bool) -> None:
    torch.manual_seed(0)
    rnn, x = FastGRNN(brick * D, H, bidirectional=bidirectional), windows()
    net, whole = SequenceClassifier(rnn, C, 1, brick), SequenceClassifier(rnn, C)
    whole.head.load_state_dict(net.head.state_dict())
    net.set_normalisation(x, 0.5)
    whole.mean.copy_(net.mean.repeat(brick))
    whole.std.copy_(net.std.repeat(brick))
    assert (net.input_size, net.mean.shape) == (D, (D,))
    assert torch.equal(net(x), whole(x.reshape(len(x), T // brick, brick * D)))


def test_a_network_of_bricks_is_built_again_from_its_description() -> None:
    net = SequenceClassifier(FastGRNN(2 * D, H, w_rank=2, nu=0.0), C, 3, brick=2)
    config = json.loads(json.dumps(net.config()))
    again = SequenceClassifier.from_config(config)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(windows()), net(windows()))
    assert "brick" not in make().config(), "what was written before bricks stays as it is"


@pytest.mark.parametrize("brick", [0, -1, 1.5, True, "2", 4])
def test_bricks_that_do_not_fill_the_input_are_refused(brick: Any) -> None:
    with pytest.raises(ValueError, match=f"fill the {2 * D} inputs of the rnn, not {brick!r}"):
        SequenceClassifier(FastGRNN(2 * D, H), C, brick=brick)


def test_windows_are_whole_bricks_and_long_enough_for_the_pool() -> None:
    net = SequenceClassifier(FastGRNN(2 * D, H), C, 2, brick=2)
    with pytest.raises(ValueError, match="windows of 5 samples are no whole number of bricks of 2"):
        net(windows(steps=5))
    with pytest.raises(ValueError, match="pool = 2 states, but the windows have 1 steps"):
        net(windows(steps=2))


@pytest.mark.parametrize("pool", [1, 2, T])
def test_of_both_directions_the_states_reached_last_are_pooled(pool: int) -> None:
    torch.manual_seed(0)
    net, x = SequenceClassifier(FastGRNN(D, H, bidirectional=True), C, pool), torch.randn(3, T, D)
    states, _ = net.rnn(x.transpose(0, 1))
    reached = [states[t, :, :H] for t in range(T)], [states[t, :, H:] for t in reversed(range(T))]
    pooled = torch.cat([sum(way[-pool:], torch.zeros(())) / pool for way in reached], dim=1)
    assert net.head.in_features == 2 * H
    assert torch.allclose(net(x), net.head(pooled), atol=1e-6)


def test_normalised_channels_have_mean_zero_and_deviation_one() -> None:
    net, x = make(), windows()
    net.set_normalisation(x)
    normalised = (x - net.mean) / net.std
    assert normalised.mean(dim=(0, 1)).tolist() == pytest.approx([0] * D, abs=1e-3)
    assert normalised.std(dim=(0, 1)).tolist() == pytest.approx([1] * D, rel=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.1, 9.81, 101325.3, -1e6])
@pytest.mark.parametrize("batch", [1, 7, 3000])
@pytest.mark.parametrize("at_rest", [0.0, 0.5, 1.0])
def test_a_constant_channel_keeps_its_unit(constant: float, batch: int, at_rest: float) -> None:
    net, x = make(), torch.randn(batch, T, D)
    x[..., 1] = constant
    net.set_normalisation(x, at_rest)
    assert net.std[1] == 1
    assert net.mean[1].item() == pytest.approx(constant, rel=1e-6)
    assert net.std[0] != 1


def test_a_channel_in_a_large_unit_is_not_taken_for_constant() -> None:
    net, x = make(), torch.randn(50, T, D) * 1e-8  # tesla
    net.set_normalisation(x)
    assert net.std.tolist() == pytest.approx([1e-8] * D, rel=0.3)


@pytest.mark.parametrize("at_rest", [0.0, 0.3, 1.0])
def test_the_scale_can_follow_the_movement_inside_a_window(at_rest: float) -> None:
    net, x = make(), windows() * torch.logspace(-1, 1, 7)[:, None, None]  # some windows are quiet, others are not
    net.set_normalisation(x, at_rest)
    overall = x.numpy().std(axis=(0, 1), ddof=1)
    inside = np.exp(np.log(x.numpy().std(axis=1, ddof=1)).mean(axis=0))
    assert (inside < 0.5 * overall).any()
    assert np.allclose(net.std, overall ** (1 - at_rest) * inside**at_rest, rtol=1e-4)


def test_a_window_without_any_movement_does_not_decide_the_scale() -> None:
    net, x = make(), torch.randn(1000, T, D)
    x[0] = 0
    net.set_normalisation(x, at_rest=1)
    assert net.std.min() > 0.8


def test_normalisation_is_kept_with_the_weights() -> None:
    net, twin, x = make(), make(), windows()
    net.set_normalisation(x)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(x), net(x))
    assert not any(name in ("mean", "std") for name, _ in net.named_parameters())


def test_one_window_gets_the_same_answer_alone() -> None:
    net, x = make(pool=3), windows()
    assert torch.allclose(net(x)[2:3], net(x[2:3]), atol=1e-6)


@given(
    kind=st.sampled_from(list(CELLS)),
    pool=st.integers(1, 9),
    classes=st.integers(2, 9),
    w_rank=st.none() | st.integers(1, D) | st.tuples(st.none(), st.integers(1, D)),
    bidirectional=st.booleans(),
    dropout=st.just(0.0) | st.floats(0, 1),
)
def test_config_survives_json(
    kind: str, pool: int, classes: int, w_rank: Any, bidirectional: bool, dropout: float
) -> None:
    rnn = CELLS[kind](D, H, 2, w_rank=w_rank, bidirectional=bidirectional, dropout=dropout)
    net = SequenceClassifier(rnn, classes, pool).eval()
    config = json.loads(json.dumps(net.config()))
    again = SequenceClassifier.from_config(config).eval()
    assert again.config() == net.config()
    again.load_state_dict(net.state_dict())
    x = windows(2, 9)
    assert torch.equal(again(x), net(x))


def test_from_config_leaves_the_config_alone() -> None:
    config = make().config()
    SequenceClassifier.from_config(config)
    assert config == make().config()


CELL = make().config()["cell"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "not the description of a classifier: 'cell'"),
        ({"cell": CELL, "num_classes": 3}, "not the description of a classifier: 'pool'"),
        ({"cell": CELL, "pool": 1}, "'num_classes'"),
        (
            {"cell": {**CELL, "type": "lstmish"}, "num_classes": 3, "pool": 1},
            "unknown cell 'lstmish'; known are fastrnn, fastgrnn, ugrnn",
        ),
        ({"cell": {**CELL, "type": ["fastgrnn"]}, "num_classes": 3, "pool": 1}, "not the description"),
        ({"cell": {"type": "fastgrnn"}, "num_classes": 3, "pool": 1}, "missing .* 'input_size' and 'hidden_size'"),
        ({"cell": {**CELL, "depth": 3}, "num_classes": 3, "pool": 1}, "unexpected keyword argument 'depth'"),
        ({"cell": {**CELL, "hidden_size": "4"}, "num_classes": 3, "pool": 1}, "hidden_size must be"),
        ({"cell": {**CELL, "batch_first": True}, "num_classes": 3, "pool": 1}, "build the rnn with batch_first=False"),
        ({"cell": {**CELL, "num_layers": 0}, "num_classes": 3, "pool": 1}, "num_layers must be"),
        ({"cell": {**CELL, "w_rank": [1, 2]}, "num_classes": 3, "pool": 1}, "w_rank must be one rank, or one for each"),
        ({"cell": {**CELL, "w_rank": {"a": 1}}, "num_classes": 3, "pool": 1}, "w_rank must be"),
        ({"cell": 5, "num_classes": 3, "pool": 1}, "not the description of a classifier"),
        ({"cell": CELL, "num_classes": 3, "pool": None}, "pool must be"),
    ],
)
def test_a_faulty_config_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier.from_config(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2, not 1"),
        ({"num_classes": 2.5}, "num_classes must be"),
        ({"pool": 0}, "pool must be a whole number of at least 1, not 0"),
        ({"pool": True}, "pool must be"),
        ({"rnn": FastGRNN(D, H, batch_first=True)}, "build the rnn with batch_first=False"),
    ],
)
def test_an_impossible_classifier_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**{"rnn": FastGRNN(D, H), "num_classes": C, **arguments})


def test_pooling_over_more_steps_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="pool = 7 states, but the windows have 6 steps"):
        make(pool=7)(windows())


@pytest.mark.parametrize("shape", [(2, T, D + 1), (T, D), (2, T), (1, 2, T, D)])
def test_windows_of_another_form_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected windows \[N, T, D\] with D = 3, got \["):
        make()(torch.zeros(shape))
