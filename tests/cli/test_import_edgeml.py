"""``fastzoo import-edgeml``: from a trainer's folder to a checkpoint that can be exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fastzoo
from fastzoo import data, nn, train
from fastzoo.errors import DataError, EdgeMLError, TrainingError
from fastzoo.nn.edgeml import to_edgeml

from .shell import error, run

T, D, C = 8, 8, 10


def network(kind: str = "fastgrnn", **arguments: object) -> nn.SequenceClassifier:
    torch.manual_seed(0)
    net = nn.SequenceClassifier(nn.CELLS[kind](D, 12, w_rank=3, **arguments), C)  # type: ignore[arg-type]
    net.mean.fill_(7.5)
    net.std.fill_(5.0)
    return net.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    to_edgeml(network(), tmp_path / "2020-05-06T07-08-09", steps=T)
    return tmp_path / "2020-05-06T07-08-09"


def test_what_was_found_is_shown_and_kept(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    channels, labels = [f"pixel {i}" for i in range(D)], [f"digit {i}" for i in range(C)]
    result = run(
        "import-edgeml", folder, "--out", out, "--rate", "25", "--channels", ",".join(channels),
        "--labels", ", ".join(labels), "--gate", "quantSigm",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for text in (
        "FastGRNN, 1 layer(s) of 12 units, W of rank 3, U of rank full",
        "8 steps at 25 Hz of pixel 0, pixel 1",
        "digit 0, digit 1",
        str(nn.model_size(network(), T)),
        "gate nonlinearity quant_sigmoid (as given)",
        "update nonlinearity tanh (from command.txt)",
        f"fastzoo export {out} --out {out}-bundle --data ID_OR_NPZ",
    ):
        assert text in result.output
    saved = train.load(out)
    assert saved.net.config() == network(gate_nonlinearity="quant_sigmoid").config()
    for name, value in network().state_dict().items():
        assert torch.equal(saved.net.state_dict()[name], value)
    assert saved.data["channels"] == channels
    assert saved.data["classes"] == labels
    assert (saved.data["steps"], saved.data["rate"]) == (T, 25.0)
    assert saved.training["imported"]["model"] == folder.name


def test_names_and_rate_have_defaults(folder: Path, tmp_path: Path) -> None:
    assert run("import-edgeml", folder, "--out", tmp_path / "model").exit_code == 0
    saved = train.load(tmp_path / "model")
    assert saved.data["channels"] == [f"channel_{i}" for i in range(D)]
    assert saved.data["classes"] == [f"class_{i}" for i in range(C)]
    assert saved.data["rate"] == 1.0


def test_a_data_set_says_what_the_windows_are_and_tries_the_network(folder: Path, tmp_path: Path) -> None:
    digits = data.load("digits")
    result = run("import-edgeml", folder, "--data", "digits", "--out", tmp_path / "model")
    assert result.exit_code == 0, result.output
    accuracy = train.evaluate(network(), digits.test, digits.classes, "test").accuracy
    assert f"{100 * accuracy:.1f} % of {len(digits.test)} windows right" in result.output
    assert "--data digits" in result.output
    saved = train.load(tmp_path / "model")
    assert saved.data["sha256"] == digits.sha256
    assert saved.data["classes"] == list(digits.classes)


@pytest.mark.parametrize("at_import", [True, False], ids=["data at import", "data at export"])
def test_the_checkpoint_can_be_exported(at_import: bool, folder: Path, tmp_path: Path) -> None:
    where = ["--data", "digits"]
    labels = ["--labels", ",".join("0123456789")]
    assert run("import-edgeml", folder, "--out", tmp_path / "model", *(where if at_import else labels)).exit_code == 0
    exported: list[str | Path] = ["export", tmp_path / "model", "--out", tmp_path / "bundle", "--layout", "unrolled"]
    if not at_import:
        assert "calibration windows are needed" in str(error(*exported))
        exported += where
    result = run(*exported)
    assert result.exit_code == 0, result.output
    x = data.load("digits").test.x.astype(np.float32)
    with torch.no_grad():
        expected = network()(torch.from_numpy(x)).argmax(1).numpy()
    model = fastzoo.load(tmp_path / "bundle")
    assert np.mean(np.asarray(model.predict(x)).astype(int) == expected) > 0.95
    assert model.info["training"]["imported"]["from"] == "EdgeML"


@pytest.mark.parametrize("kind", ["fastrnn", "ugrnn", "gru", "lstm"])
def test_every_cell_becomes_a_checkpoint(kind: str, tmp_path: Path) -> None:
    to_edgeml(network(kind), tmp_path / "run", steps=T, framework="tensorflow")
    (tmp_path / "run" / "command.txt").unlink()
    options = ["--framework", "tensorflow"] if kind == "lstm" else []
    result = run("import-edgeml", tmp_path / "run", "--out", tmp_path / "model", *options)
    assert result.exit_code == 0, result.output
    assert torch.equal(train.load(tmp_path / "model").net.rnn.cell.U, network(kind).rnn.cell.U)


def test_statistics_per_step_need_a_decision(folder: Path, tmp_path: Path) -> None:
    np.save(folder / "mean.npy", np.arange(T * D) / 10)
    out = tmp_path / "model"
    assert "--normalisation" in str(error("import-edgeml", folder, "--out", out))
    assert not out.exists()
    result = run("import-edgeml", folder, "--out", out, "--normalisation", "averaged")
    assert "averaged over time" in result.output
    torch.testing.assert_close(train.load(out).net.mean, torch.arange(T * D).reshape(T, D).float().mean(0) / 10)
    none: list[str | Path] = ["import-edgeml", folder, "--out", out, "--force", "--normalisation", "none"]
    assert "--steps" in str(error(*none))
    assert "takes normalised samples" in run(*none, "--steps", str(T)).output
    assert (train.load(out).net.mean == 0).all()


def test_square_matrices_need_an_orientation(tmp_path: Path) -> None:
    net = nn.SequenceClassifier(nn.FastGRNN(D, D), C)
    to_edgeml(net, tmp_path / "run", steps=T)
    (tmp_path / "run" / "command.txt").unlink()
    assert "--transposed" in str(error("import-edgeml", tmp_path / "run", "--out", tmp_path / "model"))
    for option, expected in (("--transposed", net.rnn.cell.W.T), ("--not-transposed", net.rnn.cell.W)):
        assert run("import-edgeml", tmp_path / "run", "--out", tmp_path / option, option).exit_code == 0
        assert torch.equal(train.load(tmp_path / option).net.rnn.cell.W, expected)


def test_wrong_usage_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"

    def said(*options: str, model: Path = folder) -> str:
        found = error("import-edgeml", model, "--out", out, *options)
        assert isinstance(found, EdgeMLError), found
        return str(found)

    assert "there is no folder" in said(model=tmp_path / "none")
    assert "holds no model" in said(model=tmp_path / "..")
    assert "--labels must be 10 different names" in said("--labels", "a,b")
    assert "--channels must be 8 different names" in said("--channels", "a,b,c,d,e,f,g,a")
    assert "--rate" in said("--rate", "0")
    assert "--rate" in said("--rate", "nan")
    assert "it has 8 steps, not 9" in said("--steps", "9")
    assert "leave out --rate, --steps" in said("--data", "digits", "--rate", "5", "--steps", "8")
    assert "unknown gate nonlinearity" in said("--gate", "swish")
    assert isinstance(error("import-edgeml", folder, "--out", out, "--data", "digit"), DataError)
    other = nn.SequenceClassifier(nn.FastGRNN(3, 4), 2)
    to_edgeml(other, tmp_path / "other", steps=5)
    message = said("--data", "digits", model=tmp_path / "other")
    assert "it has 5 steps, not 8; 3 channels, not 8; 2 classes, not 10" in message
    assert not out.exists()


def test_a_cell_alone_is_no_checkpoint(tmp_path: Path) -> None:
    state = {"W": torch.ones(3, 4), "U": torch.ones(4, 4), "bias_update": torch.ones(1, 4)}
    torch.save(state | {"alpha": torch.zeros(1, 1), "beta": torch.zeros(1, 1)}, tmp_path / "cell.pt")
    found = error("import-edgeml", tmp_path / "cell.pt", "--out", tmp_path / "model")
    assert "no linear layer" in str(found)


def test_nothing_is_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    assert run("import-edgeml", folder, "--out", tmp_path / "model").exit_code == 0
    before = (tmp_path / "model" / "checkpoint.json").read_bytes()
    assert isinstance(error("import-edgeml", folder, "--out", tmp_path / "model"), TrainingError)
    assert (tmp_path / "model" / "checkpoint.json").read_bytes() == before
    assert run("import-edgeml", folder, "--out", tmp_path / "model", "--force").exit_code == 0
