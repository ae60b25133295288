"""Plain torch modules against torch itself: the arrays by the equations in float64, and the graphs in onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from fastzoo.errors import ExportError
from fastzoo.export.floats import FloatWriter
from fastzoo.export.network import Cell, Network
from fastzoo.export.plain import is_plain, plain_network
from fastzoo.export.scan import scan
from fastzoo.nn import LSTM, SequenceClassifier

D, H, C, T = 3, 5, 4, 7
MEAN, STD = np.array([9.8, -40.0, 1e-5], np.float32), np.array([2.0, 30.0, 3e-5], np.float32)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Read = Callable[[Tensor, Tensor], Tensor]  # all states [N, T, directions H] and h_n -> what the head reads

RECURRENCES: dict[str, Callable[..., nn.RNNBase]] = {
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}


def at_end(states: Tensor, last: Tensor) -> Tensor:
    return states[:, -1]


def reached_last(states: Tensor, last: Tensor) -> Tensor:
    return torch.cat([last[-2], last[-1]], dim=1) if states.shape[2] > H else last[-1]


def mean(states: Tensor, last: Tensor) -> Tensor:
    return states.mean(dim=1)


class Plain(nn.Module):
    """What people write; ``time_first``: it takes [T, N, D]."""

    def __init__(self, kind: str = "gru", read: Read = reached_last, time_first: bool = False, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        bias = options.get("bias", True)
        self.rnn = RECURRENCES[kind](D, H, **{"batch_first": True, **options})
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(H * (2 if self.rnn.bidirectional else 1), C, bias=bias)
        self.read, self.time_first = read, time_first

    def forward(self, x: Tensor) -> Tensor:
        if not self.rnn.batch_first and not self.time_first:
            x = x.transpose(0, 1)
        states, last = self.rnn(x)
        if not self.rnn.batch_first:
            states = states.transpose(0, 1)
        logits: Tensor = self.fc(self.dropout(self.read(states, last[0] if isinstance(last, tuple) else last)))
        return logits


class Normalised(Plain):
    """With buffers as in SequenceClassifier, which may be used or not."""

    mean: Tensor
    std: Tensor

    def __init__(self, used: bool = True, shape: tuple[int, ...] = (D,), **options: Any) -> None:
        super().__init__(**options)
        self.used = used
        self.register_buffer("mean", torch.from_numpy(MEAN.copy()).reshape(shape))
        self.register_buffer("std", torch.from_numpy(STD.copy()).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.std if self.used else x)


class Changed(Plain):
    """With something done before or after, or a layer more."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Any] | None = None,
        layers: dict[str, nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.before, self.after = before or (lambda x: x), after or (lambda x: x)
        for name, layer in (layers or {}).items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.after(super().forward(self.before(x)))


def follow(cell: Cell, x: Doubles) -> Iterator[Doubles]:
    """The states of a cell by its equation, for x [T, N, D]."""
    (w,), (u,), size = cell.w, cell.u, cell.hidden_size
    h = c = np.zeros((x.shape[1], size))
    curve: Callable[[Doubles], Doubles] = np.tanh if cell.update == "tanh" else lambda a: np.maximum(a, 0)
    for x_t in x:
        if cell.kind == "fastrnn":
            h = cell.scalars["beta"] * h + cell.scalars["alpha"] * curve(x_t @ w + h @ u + cell.bias)
        elif cell.kind == "lstm":
            i, f, g, o = np.split(x_t @ w + h @ u + cell.bias, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            assert cell.kind == "torch_gru"
            assert cell.recurrent_bias is not None
            (r, z, n), (r_h, z_h, n_h) = np.split(x_t @ w + cell.bias, 3, axis=1), np.split(h @ u, 3, axis=1)
            r, z = sigmoid(r + r_h), sigmoid(z + z_h)
            h = (1 - z) * np.tanh(n + r * (n_h + cell.recurrent_bias)) + z * h
        yield h


def sigmoid(a: Doubles) -> Doubles:
    result: Doubles = 1 / (1 + np.exp(-a))
    return result


def evaluate(network: Network, x: Floats) -> Doubles:
    """The logits of a network for windows [N, T, D], in float64."""
    below = ((np.float64(x) - network.mean) / network.std).transpose(1, 0, 2)
    for forwards, *backwards in network.layers:
        ways = [list(follow(forwards, below))] + [list(follow(cell, below[::-1])) for cell in backwards]
        below = np.concatenate([ways[0], *(way[::-1] for way in ways[1:])], axis=2)
    pooled = np.concatenate([np.mean(way[-network.pool :], axis=0) for way in ways], axis=1)
    logits: Doubles = pooled @ np.float64(network.head_weight) + network.head_bias
    return logits


def run(network: Network, x: Floats) -> Floats:
    """The logits of its graph in onnxruntime."""
    scaled = network.unit_scale()
    model = scan(scaled, [FloatWriter(cell, scaled.prefix(i)).step() for i, cell in enumerate(scaled.cells)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    answer: Floats = session.run(None, {"x": x})[0]
    return answer


def windows(network: Network, steps: int = T) -> Floats:
    noise = np.random.default_rng(1).normal(size=(9, steps, network.input_size))
    return (network.mean + network.std * noise).astype(np.float32)


def check(module: nn.Module, time_first: bool = False, steps: int = T) -> Network:
    """The network answers as the module does, by its arrays and as a graph."""
    network = plain_network(module, steps)
    x = windows(network, steps)
    given = torch.from_numpy(x.transpose(1, 0, 2).copy() if time_first else x)
    was_training = module.training
    with torch.no_grad():
        expected = module.eval()(given).numpy()
    module.train(was_training)
    for answer in (evaluate(network, x), run(network, x)):
        assert answer.shape == expected.shape
        assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()
    assert network.steps == steps
    return network


def fault(module: nn.Module, steps: int = T) -> str:
    """What is said about a module that cannot be exported; one line."""
    with pytest.raises(ExportError) as caught:
        plain_network(module, steps)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", RECURRENCES)
def test_every_recurrence_of_torch_becomes_a_network(
    kind: str, layers: int, bidirectional: bool, bias: bool, batch_first: bool
) -> None:
    module = Plain(kind, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first)
    network = check(module)
    assert is_plain(module)
    assert (network.pool, network.directions, len(network.layers)) == (1, 1 + bidirectional, layers)
    assert {cell.kind for cell in network.cells} == {{"gru": "torch_gru", "lstm": "lstm"}.get(kind, "fastrnn")}
    assert all(array.dtype == np.float32 for array in network.matrices().values())


@pytest.mark.parametrize("kind", RECURRENCES)
def test_three_layers_with_dropout_between_them(kind: str) -> None:
    check(Plain(kind, num_layers=3, dropout=0.5, bidirectional=True))


@pytest.mark.parametrize(
    ("read", "bidirectional", "pool"),
    [(at_end, False, 1), (reached_last, False, 1), (reached_last, True, 1), (mean, False, T), (mean, True, T)],
)
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_what_the_head_reads_is_found(kind: str, read: Read, bidirectional: bool, pool: int) -> None:
    assert check(Plain(kind, read, num_layers=2, bidirectional=bidirectional)).pool == pool


@pytest.mark.parametrize("read", [reached_last, mean])
@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_windows_of_any_length(steps: int, read: Read) -> None:
    check(Plain(read=read, bidirectional=True), steps=steps)


def test_of_one_step_the_last_step_of_both_directions_is_what_they_reached() -> None:
    assert check(Plain(read=at_end, bidirectional=True), steps=1).pool == 1


@pytest.mark.parametrize("read", [reached_last, mean])
@pytest.mark.parametrize("kind", RECURRENCES)
def test_a_module_may_take_time_first(kind: str, read: Read) -> None:
    check(Plain(kind, read, time_first=True, batch_first=False), time_first=True)


def test_a_head_on_every_step_whose_mean_is_returned() -> None:
    class PerStep(Plain):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.rnn(x)[0]).mean(dim=1)
            return logits

    assert check(PerStep()).pool == T


@pytest.mark.parametrize("shape", [(D,), (1, 1, D)])
def test_normalisation_is_taken_from_buffers(shape: tuple[int, ...]) -> None:
    network = check(Normalised(shape=shape))
    assert np.array_equal(network.mean, MEAN)
    assert np.array_equal(network.std, STD)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("read", [reached_last, mean])
def test_buffers_are_no_normalisation_unless_forward_uses_them(used: bool, read: Read) -> None:
    network = check(Normalised(used, read=read))
    assert np.array_equal(network.mean, MEAN if used else np.zeros(D))
    assert np.array_equal(network.std, STD if used else np.ones(D))


def test_buffers_of_other_sizes_or_without_scale_are_no_normalisation() -> None:
    for values in ([1.0], [1.0, 0.0, 1.0]):
        module = Normalised(used=False)
        module.std = torch.tensor(values)
        assert (check(module).std == 1).all()


def test_weights_for_samples_in_raw_units() -> None:
    """A network that reads thousands, and one that reads millionths, answer noise in their units, not zeros."""
    for unit in (1e4, 1e-5):
        module = Plain(bias=False)
        with torch.no_grad():
            module.rnn.get_parameter("weight_ih_l0").div_(unit)
        assert plain_network(module, T).pool == 1


def test_layers_without_effect_and_names_of_any_kind() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.body = nn.Identity(), nn.ModuleDict({"rnn": nn.LSTM(D, H, batch_first=True)})
            self.out = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(H, C))
            self.loss = nn.CrossEntropyLoss()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.out(self.body["rnn"](self.first(x))[1][0][-1])
            return logits

    module = Nested()
    check(module)
    assert is_plain(module)


def test_the_module_is_left_as_it_is() -> None:
    module = Plain().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    network = plain_network(module, T)
    network.head_bias[:] = 7
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    network = plain_network(Plain().to(dtype), T)
    expected = evaluate(plain_network(Plain().to(dtype).float(), T), windows(network))
    assert np.array_equal(evaluate(network, windows(network)), expected)


class Scaled(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


class OwnGRU(nn.GRU):
    """May compute anything."""


def two_recurrences() -> nn.Module:
    return Changed(layers={"second": nn.LSTM(H, H)})


LAYERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a layer": (lambda: Changed(layers={"conv": nn.Conv1d(D, D, 3)}), "no export is known for 'conv' (Conv1d):"),
    "layers inside": (
        lambda: Changed(layers={"front": nn.Sequential(nn.Conv1d(D, D, 3), nn.ReLU(), nn.BatchNorm1d(D))}),
        "no export is known for 'front.0' (Conv1d), 'front.2' (BatchNorm1d):",
    ),
    "a parameter": (Scaled, "no export is known for 'scale' (Parameter of Scaled):"),
    "a subclass": (lambda: Changed(layers={"rnn": OwnGRU(D, H)}), "no export is known for 'rnn' (OwnGRU):"),
    "cells of ours": (
        lambda: nn.Sequential(LSTM(D, H), nn.Linear(H, C)),
        "no export is known for '0.cells.0' (LSTMCell):",
    ),
    "parametrised": (
        lambda: Changed(layers={"fc": parametrizations.weight_norm(nn.Linear(H, C))}),
        "no export is known for 'fc.bias' (Parameter of ParametrizedLinear)",
    ),
    "two recurrences": (
        two_recurrences,
        "exactly one torch.nn.RNN, GRU or LSTM, and this Changed has 2, 'rnn' (GRU), 'second' (LSTM);",
    ),
    "no recurrence": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(D * T, C)),
        "exactly one torch.nn.RNN, GRU or LSTM, and this Sequential has none;",
    ),
    "two heads": (
        lambda: Changed(layers={"fc2": nn.Linear(C, C)}),
        "exactly one torch.nn.Linear as its head, and this Changed has 2, 'fc' (Linear), 'fc2' (Linear);",
    ),
    "no head": (lambda: nn.GRU(D, H), "exactly one torch.nn.Linear as its head, and this GRU has none;"),
    "another head": (
        lambda: Changed(layers={"fc": nn.Bilinear(H, H, C)}),
        "no export is known for 'fc' (Bilinear):",
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_other_layers_are_named(name: str) -> None:
    make, expected = LAYERS[name]
    module = make()
    assert expected in fault(module)
    assert not is_plain(module)


def test_what_is_no_plain_module() -> None:
    assert not is_plain(None)
    assert not is_plain(nn.GRU)
    assert not is_plain(SequenceClassifier(LSTM(D, H), C))


def test_NaN_weights_are_named() -> None:
    module = Plain()
    with torch.no_grad():
        module.rnn.get_parameter("weight_hh_l0")[1, 2] = torch.nan
        module.fc.bias[0] = torch.inf
    assert "NaN or infinite weights in rnn.weight_hh_l0, fc.bias; train it again" in fault(module)


def test_projected_states() -> None:
    assert "proj_size=2 cannot be exported" in fault(Plain("lstm", proj_size=2))


def test_a_head_that_reads_more_than_a_state() -> None:
    assert f"the head reads {T * H} values, and a state of the last layer has {H}" in fault(
        Changed(layers={"fc": nn.Linear(T * H, C)})
    )


def test_a_head_with_one_logit() -> None:
    assert "one logit" in fault(Changed(layers={"fc": nn.Linear(H, 1)}))


def test_a_module_that_cannot_be_copied() -> None:
    module = Plain()
    prune.l1_unstructured(module.fc, "weight", 0.5)
    assert "cannot be copied to the CPU (RuntimeError: Only Tensors created explicitly" in fault(module)
    prune.remove(module.fc, "weight")
    check(module)


def test_a_forward_that_fails() -> None:
    def fail(x: Tensor) -> Tensor:
        raise KeyError("no such\nthing")

    message = fault(Changed(before=fail))
    assert re.search(r"forward fails for x of shape \[5, 7, 3\] \(KeyError: .*no such.*thing.*\)", message)
    assert "forward fails" in fault(nn.Sequential(nn.GRU(D, H), nn.Linear(H, C)))  # a GRU returns a pair


def test_a_forward_that_returns_something_else() -> None:
    assert "returns a tuple for x" in fault(Changed(after=lambda logits: (logits, None)))
    assert "returns [5] for x of shape [5, 7, 3]; it must return logits [N, C], here [5, 4]" in fault(
        Changed(after=lambda logits: logits.argmax(dim=1))
    )
    assert "returns NaN" in fault(Changed(after=lambda logits: logits.log() * 0))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_last_step_of_both_directions(kind: str) -> None:
    message = fault(Plain(kind, at_end, bidirectional=True))
    assert "both directions at the last step" in message
    assert "head(torch.cat([h_n[-2], h_n[-1]], dim=1))" in message


def test_windows_of_a_batch_that_are_taken_for_time() -> None:
    """The usual mistake: batch_first=False, and nobody turns the windows around."""

    class Mistaken(Plain):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.rnn(x)[0][:, -1])
            return logits

    assert "Build it with batch_first=True" in fault(Mistaken(batch_first=False))


WRONG: dict[str, Callable[[], nn.Module]] = {
    "the mean of the last states": lambda: Plain(read=lambda states, last: states[:, -3:].mean(dim=1)),
    "the largest": lambda: Plain(read=lambda states, last: states.amax(dim=1)),
    "the first layer": lambda: Plain(read=lambda states, last: last[0], num_layers=2),
    "softmax": lambda: Changed(after=lambda logits: logits.softmax(dim=1)),
    "another normalisation": lambda: Changed(before=lambda x: (x - 1) / 2),
    "a difference": lambda: Changed(before=lambda x: x.diff(dim=1, prepend=x[:, :1])),
    "normalised twice": lambda: Normalised(read=lambda states, last: 2 * last[-1]),
    "time first, the first state": lambda: Plain(
        read=lambda states, last: states[:, 0], time_first=True, batch_first=False
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_network_cannot_do_is_refused(name: str) -> None:
    message = fault(WRONG[name]())
    assert "As what the head reads were tried the last state for " in message
    assert "the mean of all states for x (logits are " in message
    assert "not the mean of the last K states" in message
    assert "let forward be" in message
    assert "fastzoo.nn.SequenceClassifier" in message
    assert ("for (x - mean) / std" in message) == (name == "normalised twice")


def test_layers_without_parameters_are_suspects() -> None:
    relu = nn.ReLU()
    message = fault(Changed(after=relu, layers={"act": relu, "drop": nn.Dropout()}))
    assert "as 'after' (ReLU) may" in message
    assert "Dropout" not in message


def test_a_head_that_reads_nothing() -> None:
    module = Plain()
    nn.init.zeros_(module.fc.weight)
    assert "train the module first" in fault(module)
