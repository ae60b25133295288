"""``fastzoo train``, ``export`` and ``demo``: from recordings to a table of verified files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastzoo
from fastzoo import train
from fastzoo.audio import LogMel
from fastzoo.data import Dataset
from fastzoo.errors import DataError, ExportError, TrainingError
from fastzoo.nn import CELLS, model_size
from fastzoo.train import checkpoint

from .shell import error, run

QUICK = ["--data", "digits", "--hidden-size", "8", "--w-rank", "4", "--u-rank", "4", "--epochs", "2"]


def test_train_then_export_then_load(tmp_path: Path) -> None:
    trained = run("train", *QUICK, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    assert "validation accuracy" in trained.output
    assert f"fastzoo export {tmp_path / 'run'}" in trained.output

    exported = run("export", tmp_path / "run", "--out", tmp_path / "tiny")
    assert exported.exit_code == 0, exported.output
    for text in ("fp32", "int8", "fused", "unrolled", "us", "kB"):
        assert text in exported.output
    model = fastzoo.load(tmp_path / "tiny")
    assert model.labels == tuple("0123456789")
    assert (model.name, model.precision) == ("tiny-int8", "int8")


def test_options_override_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[data]\nid = "digits"\n[model]\nhidden_size = 12\nw_rank = 3\nu_rank = 3\n[train]\nepochs = 1\n'
        "[train.augmentation]\nnoise = 0.1\n"
    )
    assert run("train", recipe, "--hidden-size", "9", "--scale", "0.2", "--out", tmp_path / "run").exit_code == 0
    saved = train.load(tmp_path / "run")
    assert saved.net.rnn.hidden_size == 9
    assert saved.net.rnn.cell.w_rank == 3
    augmentation = saved.training["settings"]["augmentation"]
    assert {name: augmentation[name] for name in ("rotate", "scale", "noise")} == {
        "rotate": 0.0,
        "scale": 0.2,
        "noise": 0.1,
    }


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_can_be_trained_and_says_its_size(cell: str, tmp_path: Path) -> None:
    stack = ["--num-layers", "2", "--bidirectional", "--dropout", "0.25"] if cell in ("fastrnn", "gru") else []
    trained = run("train", *QUICK[:-1], "1", "--cell", cell, *stack, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    saved = train.load(tmp_path / "run")
    assert type(saved.net.rnn) is CELLS[cell]
    assert saved.net.rnn.num_layers == (2 if stack else 1)
    assert (saved.net.rnn.bidirectional, saved.net.rnn.dropout) == ((True, 0.25) if stack else (False, 0.0))
    assert f"{cell}: {model_size(saved.net, 8)}" in trained.output.replace("\n", " ")
    exported = run("export", tmp_path / "run", "--out", tmp_path / "b")
    assert exported.exit_code == 0, exported.output
    step = [] if stack else ["step"]  # no stream has reached its end, where the backward direction begins
    assert list(fastzoo.info(tmp_path / "b")["layouts"]) == ["fused", "scan", "unrolled", *step]


def test_options_that_a_cell_lacks_are_refused(tmp_path: Path) -> None:
    assert "a gru has no nu" in str(error("train", *QUICK, "--cell", "gru", "--nu", "0.5", "--out", tmp_path / "a"))
    assert "a fastrnn has no nu" in str(
        error("train", *QUICK, "--cell", "fastrnn", "--train-nu", "--out", tmp_path / "a")
    )
    gate = error("train", *QUICK, "--cell", "fastrnn", "--gate", "relu", "--out", tmp_path / "a")
    assert "a fastrnn has no gate_nonlinearity" in str(gate)
    assert "num_layers" in str(error("train", *QUICK, "--num-layers", "0", "--out", tmp_path / "a"))
    assert "dropout" in str(error("train", *QUICK, "--dropout", "2", "--out", tmp_path / "a"))
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_several_seeds_make_one_export_with_their_spread(tmp_path: Path) -> None:
    assert run("train", *QUICK, "--seeds", "2", "--out", tmp_path / "run").exit_code == 0
    assert run("export", tmp_path / "run", "--out", tmp_path / "b").exit_code == 0
    seeds = fastzoo.info(tmp_path / "b")["seeds"]
    assert seeds["seeds"] == [0, 1]
    for key in ("fp32/fused", "int8/unrolled"):
        assert seeds[key]["worst"] <= seeds[key]["mean"]
        assert len(seeds[key]["accuracy"]) == 2


@pytest.mark.slow
def test_a_layout_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    options = ["--train-nu", "--gate", "tanh", "--bidirectional"]
    assert run("train", *QUICK, *options, "--out", tmp_path / "run").exit_code == 0
    assert run("export", tmp_path / "run", "--out", tmp_path / "b").exit_code == 0
    assert list(fastzoo.info(tmp_path / "b")["layouts"]) == ["scan", "unrolled"]
    for layout, reason in (("fused", "1 - gate(a) = gate(-a)"), ("step", "the backward direction")):
        asked = str(error("export", tmp_path / "run", "--out", tmp_path / "c", "--layout", layout))
        assert reason in asked
        assert asked.endswith("There are scan, unrolled.")


def test_wrong_usage_is_one_clear_error(tmp_path: Path) -> None:
    assert "--data ID" in str(error("train"))
    assert isinstance(error("train", "--data", "hra"), DataError)
    assert "unknown cell 'lstn'" in str(error("train", *QUICK, "--cell", "lstn", "--out", tmp_path / "a"))
    assert "u_rank" in str(error("train", *QUICK, "--u-rank", "99", "--out", tmp_path / "a"))
    assert "optimizer" in str(error("train", *QUICK, "--optimizer", "sgd", "--out", tmp_path / "a"))
    assert isinstance(error("train", tmp_path / "no.toml"), TrainingError)
    assert "no checkpoint" in str(error("export", tmp_path, "--out", tmp_path / "b"))
    assert not (tmp_path / "b").exists()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    assert run("train", *QUICK, "--out", tmp_path / "run").exit_code == 0
    assert "--force" in str(error("train", *QUICK, "--out", tmp_path / "run"))
    assert run("export", tmp_path / "run", "--out", tmp_path / "b", "--layout", "fused").exit_code == 0
    before = (tmp_path / "b" / "bundle.json").read_bytes()
    assert isinstance(error("export", tmp_path / "run", "--out", tmp_path / "b"), ExportError)
    assert (tmp_path / "b" / "bundle.json").read_bytes() == before


def test_inline_writes_a_flat_graph(tmp_path: Path) -> None:
    import onnx

    assert run("train", *QUICK, "--out", tmp_path / "run").exit_code == 0
    assert run("export", tmp_path / "run", "--out", tmp_path / "b", "--inline").exit_code == 0
    model = onnx.load(tmp_path / "b" / "int8-unrolled.onnx")
    assert len(model.functions) == 0
    assert {entry.domain for entry in model.opset_import} == {""}


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_that_exports(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastzoo", "train", *QUICK[:-1], "5000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / checkpoint.NAME).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
    assert run("export", tmp_path / "run", "--out", tmp_path / "b").exit_code == 0
    assert fastzoo.load(tmp_path / "b").predict([[0.0] * 8] * 8) in tuple("0123456789")


def test_the_demo_makes_evaluates_and_keeps_a_model(tmp_path: Path) -> None:
    before = os.environ.get("FASTZOO_REGISTRY")
    result = run("demo", "--epochs", "3", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    assert "fastgrnn-har-int8" in result.output
    assert "walking" in result.output
    assert "my-digits-int8" in result.output
    assert os.environ.get("FASTZOO_REGISTRY") == before
    assert isinstance(error("demo", "--epochs", "1", "--out", tmp_path / "demo"), ExportError)


def test_windows_of_sound_that_carry_no_front_end_get_one_at_export(tmp_path: Path) -> None:
    rows = np.arange(48)
    made = Dataset(
        id="words",
        x=np.random.default_rng(0).integers(0, 255, (48, 98, 40), np.uint8),
        y=rows % 2,
        group=rows % 6,
        split=np.where(rows % 6 < 4, 0, 2).astype(np.uint8),
        classes=("no", "yes"),
        channels=LogMel.kws12().channels,
        rate=100.0,
    )
    made.save(tmp_path)
    network = ["--hidden-size", "4", "--w-rank", "2", "--u-rank", "2", "--epochs", "1"]
    trained = run("train", "--data", tmp_path / "words.npz", *network, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    options: list[str | Path] = ["--data", tmp_path / "words.npz", "--layout", "fused", "--activations-in", "none"]
    exported = run("export", tmp_path / "run", "--out", tmp_path / "heard", "--frontend", "kws12", *options)
    assert exported.exit_code == 0, exported.output
    model = fastzoo.load(tmp_path / "heard")
    assert model.frontend == LogMel.kws12(16000, "bytes")
    assert model.features(np.zeros(16000, np.int16), 16000).shape == (98, 40)
    assert "a front end is 'kws12', or fields as in" in str(
        error("export", tmp_path / "run", "--out", tmp_path / "b", "--frontend", "kws13", *options)
    )
