"""Models in EdgeML's own forms, built by hand, against its equations in NumPy float64."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastzoo import FastzooError
from fastzoo.errors import EdgeMLError
from fastzoo.nn import CELLS, FastGRNN, FastRNN, SequenceClassifier
from fastzoo.nn.edgeml import Options, from_edgeml, read, to_edgeml

from .oracle import FUNCTIONS

Arrays = dict[str, npt.NDArray[Any]]
D, H, L, T, N = 5, 7, 3, 6, 4

GATES = {"ugrnn": 2, "gru": 3, "lstm": 4}
BIASES = {
    "fastgrnn": ("Bg", "Bh"),
    "fastrnn": ("B",),
    "ugrnn": ("Bg", "Bh"),
    "gru": ("Br", "Bg", "Bh"),
    "lstm": ("Bf", "Bi", "Bc", "Bo"),
}
SCALARS = {"fastgrnn": ("zeta", "nu"), "fastrnn": ("alpha", "beta")}
RANKS = [(None, None), (3, None), (None, 4), (3, 4)]
each_cell = pytest.mark.parametrize("kind", BIASES)
each_rank = pytest.mark.parametrize("ranks", RANKS, ids=str)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def trained(
    kind: str, ranks: tuple[int | None, int | None], rng: np.random.Generator, inputs: int = D, units: int = H
) -> Arrays:
    """The arrays of one model by the names of the trainers' files."""
    arrays: Arrays = {}
    for letter, rows, rank in (("W", inputs, ranks[0]), ("U", units, ranks[1])):
        gates = [f"{letter}{i}" for i in range(1, GATES.get(kind, 1) + 1)]
        if kind in GATES:
            arrays |= {letter: rng.normal(0, 0.4, (rows, rank))} if rank else {}
            arrays |= {gate: rng.normal(0, 0.4, (rank or rows, units)) for gate in gates}
        elif rank:
            arrays |= {f"{letter}1": rng.normal(0, 0.4, (rows, rank)), f"{letter}2": rng.normal(0, 0.4, (rank, units))}
        else:
            arrays[letter] = rng.normal(0, 0.4, (rows, units))
    arrays |= {name: rng.normal(0, 0.4, (1, units)) for name in BIASES[kind]}
    arrays |= {name: rng.normal(0, 0.4, (1, 1)) for name in SCALARS.get(kind, ())}
    arrays |= {"FC": rng.normal(0, 0.4, (units, L)), "FCbias": rng.normal(0, 0.4, L)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def statistics(rng: np.random.Generator) -> Arrays:
    """mean and std as EdgeML's example writes them, here the same for all steps."""
    return {"mean": np.tile(rng.normal(size=D), T), "std": np.tile(rng.uniform(0.5, 2, size=D), T)}


def write(folder: Path, arrays: Arrays, command: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    if command is not None:
        (folder / "command.txt").write_text(command)
    return folder


def logits(
    kind: str,
    arrays: Arrays,
    x: npt.NDArray[Any],
    framework: str = "pytorch",
    gate: str = "sigmoid",
    update: str = "tanh",
) -> npt.NDArray[np.float64]:
    """EdgeML's cells, step by step, as its code has them; ``x [N, T, D]``."""
    p = {name: array.astype(np.float64) for name, array in arrays.items()}
    sigma, gate_of, update_of = FUNCTIONS["sigmoid"], FUNCTIONS[gate], FUNCTIONS[update]

    def product(a: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        left, number = name[0], name[1:]
        if kind in GATES:
            return (a @ p[left] if left in p else a) @ p[name]
        assert not number
        return a @ p[f"{left}1"] @ p[f"{left}2"] if f"{left}1" in p else a @ p[left]

    def pre(number: str) -> npt.NDArray[np.float64]:
        return product(x_t, f"W{number}") + product(h, f"U{number}")

    h = c = np.zeros((len(x), p["FC"].shape[0]))
    mean, std = (p[name].reshape(-1, x.shape[2]) for name in ("mean", "std"))
    for x_t in ((x - mean) / std).transpose(1, 0, 2):
        if kind == "fastgrnn":
            z, new = gate_of(pre("") + p["Bg"]), update_of(pre("") + p["Bh"])
            h = z * h + (sigma(p["zeta"]) * (1 - z) + sigma(p["nu"])) * new
        elif kind == "fastrnn":
            h = sigma(p["beta"]) * h + sigma(p["alpha"]) * update_of(pre("") + p["B"])
        elif kind == "ugrnn":
            z = gate_of(pre("1") + p["Bg"])
            h = z * h + (1 - z) * update_of(pre("2") + p["Bh"])
        elif kind == "gru":
            r, z = gate_of(pre("1") + p["Br"]), gate_of(pre("2") + p["Bg"])
            new = update_of(product(x_t, "W3") + product(r * h, "U3") + p["Bh"])
            h = z * h + (1 - z) * new
        else:
            forget, enter = ("1", "2") if framework == "tensorflow" else ("2", "1")
            f, i = gate_of(pre(forget) + p["Bf"]), gate_of(pre(enter) + p["Bi"])
            o = gate_of(pre("4") + p["Bo"])
            c = f * c + i * update_of(pre("3") + p["Bc"])
            h = o * update_of(c)
    return h @ p["FC"] + p["FCbias"]


def answer(net: Any, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    with torch.no_grad():
        result: npt.NDArray[Any] = net(torch.from_numpy(x).float()).numpy()
    return result


def classifier(path: Path, **arguments: Any) -> SequenceClassifier:
    net = from_edgeml(path, **arguments)
    assert isinstance(net, SequenceClassifier)
    assert not net.training
    return net


def windows(rng: np.random.Generator, inputs: int = D) -> npt.NDArray[np.float32]:
    return rng.normal(size=(N, T, inputs)).astype(np.float32)


def refusal(path: Path, **arguments: Any) -> str:
    with pytest.raises(EdgeMLError) as caught:
        from_edgeml(path, **arguments)
    assert isinstance(caught.value, FastzooError)
    return str(caught.value)


# Folders of the trainers


@each_cell
@each_rank
@pytest.mark.parametrize("framework", ["tensorflow", "pytorch"])
def test_a_folder_gives_the_answers_of_edgemls_equations(
    kind: str, ranks: tuple[int | None, int | None], framework: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, ranks, rng) | statistics(rng)
    net = classifier(write(tmp_path / "run", arrays), framework=framework)
    x = windows(rng)
    assert net.rnn.cell_type.kind == kind
    assert (net.rnn.cell.w_rank, net.rnn.cell.u_rank) == ranks
    np.testing.assert_allclose(answer(net, x), logits(kind, arrays, x, framework), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("gate", "update", "ours"),
    [
        ("quantSigm", "quantTanh", ("quant_sigmoid", "quant_tanh")),
        ("quantSigm4", "relu", ("quant_sigmoid4", "relu")),
        ("tanh", "sigmoid", ("tanh", "sigmoid")),
        ("quant_sigmoid", "quant_tanh", ("quant_sigmoid", "quant_tanh")),
    ],
)
@each_cell
def test_nonlinearities_go_by_edgemls_names_or_ours(
    kind: str, gate: str, update: str, ours: tuple[str, str], tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, (3, 4), rng) | statistics(rng)
    named = {"update_nonlinearity": update, "framework": "pytorch"}
    if kind != "fastrnn":
        named["gate_nonlinearity"] = gate
    net = classifier(write(tmp_path / "run", arrays), **named)
    x = windows(rng)
    expected = logits(kind, arrays, x, "pytorch", *ours)
    np.testing.assert_allclose(answer(net, x), expected, atol=1e-4, rtol=1e-4)


COMMAND = "python fastcell_example.py -dir usps10/ -id 5 -hd 7 -unl quantTanh --gate-nl=quantSigm -e 100"


def test_command_txt_names_the_nonlinearities(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = write(tmp_path / "run", trained("fastgrnn", (None, None), rng), COMMAND)
    cell = classifier(folder).rnn.cell
    assert (cell.gate_nonlinearity, cell.update_nonlinearity) == ("quant_sigmoid", "quant_tanh")
    notes = read(folder, Options()).notes
    assert "gate nonlinearity quant_sigmoid (from command.txt)" in notes
    cell = classifier(folder, gate_nonlinearity="tanh").rnn.cell
    assert (cell.gate_nonlinearity, cell.update_nonlinearity) == ("tanh", "quant_tanh")


@pytest.mark.parametrize("kind", ["ugrnn", "gru", "lstm"])
def test_edgemls_example_passes_the_gates_nonlinearity_to_fastgrnn_only(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = write(tmp_path / "run", trained(kind, (None, None), rng), COMMAND)
    cell = classifier(folder, framework="pytorch").rnn.cell
    assert (cell.gate_nonlinearity, cell.update_nonlinearity) == ("sigmoid", "quant_tanh")


def test_without_command_txt_the_usual_nonlinearities_are_assumed_and_said(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    imported = read(write(tmp_path / "run", trained("gru", (None, None), rng)), Options())
    assert "update nonlinearity tanh (assumed: nothing says otherwise)" in imported.notes
    assert "gate nonlinearity sigmoid (assumed: nothing says otherwise)" in imported.notes


@pytest.mark.parametrize("name", ["command.txt", "results"])
def test_an_lstm_finds_its_framework_in_what_the_trainers_leave(
    name: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained("lstm", (None, 4), rng) | statistics(rng)
    folder = write(tmp_path / "data" / "LSTMResults" / "2020-05-06T07-08-09", arrays)
    assert "forget gate in TensorFlow" in refusal(folder)
    framework = "pytorch" if name == "command.txt" else "tensorflow"
    if name == "command.txt":
        (folder / name).write_text("python fastcell_example.py -c LSTM -bf True -id 5 -hd 7")
    else:
        log = "MaxTestAcc: 0.9 ... Param Directory: C:\\usps10\\LSTMResults\\2020-05-06T07-08-09\n"
        (tmp_path / "data" / "LSTMLRResults.txt").write_text(log)
        (tmp_path / "data" / "FastGRNNResults_pytorch.txt").write_text(log.replace("06T", "07T"))
    x = windows(rng)
    expected = logits("lstm", arrays, x, framework)
    np.testing.assert_allclose(answer(classifier(folder), x), expected, atol=1e-5, rtol=1e-4)


@each_rank
def test_fastgrnn_of_early_pytorch_trainers_is_stored_transposed(
    ranks: tuple[int | None, int | None], tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained("fastgrnn", ranks, rng) | statistics(rng)
    turned = {name: array.T if name[0] in "WU" else array for name, array in arrays.items()}
    imported = read(write(tmp_path / "run", turned), Options())
    x = windows(rng)
    np.testing.assert_allclose(answer(imported.net, x), logits("fastgrnn", arrays, x), atol=1e-5, rtol=1e-4)
    assert "W and U were stored for x @ W.T" in imported.notes


def test_square_matrices_do_not_tell_how_they_are_stored(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = trained("fastgrnn", (None, None), rng, inputs=H)
    folder = write(tmp_path / "run", arrays)
    message = refusal(folder)
    assert "transposed=True" in message
    assert "--not-transposed" in message
    assert "square" in refusal(folder, framework="pytorch")
    x = windows(rng, H)
    identity = {"mean": np.zeros(H), "std": np.ones(H)}
    as_it_is = logits("fastgrnn", arrays | identity, x)
    for given_arguments in ({"transposed": False}, {"framework": "tensorflow"}):
        np.testing.assert_allclose(answer(classifier(folder, **given_arguments), x), as_it_is, atol=1e-5, rtol=1e-4)
    turned = {name: array.T if name in "WU" else array for name, array in arrays.items()}
    np.testing.assert_allclose(
        answer(classifier(folder, transposed=True), x), logits("fastgrnn", turned | identity, x), atol=1e-5, rtol=1e-4
    )
    assert "only FastGRNN" in refusal(write(tmp_path / "u", trained("ugrnn", (None, None), rng)), transposed=True)


def test_a_rank_above_the_matrix_is_multiplied_out(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = trained("fastgrnn", (6, 9), rng) | statistics(rng)
    imported = read(write(tmp_path / "run", arrays), Options())
    assert isinstance(imported.net, SequenceClassifier)
    assert (imported.net.rnn.cell.w_rank, imported.net.rnn.cell.u_rank) == (None, None)
    x = windows(rng)
    np.testing.assert_allclose(answer(imported.net, x), logits("fastgrnn", arrays, x), atol=1e-5, rtol=1e-4)
    assert any("of rank 9, are larger than U" in note for note in imported.notes)


@pytest.mark.parametrize("kind", ["fastgrnn", "fastrnn"])
def test_scalars_are_trained_or_where_they_are_0_or_1_fixed(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, (None, None), rng)
    first, second = SCALARS[kind]
    cell = classifier(write(tmp_path / "trained", arrays)).rnn.cell
    assert getattr(cell, f"{first}_logit").item() == arrays[first].item()
    pool = arrays | {first: np.full((1, 1), 100, np.float32), second: np.full((1, 1), -100, np.float32)}
    config = classifier(write(tmp_path / "rnnpool", pool)).rnn.config()
    assert (config[first], config[second]) == (1.0, 0.0)


def test_a_path_of_any_kind_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.chdir(write(tmp_path / "run", trained("fastrnn", (None, None), rng)))
    assert from_edgeml(".") is not None


# Normalisation


def test_statistics_per_channel_and_constant_ones_are_taken(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = trained("fastgrnn", (None, None), rng)
    mean, std = rng.normal(size=D) * 100, rng.uniform(0.5, 2, size=D)
    rounded = np.tile(mean, T).astype(np.float32) * (1 + 1e-7 * rng.normal(size=T * D))
    for name, given_mean, given_std, steps in (
        ("channel", mean, std, None),
        ("row", mean[None], std[None], None),
        ("constant", np.tile(mean, T), np.tile(std, T), T),
        ("float32", rounded, np.tile(std, T).astype(np.float32), T),
    ):
        imported = read(write(tmp_path / name, arrays | {"mean": given_mean, "std": given_std}), Options())
        assert isinstance(imported.net, SequenceClassifier)
        np.testing.assert_allclose(imported.net.mean.numpy(), mean, rtol=1e-6)
        np.testing.assert_allclose(imported.net.std.numpy(), std, rtol=1e-6)
        assert imported.steps == steps


def test_statistics_that_change_over_time_are_refused_or_averaged(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, T, D)) + np.arange(T)[:, None]
    x[:, 2, 1] = 5  # EdgeML writes 1 for this column's standard deviation
    x[:, :, 3] = 7
    columns = x.reshape(200, T * D)
    std = columns.std(axis=0)
    arrays = trained("fastgrnn", (None, None), rng)
    folder = write(tmp_path / "run", arrays | {"mean": columns.mean(axis=0), "std": np.where(std < 1e-6, 1, std)})
    message = refusal(folder)
    for part in ("each of 6 steps", "per channel", "normalisation='averaged'", "normalisation='none'", "--norm"):
        assert part in message
    averaged = classifier(folder, normalisation="averaged")
    flat = x.reshape(-1, D)
    np.testing.assert_allclose(averaged.mean.numpy(), flat.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(averaged.std.numpy(), np.where(np.arange(D) == 3, 1, flat.std(axis=0)), rtol=1e-5)
    none = classifier(folder, normalisation="none")
    assert (none.mean == 0).all()
    assert (none.std == 1).all()
    normalised = windows(rng)
    expected = logits("fastgrnn", arrays | {"mean": np.zeros(D), "std": np.ones(D)}, normalised)
    np.testing.assert_allclose(answer(none, normalised), expected, atol=1e-5, rtol=1e-4)


def test_a_small_drift_of_a_large_mean_is_a_change(tmp_path: Path, rng: np.random.Generator) -> None:
    mean = np.tile(np.full(D, 9.81), T) + 1e-3 * np.arange(T * D)
    folder = write(
        tmp_path / "run", trained("fastrnn", (None, None), rng) | {"mean": mean, "std": np.full(T * D, 0.01)}
    )
    assert "standard deviations" in refusal(folder)


def test_statistics_that_cannot_be_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = trained("fastgrnn", (None, None), rng)
    for name, mean, std, part in (
        ("length", np.zeros(D + 1), np.ones(D + 1), "has 6 numbers"),
        ("lengths", np.zeros(D), np.ones(2 * D), "std.npy 10"),
        ("zero", np.zeros(D), np.zeros(D), "std.npy holds 0.0"),
        ("nan", np.full(D, np.nan), np.ones(D), "mean.npy holds NaN"),
        ("integers", np.zeros(D, np.int64), np.ones(D), "mean.npy holds int64"),
        ("empty", np.zeros(0), np.zeros(0), "has 0 numbers"),
    ):
        assert part in refusal(write(tmp_path / name, arrays | {"mean": mean, "std": std}))
    for lost in ("mean", "std"):
        folder = write(tmp_path / f"no-{lost}", arrays | statistics(rng))
        (folder / f"{lost}.npy").unlink()
        assert f"{lost}.npy is missing" in refusal(folder)
        assert classifier(folder, normalisation="none") is not None
    imported = read(write(tmp_path / "neither", arrays), Options())
    assert any("no mean.npy" in note for note in imported.notes)


# Quantized folders


def quantize(arrays: Arrays, largest: int = 127, scalar_scale: int = 1000) -> Arrays:
    """EdgeML's byte quantization: two scales, and scalars in thousandths of their sigmoid."""
    params = [name for name in arrays if name[0] in "WUB"]
    head = [name for name in arrays if name.startswith("FC")]
    scale = np.round((2 * largest + 1) / (2 * max(np.abs(arrays[name]).max() for name in params)))
    head_scale = (2 * largest + 1) / (2 * max(np.abs(arrays[name]).max() for name in head))
    dtype = np.int8 if largest <= 127 else np.int16 if largest <= 32767 else np.int32

    def integers(array: npt.NDArray[Any], by: float) -> npt.NDArray[Any]:
        q = np.round(by * array)
        return np.where(q > largest, largest, np.where(q < -largest, -(largest + 1), q)).astype(dtype)

    result: Arrays = {f"q{name}": integers(arrays[name], scale) for name in params}
    result |= {f"q{name}": integers(arrays[name], head_scale) for name in head}
    for name in ("zeta", "nu", "alpha", "beta"):
        if name in arrays:
            result[f"q{name}"] = np.round(scalar_scale / (1 + np.exp(-arrays[name]))).astype(np.int32)
    return result | {
        "paramScaleFactor": np.array(scale, np.int32),
        "classifierScaleFactor": np.array(head_scale, np.float32),
        "scalarScaleFactor": np.array(scalar_scale, np.int64),
    }


@each_cell
@pytest.mark.parametrize("largest", [127, 32767])
def test_a_quantized_folder_gives_what_its_integers_stand_for(
    kind: str, largest: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, (3, 4), rng) | statistics(rng)
    folder = write(tmp_path / "run", arrays, COMMAND)
    integers = quantize(arrays, largest)
    net = classifier(write(folder / "QuantizedModel", integers), framework="pytorch")
    float_net = classifier(folder, framework="pytorch")
    assert torch.equal(net.mean, float_net.mean)  # mean, std and command.txt lie in the folder above
    assert torch.equal(net.std, float_net.std)
    assert net.rnn.cell.update_nonlinearity == "quant_tanh"

    cell, float_cell = net.rnn.cell.state_dict(), float_net.rnn.cell.state_dict()
    for name, value in cell.items():
        if name.endswith("_logit"):
            assert abs(torch.sigmoid(value) - torch.sigmoid(float_cell[name])) <= 0.5 / 1000
        else:  # rounded by half a step, or clipped by little more than one
            assert (value - float_cell[name]).abs().max() <= 1.5 / float(integers["paramScaleFactor"])
    for parameter, float_parameter in zip(net.head.parameters(), float_net.head.parameters(), strict=True):
        assert (parameter - float_parameter).abs().max() <= 1 / float(integers["classifierScaleFactor"])
    stands_for = {name[1:]: array for name, array in integers.items() if name[0] == "q"}
    for name, array in stands_for.items():
        which = "classifier" if name[0] == "F" else "scalar" if name in SCALARS.get(kind, ()) else "param"
        exact = array / np.float64(integers[f"{which}ScaleFactor"])
        stands_for[name] = np.log(exact / (1 - exact)) if which == "scalar" else exact
    x = windows(rng)
    gate = "quant_sigmoid" if kind == "fastgrnn" else "sigmoid"
    expected = logits(kind, arrays | stands_for, x, "pytorch", gate, "quant_tanh")
    np.testing.assert_allclose(answer(net, x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("value", "fixed"), [(1000, 1.0), (0, 0.0), (731, None)])
def test_quantized_scalars_of_0_and_1_are_fixed(
    value: int, fixed: float | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    integers = quantize(trained("fastgrnn", (None, None), rng))
    integers["qnu"] = np.full((1, 1), value, np.int32)
    rnn = classifier(write(tmp_path / "q", integers)).rnn
    assert rnn.config()["nu"] == fixed
    assert rnn.cell.nu.item() == pytest.approx(value / 1000, abs=1e-6)


def test_a_quantized_folder_that_cannot_be_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    integers = quantize(trained("fastgrnn", (None, None), rng))
    float_w = {"qW": rng.normal(size=(D, H))}
    for name, changed, part in (
        ("type", float_w, "qW.npy holds float64, where EdgeML writes integers"),
        ("zero", {"paramScaleFactor": np.array(0)}, "one number above 0"),
        ("many", {"classifierScaleFactor": np.ones(2)}, "one number above 0"),
        ("beyond", {"qzeta": np.array([[1001]])}, "qzeta.npy"),
        ("negative", {"qnu": np.array([[-1]])}, "qnu.npy"),
    ):
        assert part in refusal(write(tmp_path / name, integers | changed))
    for lost in ("paramScaleFactor", "classifierScaleFactor", "scalarScaleFactor", "qBh", "qFC"):
        folder = write(tmp_path / f"no-{lost}", integers)
        (folder / f"{lost}.npy").unlink()
        message = refusal(folder)
        assert f"{lost}.npy" in message
        assert "missing" in message or "lacks" in message


# State dicts

PARAMETERS = {
    "Bg": "bias_gate", "Bh": "bias_update", "B": "bias_update", "Br": "bias_r",
    "Bf": "bias_f", "Bi": "bias_i", "Bc": "bias_c", "Bo": "bias_o",
}  # fmt: skip


def cell_state(arrays: Arrays, *modules: str) -> dict[str, torch.Tensor]:
    """A cell as edgeml_pytorch's modules hold it, once for each place where it is registered."""
    own = {name: array for name, array in arrays.items() if name not in ("FC", "FCbias", "mean", "std")}
    return {
        f"{module}{PARAMETERS.get(name, name)}": torch.from_numpy(array)
        for module in modules
        for name, array in own.items()
    }


def head_state(arrays: Arrays) -> dict[str, torch.Tensor]:
    weight, bias = torch.from_numpy(arrays["FC"].T.copy()), torch.from_numpy(arrays["FCbias"])
    return {"hidden2keyword.weight": weight, "hidden2keyword.bias": bias}


def saved(path: Path, state: Any, **arguments: Any) -> Path:
    torch.save(state, path, **arguments)
    return path


@each_cell
@each_rank
def test_a_classifier_by_fastmodel_with_its_statistics_beside_it(
    kind: str, ranks: tuple[int | None, int | None], tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, ranks, rng) | statistics(rng)
    arrays |= {"mean": arrays["mean"][:D], "std": arrays["std"][:D]}
    state = cell_state(arrays, "rnn_list.0.cell.", "rnn_list.0.unrollRNN.RNNCell.") | head_state(arrays)
    write(tmp_path, {name: arrays[name] for name in ("mean", "std")})
    net = classifier(saved(tmp_path / "model.pt", state))
    x = windows(rng)
    np.testing.assert_allclose(answer(net, x), logits(kind, arrays, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("modules", [("",), ("RNNCell.",), ("cell.", "unrollRNN._RNNCell."), ("module.rnn.cell.",)])
@each_cell
def test_a_cell_without_a_head_gives_the_sequence_module(
    kind: str, modules: tuple[str, ...], tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, (3, None), rng)
    rnn = from_edgeml(saved(tmp_path / "cell.pth", cell_state(arrays, *modules)))
    assert type(rnn) is CELLS[kind]
    x = windows(rng)
    states, _ = rnn(torch.from_numpy(x).transpose(0, 1))
    identity = {"mean": np.zeros(D), "std": np.ones(D)}
    expected = logits(kind, arrays | identity, x)
    got = states[-1].detach().numpy() @ arrays["FC"] + arrays["FCbias"]
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-4)


def test_layers_are_stacked_in_order_each_with_its_ranks(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = [trained("fastgrnn", ranks, rng, inputs=n) for ranks, n in (((3, 4), D), ((None, None), H), ((2, 5), H))]
    state = {
        key: value for i, layer in enumerate(layers) for key, value in cell_state(layer, f"rnn_list.{i}.cell.").items()
    }
    net = classifier(saved(tmp_path / "model.pt", state | head_state(layers[-1])))
    assert net.rnn.num_layers == 3
    assert [cell.w_rank for cell in net.rnn.cells] == [3, None, 2]
    x = windows(rng)
    h = x.astype(np.float64)
    for layer in layers:  # all states of a layer, through a head that lets them pass
        one = layer | {"FC": np.eye(H), "FCbias": np.zeros(H)}
        own = {"mean": np.zeros(h.shape[2]), "std": np.ones(h.shape[2])}
        h = np.stack([logits("fastgrnn", one | own, h[:, : t + 1]) for t in range(T)], axis=1)
    np.testing.assert_allclose(answer(net, x), h[:, -1] @ layers[-1]["FC"] + layers[-1]["FCbias"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inputs", [D, H])
def test_fastgrnncuda_is_stored_transposed_and_its_stand_in_is_not_read(
    inputs: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained("fastgrnn", (None, None), rng, inputs=inputs)
    turned = {name: array.T.copy() if name in "WU" else array for name, array in arrays.items()}
    state = cell_state(turned, "rnn_list.0.") | cell_state(trained("fastgrnn", (None, None), rng), "rnn_list_.0.cell.")
    net = classifier(saved(tmp_path / "cuda.pt", state | head_state(arrays)))
    x = windows(rng, inputs)
    identity = {"mean": np.zeros(inputs), "std": np.ones(inputs)}
    np.testing.assert_allclose(answer(net, x), logits("fastgrnn", arrays | identity, x), atol=1e-5, rtol=1e-4)


def test_one_layer_tells_how_the_square_ones_are_stored(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = [trained("fastgrnn", (None, None), rng, inputs=n) for n in (D, H)]
    state = {key: value.T for i in (0, 1) for key, value in cell_state(layers[i], f"rnn_list.{i}.cell.").items()}
    rnn = from_edgeml(saved(tmp_path / "model.pt", state))
    assert isinstance(rnn, FastGRNN)
    np.testing.assert_array_equal(rnn.cells[1].state_dict()["W"].numpy(), layers[1]["W"])


def test_files_of_every_age_and_precision_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    state = cell_state(trained("fastrnn", (None, None), rng), "")
    parameters = {key: torch.nn.Parameter(value) for key, value in state.items()}
    for name, content, arguments in (
        ("legacy.pt", state, {"_use_new_zipfile_serialization": False}),
        ("wrapped.pt", {"epoch": 3, "state_dict": state}, {}),
        ("model.pt", {"model": state, "optimizer": {}}, {}),
        ("parameters.pt", parameters, {}),
        ("double.pt", {key: value.double() for key, value in state.items()}, {}),
        ("half.pt", {key: value.bfloat16() for key, value in state.items()}, {}),
    ):
        assert isinstance(from_edgeml(saved(tmp_path / name, content, **arguments)), FastRNN), name


class Attack:
    """A pickle that runs code when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_no_code_from_a_file_is_run(tmp_path: Path, rng: np.random.Generator) -> None:
    target = tmp_path / "owned"
    path = saved(tmp_path / "model.pt", Attack(target))
    message = refusal(path)
    assert "without running code from it" in message
    assert "torch.save(model.state_dict()" in message
    assert "state dict" in refusal(saved(tmp_path / "module.pt", torch.nn.Linear(2, 2)))
    folder = write(tmp_path / "run", trained("fastrnn", (None, None), rng))
    np.save(folder / "W.npy", np.array([[Attack(target)]], dtype=object), allow_pickle=True)
    assert "W.npy cannot be read as an array without Python objects" in refusal(folder)
    assert not target.exists()


def test_state_dicts_of_other_models_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = trained("fastgrnn", (None, None), rng)
    cell, head = cell_state(arrays, "cell."), head_state(arrays)
    second = {key.replace("hidden2keyword", "fc"): value for key, value in head.items()}
    wide = cell_state(trained("fastgrnn", (None, None), rng, inputs=H, units=9), "rnn_list.1.cell.")
    gru = cell_state(trained("gru", (None, None), rng, inputs=H), "rnn_list.1.cell.")
    for name, state, part in (
        ("both", cell_state(arrays, "cell.", "unrollRNN.RNNCell_reverse."), "both directions"),
        ("srnn", cell_state(arrays, "rnn0.cell.") | {"W": torch.ones(H, L), "B": torch.ones(L)}, "bricks"),
        ("conv", cell | {"conv.weight": torch.ones(2, 2, 3), "conv.scale": torch.ones(2)}, "conv.scale"),
        ("heads", cell | head | second, "2 linear layers"),
        ("no cell", head, "no cell"),
        ("empty", {}, "no cell"),
        ("integers", cell | {"cell.W": torch.ones(D, H, dtype=torch.int8)}, "holds torch.int8 in cell.W"),
        ("sparse", cell | {"cell.W": torch.ones(D, H).to_sparse()}, "holds torch.sparse_coo in cell.W"),
        ("nan", cell | {"cell.U": torch.full((H, H), torch.nan)}, "cell.U holds NaN or infinity, 49 of 49"),
        ("list", [torch.ones(2)], "not a state dict"),
        ("text", {"cell.W": "tanh"}, "not a state dict"),
        ("widths", cell_state(arrays, "rnn_list.0.cell.") | wide, "fastgrnn 5 -> 7 , fastgrnn 7 -> 9"),
        ("kinds", cell_state(arrays, "rnn_list.0.cell.") | gru, "gru 7 -> 7"),
        ("lacks", {key: value for key, value in cell.items() if key != "cell.zeta"}, "lacks cell.zeta"),
        ("head", cell | {**head, "hidden2keyword.weight": torch.ones(L, 9)}, "hidden2keyword.weight.T is [9, 3]"),
    ):
        assert part in refusal(saved(tmp_path / "model.pt", state)), name
    assert "only PyTorch" in refusal(saved(tmp_path / "model.pt", cell), framework="tensorflow")
    (tmp_path / "model.pt").write_bytes((tmp_path / "model.pt").read_bytes()[:200])
    assert "cannot be read" in refusal(tmp_path / "model.pt")


# Faults of folders


def test_a_path_that_holds_no_model_says_where_one_may_be(tmp_path: Path, rng: np.random.Generator) -> None:
    assert "there is no folder" in refusal(tmp_path / "none")
    assert "holds no model" in refusal(tmp_path)
    run = write(tmp_path / "FastGRNNResults" / "2020-05-06T07-08-09", trained("fastgrnn", (None, None), rng))
    assert f"Did you mean {run}?" in refusal(tmp_path)
    assert f"Did you mean {run}?" in refusal(run.parent)
    assert f"give its folder {run}" in refusal(run / "W.npy")
    (tmp_path / "kws").mkdir()
    saved(tmp_path / "kws" / "model.pt", {})
    assert f"Did you mean {tmp_path / 'kws' / 'model.pt'}?" in refusal(tmp_path / "kws")


@each_cell
@each_rank
def test_every_missing_file_is_named(
    kind: str, ranks: tuple[int | None, int | None], tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, ranks, rng)
    for lost in arrays:
        left_factor = kind in GATES and lost in "WU"  # without it, the others look like full matrices
        folder = write(
            tmp_path / f"no-{lost}", {name: array for name, array in arrays.items() if name != lost}, COMMAND
        )
        message = refusal(folder, framework="pytorch")
        parts = ("Is W.npy or U.npy missing?", "does not fit together") if left_factor else (f"{lost}.npy",)
        assert any(part in message for part in parts), message
        assert left_factor or "lacks" in message or "neither biases (Bg.npy, ...)" in message


def test_scalars_tell_fastgrnn_from_ugrnn(tmp_path: Path, rng: np.random.Generator) -> None:
    """Both can have W1, W2, U1, U2, Bg and Bh."""
    fastgrnn, ugrnn = trained("fastgrnn", (3, 4), rng), trained("ugrnn", (None, None), rng)
    assert set(fastgrnn) - set(ugrnn) == {"zeta", "nu"}
    assert classifier(write(tmp_path / "f", fastgrnn)).rnn.cell_type.kind == "fastgrnn"
    assert classifier(write(tmp_path / "u", ugrnn)).rnn.cell_type.kind == "ugrnn"
    full = {name: array for name, array in trained("fastgrnn", (None, 4), rng).items() if name not in ("zeta", "nu")}
    assert "lacks zeta.npy, nu.npy: a FastGRNN has" in refusal(write(tmp_path / "lost", full))
    fastrnn = {
        name: array for name, array in trained("fastrnn", (None, 4), rng).items() if name not in ("alpha", "beta")
    }
    assert "lacks alpha.npy, beta.npy: a FastRNN has" in refusal(write(tmp_path / "lost too", fastrnn))


def test_what_edgemls_trainers_never_saved_is_explained(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {name: array for name, array in trained("fastgrnn", (None, None), rng).items() if name in ("W", "U", "FC")}
    assert "FastGRNNCUDACell" in refusal(write(tmp_path / "cuda", arrays))


def test_two_models_in_one_folder_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    both = trained("gru", (None, None), rng) | trained("fastgrnn", (None, None), rng)
    assert "two models in one place?" in refusal(write(tmp_path / "both", both))


def test_shapes_that_do_not_fit_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    for kind, changed, part in (
        ("fastgrnn", {"W": np.zeros((D, H + 1))}, "W.npy is [5, 8], not [5, 7]"),
        ("fastgrnn", {"U": np.zeros((H, H, 1))}, "U.npy must have two axes"),
        ("fastgrnn", {"Bh": np.zeros((1, H + 1))}, "Bh.npy has 8 numbers, not 7"),
        ("fastgrnn", {"zeta": np.zeros((1, H))}, "zeta.npy has 7 numbers, not 1"),
        ("ugrnn", {"W2": np.zeros((D + 1, H))}, "W2.npy is [6, 7], not [5, 7]"),
        ("gru", {"U": np.zeros((H, 3))}, "U1.npy is [7, 7], not [3, 7]"),
        ("fastrnn", {"FC": np.zeros((H + 1, L))}, "FC.npy is [8, 3]"),
        ("fastrnn", {"FCbias": np.zeros(L + 1)}, "FCbias.npy has 4 numbers"),
        ("fastrnn", {"FC": np.zeros((H, 1)), "FCbias": np.zeros(1)}, "L at least 2"),
        ("fastrnn", {"W": np.zeros((0, H))}, "no such network: input_size"),
    ):
        message = refusal(write(tmp_path / f"{kind}{len(part)}{part[:2]}", trained(kind, (None, None), rng) | changed))
        assert part in message


def test_damaged_and_strange_files_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = trained("fastgrnn", (None, None), rng)
    for name, array, part in (
        ("nan", np.where(np.eye(H) > 0, np.nan, 0), "U.npy holds NaN or infinity, 7 of 49 numbers"),
        ("inf", np.full((H, H), -np.inf), "U.npy holds NaN or infinity"),
        ("big", np.full((H, H), 1e300), "U.npy holds NaN or infinity"),
        ("complex", np.ones((H, H), complex), "U.npy holds complex128, where EdgeML writes floating-point numbers"),
        ("integers", np.ones((H, H), int), "U.npy holds int64"),
        ("text", np.full((H, H), "a"), "U.npy holds <U1"),
    ):
        assert part in refusal(write(tmp_path / name, arrays | {"U": array}))
    folder = write(tmp_path / "damaged", arrays)
    whole = (folder / "U.npy").read_bytes()
    for damaged in (
        whole[:-8],
        whole[:20],
        b"",
        b"hello",
        whole.replace(b"}", b"("),
        whole.replace(b"'shape'", b"b'shap'"),
    ):
        (folder / "U.npy").write_bytes(damaged)
        assert "U.npy cannot be read as an array" in refusal(folder)
    with (folder / "U.npy").open("wb") as file:
        np.savez(file, U=np.ones(2))
    assert "U.npy holds an archive" in refusal(folder)


def test_wrong_arguments_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = write(tmp_path / "run", trained("gru", (None, None), rng))
    assert "framework must be 'tensorflow' or 'pytorch', not 'keras'" in refusal(folder, framework="keras")
    assert "normalisation must be 'exact'" in refusal(folder, normalisation="some")
    message = refusal(folder, gate_nonlinearity="swish")
    assert "unknown gate nonlinearity 'swish'" in message
    assert "quantSigm4" in message
    assert "unknown update nonlinearity" in refusal(folder, update_nonlinearity="swish")
    (folder / "command.txt").write_text("python fastcell_example.py -unl my_own")
    assert "'my_own'" in refusal(folder)
    fastrnn = write(tmp_path / "fastrnn", trained("fastrnn", (None, None), rng))
    assert "no gate" in refusal(fastrnn, gate_nonlinearity="sigmoid")


# Back to EdgeML


@st.composite
def networks(draw: st.DrawFn) -> SequenceClassifier:
    kind = draw(st.sampled_from(sorted(CELLS)))
    inputs, units = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    arguments: dict[str, Any] = {
        "w_rank": draw(st.none() | st.integers(1, min(inputs, units))),
        "u_rank": draw(st.none() | st.integers(1, units)),
        "update_nonlinearity": draw(st.sampled_from(sorted(FUNCTIONS))),
    }
    if kind != "fastrnn":
        arguments["gate_nonlinearity"] = draw(st.sampled_from(sorted(FUNCTIONS)))
    arguments |= {name: draw(st.sampled_from([None, 0.0, 1.0])) for name in SCALARS.get(kind, ())}
    torch.manual_seed(draw(st.integers(0, 99)))
    net = SequenceClassifier(CELLS[kind](inputs, units, **arguments), num_classes=draw(st.integers(2, 4)))
    with torch.no_grad():
        for value in net.state_dict().values():
            value.copy_(torch.randn_like(value) + (1e-3 if value.dim() else 0))
        net.std.abs_()
    return net.eval()


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from(["tensorflow", "pytorch"]), st.integers(1, 4))
def test_a_written_folder_reads_back_bit_by_bit(net: SequenceClassifier, framework: str, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        to_edgeml(net, Path(folder) / "deep" / "run", steps=steps, framework=framework)
        imported = read(Path(folder) / "deep" / "run", Options())
    assert isinstance(imported.net, SequenceClassifier)
    assert imported.net.config() == net.config()
    assert imported.steps == (steps if steps > 1 else None)
    for name, value in net.state_dict().items():
        assert torch.equal(imported.net.state_dict()[name], value), name


@each_cell
@each_rank
def test_a_written_folder_is_what_the_trainers_write(
    kind: str, ranks: tuple[int | None, int | None], tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = trained(kind, ranks, rng) | {name: a.astype(np.float32) for name, a in statistics(rng).items()}
    net = classifier(write(tmp_path / "theirs", arrays), framework="tensorflow")
    to_edgeml(net, tmp_path / "ours", steps=T, framework="tensorflow")
    written = {path.stem: np.load(path) for path in (tmp_path / "ours").glob("*.npy")}
    assert set(written) == set(arrays)
    for name, array in arrays.items():
        assert written[name].dtype == np.float32
        assert written[name].shape == array.shape
        np.testing.assert_array_equal(written[name], array)


def test_command_txt_says_what_the_arrays_do_not(tmp_path: Path) -> None:
    rnn = FastGRNN(5, 7, w_rank=3, update_nonlinearity="quant_tanh", gate_nonlinearity="quant_sigmoid4")
    to_edgeml(SequenceClassifier(rnn, 3), tmp_path / "run", steps=2)
    command = (tmp_path / "run" / "command.txt").read_text()
    assert command == "fastzoo -c FastGRNN -id 5 -hd 7 -rW 3 -unl quantTanh -gnl quantSigm4 --framework pytorch"


def test_fixed_scalars_become_logits(tmp_path: Path) -> None:
    net = SequenceClassifier(FastGRNN(5, 7, zeta=0.25, nu=0.0), 3)
    to_edgeml(net, tmp_path / "run", steps=2)
    assert np.load(tmp_path / "run" / "nu.npy") == [[-100]]
    back = classifier(tmp_path / "run").rnn.cell
    assert back.zeta.item() == pytest.approx(0.25, abs=1e-7)
    assert back.nu.item() == 0


def not_edgemls() -> Iterator[tuple[SequenceClassifier, str]]:
    yield SequenceClassifier(FastGRNN(5, 7, num_layers=2), 3), "num_layers=2"
    yield SequenceClassifier(FastGRNN(5, 7, bidirectional=True), 3), "bidirectional=True"
    yield SequenceClassifier(FastGRNN(5, 7), 3, pool=4), "pool=4"
    yield SequenceClassifier(FastGRNN(5, 7, update_nonlinearity=torch.sin), 3), "by name only"
    broken = SequenceClassifier(FastGRNN(5, 7), 3)
    torch.nn.init.constant_(broken.head.weight, float("nan"))
    yield broken, "FC.npy"


def test_what_edgeml_does_not_know_is_refused(tmp_path: Path) -> None:
    for net, part in not_edgemls():
        with pytest.raises(EdgeMLError, match=part):
            to_edgeml(net, tmp_path / "run", steps=4)
    net = SequenceClassifier(FastGRNN(5, 7), 3)
    for steps in (0, 2.0, True):
        with pytest.raises(EdgeMLError, match="steps must be"):
            to_edgeml(net, tmp_path / "run", steps=steps)  # type: ignore[arg-type]
    with pytest.raises(EdgeMLError, match="framework must be"):
        to_edgeml(net, tmp_path / "run", steps=4, framework="jax")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = SequenceClassifier(FastGRNN(5, 7), 3)
    (tmp_path / "run").mkdir()
    with pytest.raises(EdgeMLError, match="exists already"):
        to_edgeml(net, tmp_path / "run", steps=4)
    full = OSError(28, "No space left on device")

    def fail(path: Path, data: bytes) -> None:
        if path.name == "nu.npy":
            raise full
        path.write_bytes(data)

    monkeypatch.setattr("fastzoo._files.write", fail)
    with pytest.raises(EdgeMLError, match="No space left"):
        to_edgeml(net, tmp_path / "other", steps=4)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
