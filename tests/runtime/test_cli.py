"""The commands: what they print, what they refuse, and with which exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import fastzoo
from fastzoo import bundle, registry
from fastzoo.cli import app
from fastzoo.data import Dataset
from fastzoo.errors import BundleError, DataError, FastzooError, InputError, RegistryError

from . import toy

COMMANDS = ("list", "info", "predict", "eval", "bench", "register")


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def output(*arguments: str | Path, stdin: str | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exception is None, result.exception
    return result.stdout


def parsed(*arguments: str | Path, stdin: str | None = None) -> Any:
    return json.loads(output(*arguments, "--json", stdin=stdin))


def shell(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user runs it."""
    code = "from fastzoo.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, encoding="utf-8", timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def registered(folder: Path) -> list[str]:
    return registry.register(folder)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pristine: Path) -> Dataset:
    """A data set that the toy model was made for, found as ``toy``; the model is right on 3 of 4 test windows."""
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path / "data"))
    x = toy.windows(48, seed=3)
    y = fastzoo.load(pristine).logits(x).argmax(axis=1).astype(np.int64)
    y[::4] = (y[::4] + 1) % toy.C
    group = np.repeat([0, 1], 24)
    data = Dataset("toy", x, y, group, (2 * group).astype(np.uint8), toy.LABELS, toy.CHANNELS, toy.RATE)
    data.save(tmp_path / "data")
    return data


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command: str) -> None:
    text = output(command, "--help")
    example = re.search(rf"Example: fastzoo ({command} .*)", text)
    assert example, text
    words = re.findall(r'"[^"]*"|\S+', example.group(1))
    result = run(*(word.strip('"') for word in words))
    assert result.exit_code != 2  # wrong usage; there are no such models here, so the command may still fail
    assert result.exception is None or isinstance(result.exception, FastzooError)


def test_help_lists_every_command() -> None:
    text = output("--help")
    assert [command for command in (*COMMANDS, "data") if command not in text] == []
    assert "Example: fastzoo predict" in text


def test_list_shows_names_in_natural_order(registered: list[str]) -> None:
    lines = output("list", "gru-toy-*").splitlines()
    assert [line.split()[0] for line in lines] == ["name", *registered]
    assert re.search(r"gru-toy-int8 +toy +40\.0 % +0\.1 kB +0\.8 kB +20 us +A toy", lines[2])


def test_list_filters_and_speaks_json(registered: list[str]) -> None:
    assert [entry["name"] for entry in parsed("list", "*toy-int8", "--cell", "gru")] == ["gru-toy-int8"]
    assert parsed("list", "--max-bytes", "99") == []
    assert parsed("list", "gru-toy-*") == [fastzoo.info(name) for name in registered]
    nothing = run("list", "--data", "nowhere", "--precision", "fp32")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert f"none of the {len(fastzoo.list_models())} registered models fits" in nothing.stderr
    assert re.search(r"--data nowhere: there are .*\btoy\b", nothing.stderr)
    assert "--precision" not in nothing.stderr  # there are models in fp32


@pytest.fixture
def four(tmp_path: Path) -> list[str]:
    """int8 models of two data sets, in natural order of their names; of one nothing was measured."""
    names = []
    for name, data, size, accuracy, latency in (
        ("toy-a", "waves", 300, 0.9, 30.0),
        ("toy-b", "rain", 100, 0.8, 10.0),
        ("toy-c", "rain", 200, 0.95, 20.0),
        ("toy-d", "waves", 50, None, 0.0),
    ):
        made = bundle.read(toy.make(tmp_path / name, name, precisions=("int8",)))
        layouts = {
            layout: replace(
                file,
                metrics=replace(file.metrics, accuracy=accuracy) if file.metrics and accuracy else None,
                latency=bundle.Latency(latency, 2 * latency, 1.0) if accuracy else None,
            )
            for layout, file in made.precisions["int8"].layouts.items()
        }
        precisions = {"int8": bundle.Precision(size, layouts)}
        dataset = bundle.DatasetRecord(data)
        bundle.write(replace(made, precisions=precisions, dataset=dataset, summary="What it is " * 9), tmp_path / name)
        names += registry.register(tmp_path / name)
    return names


@pytest.mark.parametrize(
    ("order", "expected"),
    [("name", "abcd"), ("data", "bcda"), ("accuracy", "cabd"), ("bytes", "dbca"), ("latency", "bcad")],
)
def test_list_sorts_and_puts_last_what_was_not_measured(four: list[str], order: str, expected: str) -> None:
    names = [f"toy-{letter}-int8" for letter in expected]
    assert [line.split()[0] for line in output("list", "toy-*", "--sort", order).splitlines()[1:]] == names
    assert [entry["name"] for entry in parsed("list", "toy-*", "--sort", order)] == names


def test_list_refuses_an_order_that_it_does_not_know() -> None:
    assert "cannot sort by 'beauty'; there are name, data, accuracy" in str(run("list", "--sort", "beauty").exception)


@pytest.mark.parametrize("width", [60, 72, 100, 240])
def test_list_has_a_line_for_each_model_in_any_terminal(
    four: list[str], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from fastzoo.cli import _console

    monkeypatch.setattr(_console, "console", lambda: Console(markup=False, emoji=False, highlight=False, width=width))
    lines = output("list", "toy-*").splitlines()
    assert [line.split()[0] for line in lines] == ["name", *four]
    assert max(map(len, lines)) <= width
    assert re.search(r"toy-c-int8 +rain +95\.0 % +0\.2 kB +0\.8 kB +20 us", lines[3])
    assert ("What it is" in lines[3]) == (width > 72)
    assert ("…" in lines[3]) == (width == 100)


def test_info_shows_what_is_known_and_nothing_else(registered: list[str], folder: Path) -> None:
    for name in ("gru-toy-int8", folder):
        text = output("info", name)
        for part in ("gru-toy-int8 1.0.0: A toy", "8 steps at 50 Hz of acc_x [g]", "rest, walk, run", "100 parameters"):
            assert part in text
        assert re.search(r"fused +int8-fused\.onnx +843 +40\.0 % +\d+\.\d % +20 us +40 us +1\.5 ms +none", text)
        assert "calibration" not in text
        assert "None" not in text
    assert parsed("info", "gru-toy-fp32") == fastzoo.info("gru-toy-fp32")


def test_info_shows_every_size_that_is_known(folder: Path) -> None:
    size = bundle.Size(100, 90, 400, 380, 120, macs_per_step=70, macs_per_window=572)
    bundle.write(replace(bundle.read(folder), size=size), folder)
    assert vars(size).items() <= fastzoo.info(folder).items()
    text = " ".join(output("info", folder).split())
    for part in (
        "100 parameters",
        "100 bytes of weights in int8",
        "90 non-zero",
        "380 bytes sparse",
        "70 multiply-adds",
    ):
        assert part in text
    assert "572" in text


def test_info_shows_what_was_measured_on_other_data(folder: Path) -> None:
    content = bundle.read(folder)
    check = bundle.CrossCheck("fused", "test", 950, 0.887, 0.5, "0" * 64, "other windows")
    int8 = replace(content.precisions["int8"], cross_checks={"other": check})
    bundle.write(replace(content, precisions={**content.precisions, "int8": int8}), folder)
    text = " ".join(output("info", folder).split())
    assert "on other accuracy 88.7 %, macro F1 50.0 % (fused) on 950 test windows: other windows" in text
    assert parsed("info", folder)["cross_checks"]["other"]["n"] == 950


def test_text_of_a_bundle_is_printed_as_it_is(folder: Path) -> None:
    bundle.write(replace(bundle.read(folder), summary="[bold]not markup[/bold] :smile: [/]"), folder)
    assert "[bold]not markup[/bold] :smile: [/]" in output("info", folder)


def as_csv(x: Any, header: Sequence[str] = ()) -> str:
    lines = [",".join(f"{value:.9g}" for value in row) for row in x]
    return "\n".join([*([",".join(header)] if header else []), *lines]) + "\n"


def test_predict_reads_every_kind_of_file(folder: Path, tmp_path: Path) -> None:
    x = toy.windows(3)
    np.save(tmp_path / "one.npy", x[0])
    np.save(tmp_path / "many.npy", x)
    np.savez(tmp_path / "prepared.npz", x=x, y=[0, 1, 2])
    (tmp_path / "one.csv").write_text(as_csv(x[0]))
    labels = list(fastzoo.load(folder).predict(x))
    for name, expected in (
        ("one.npy", labels[:1]),
        ("many.npy", labels),
        ("prepared.npz", labels),
        ("one.csv", labels[:1]),
    ):
        assert output("predict", folder, name).split() == expected
    assert output("predict", folder, "-", stdin=as_csv(x[0])).split() == labels[:1]


@pytest.mark.parametrize(
    "header",
    [toy.CHANNELS, [channel.split(" ")[0] for channel in toy.CHANNELS], [" ACC_X ", "acc_y [G]", "gyro_z [rad/s]"]],
)
def test_a_csv_header_may_name_the_channels(folder: Path, header: Sequence[str]) -> None:
    x = toy.windows(1)[0]
    text = "\ufeff" + as_csv(x, header) + "\n\n"
    Path("window.csv").write_text(text, encoding="utf-8")
    assert output("predict", folder, "window.csv").strip() == fastzoo.load(folder).predict(x)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (as_csv(toy.windows(1)[0], ["acc_y", "acc_x", "gyro_z"]), "columns acc_y, acc_x, gyro_z.*in this order"),
        (as_csv(toy.windows(1)[0], ["a", "b", "c"]), "delete the header"),
        (as_csv(toy.windows(1)[0], ["acc_x [m/s2]", "acc_y [g]", "gyro_z [rad/s]"]), r"'acc_x \[m/s2\]'.*convert"),
        (as_csv(toy.windows(1)[0][:, :2]), "2 columns in row 0 of samples, the model 3"),
        (as_csv(toy.windows(1)[0]) + "1,2\n", "2 columns in row 8"),
        (as_csv(toy.windows(1)[0][:5]), r"shape \[5, 3\]"),
        ("1,2,x\n" * 8, "'x', not a number, in row 0 of samples, column 2"),
        ("1,2,\n" * 8, "'', not a number"),
        ("1,2,nan\n" * 8, "nan in window 0, step 0, channel 'gyro_z"),
        ("", r"shape \[0, 3\]"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused(folder: Path, text: str, message: str) -> None:
    error = run("predict", folder, "-", stdin=text).exception
    assert isinstance(error, InputError)
    assert re.search(message, str(error))


def test_files_that_hold_no_samples_are_refused(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([None]))
    np.savez(tmp_path / "other.npz", y=[1])
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "huge.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999999,), }".ljust(117)
        + b"\n"
    )
    (tmp_path / "latin.csv").write_bytes(b"\xe4,1,2\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    for name, message in {
        "objects.npy": "without Python objects",
        "other.npz": "no array x",
        "damaged.npz": "cannot be read",
        "huge.npy": "cannot be read",
        "latin.csv": "not CSV in UTF-8",
        "folder.csv": "directory",
        "sound.wav": "takes no sound",
        "notes.txt": "is not .wav, .npy, .npz or .csv",
        "missing.npy": "there is no file",
    }.items():
        error = run("predict", folder, name).exception
        assert isinstance(error, InputError), name
        assert message in str(error)


def test_predict_shows_probabilities(folder: Path, tmp_path: Path) -> None:
    x = toy.windows(2)
    np.save(tmp_path / "x.npy", x)
    model = fastzoo.load(folder, "unrolled")
    lines = output("predict", folder, "x.npy", "--proba", "--layout", "unrolled").splitlines()
    assert lines[0].split() == ["predicted", *toy.LABELS]
    assert lines[1].split()[1:] == [f"{value:.4f}" for value in model.predict_proba(x[0])]
    document = parsed("predict", folder, "x.npy", "--layout", "unrolled")
    assert (document["model"], document["layout"]) == ("gru-toy-int8", "unrolled")
    assert [window["label"] for window in document["windows"]] == list(model.predict(x))
    assert list(document["windows"][1]["probabilities"].values()) == pytest.approx(model.predict_proba(x[1]).tolist())


def test_eval_counts_what_the_model_gets_right(folder: Path, prepared: Dataset) -> None:
    document = parsed("eval", folder, "--data", "toy")
    assert (document["dataset"], document["sha256"]) == ("toy", prepared.sha256)
    assert (document["metrics"]["n"], document["metrics"]["accuracy"]) == (24, 0.75)
    assert parsed("eval", folder, "--data", "data/toy.npz", "--split", "train")["metrics"]["split"] == "train"
    text = output("eval", folder, "--data", "toy", "--layout", "unrolled")
    assert "gru-toy-int8 (unrolled) on 24 test windows of toy: your own file" in text
    assert "accuracy 75.0 %" in text
    assert all(label in text for label in toy.LABELS)


def test_eval_warns_of_other_data_than_the_published(folder: Path, prepared: Dataset) -> None:
    assert "numbers may differ from the published ones" in run("eval", folder, "--data", "toy").stderr
    known = replace(bundle.read(folder), dataset=bundle.DatasetRecord("toy", sha256=prepared.sha256))
    bundle.write(known, folder)
    assert run("eval", folder, "--data", "toy").stderr == ""
    bundle.write(replace(known, dataset=bundle.DatasetRecord("har")), folder)
    assert "was trained on 'har', not on 'toy'" in run("eval", folder, "--data", "toy").stderr


def test_eval_finds_classes_by_name(folder: Path, prepared: Dataset) -> None:
    plain = parsed("eval", folder, "--data", "toy")
    order = [2, 0, 1]
    shuffled = tuple(prepared.classes[place] for place in order)
    replace(prepared, classes=shuffled, y=np.argsort(order)[prepared.y]).save("data")
    document = parsed("eval", folder, "--data", "toy")
    assert document["metrics"] == plain["metrics"]
    assert document["note"] == "Classes of toy put in the order of the model's labels"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("rest", "walk", "jump")}, "classes"),
        ({"channels": ("acc_x [m/s2]", *toy.CHANNELS[1:])}, "channels"),
        ({"x": toy.windows(48)[:, :7]}, "steps per window 7, where the model has 8"),
        ({"rate": 25.0}, "25 samples per second, where the model has 50"),
    ],
)
def test_eval_refuses_data_that_does_not_fit(
    folder: Path, prepared: Dataset, changes: dict[str, Any], message: str
) -> None:
    replace(prepared, **changes).save("data")
    error = run("eval", folder, "--data", "toy").exception
    assert isinstance(error, DataError)
    assert message in str(error)


def test_eval_names_the_splits_and_data_sets_there_are(folder: Path, prepared: Dataset) -> None:
    for arguments, message in {
        ("--data", "toy", "--split", "dev"): "train, validation and test",
        ("--data", "toy", "--split", "validation"): "has no validation windows",
        ("--data", "nothing"): "no data set 'nothing'",
    }.items():
        error = run("eval", folder, *arguments).exception
        assert isinstance(error, DataError)
        assert message in str(error)


def test_bench_compares_layouts(registered: list[str]) -> None:
    quick = ("--repeats", "20", "--batches", "1,16")
    lines = output("bench", "gru-toy-int8", *quick).splitlines()
    assert {line.split()[0] for line in lines[2:4]} == {"fused", "unrolled"}
    assert lines[1].split()[:3] == ["layout", "backend", "file"]
    assert lines[6].split() == ["layout", "backend", "1", "16"]
    assert "onnxruntime" in lines[-1]
    document = parsed("bench", "gru-toy-int8", *quick, "--layout", "fused", "--backend", "all", "--board", "desk")
    assert document["name"] == "desk"
    measured = document["models"]["gru-toy-int8"]
    assert {layout: set(backends) for layout, backends in measured["layouts"].items()} == {
        "fused": {"onnxruntime", "numpy"}
    }
    assert measured["layouts"]["fused"]["numpy"]["throughput"].keys() == {"1", "16"}
    assert measured["repeats"] == 20


def test_bench_refuses_what_is_no_list_of_windows(registered: list[str]) -> None:
    assert run("bench", "gru-toy-int8", "--batches", "1,many").exit_code == 2
    assert isinstance(run("bench", "gru-toy-int8", "--batches", "0").exception, InputError)


def test_register_prints_the_names(folder: Path, tmp_path: Path) -> None:
    assert output("register", folder).split() == ["gru-toy-fp32", "gru-toy-int8"]
    other = toy.make(tmp_path / "other", seed=1)
    assert isinstance(run("register", other).exception, RegistryError)
    assert output("register", other, "--force").split() == ["gru-toy-fp32", "gru-toy-int8"]
    output("register", folder, "--registry", tmp_path / "team.json")
    assert (tmp_path / "team.json").is_file()


def test_a_folder_is_refused_where_it_is_no_bundle(tmp_path: Path) -> None:
    for command, *more in (("info",), ("bench",), ("predict", "x.npy"), ("register",)):
        assert isinstance(run(command, tmp_path, *more).exception, BundleError)


def test_the_version_is_printed() -> None:
    assert output("--version") == f"fastzoo {fastzoo.__version__}\n"


def test_an_error_is_one_line_without_markup_and_status_1(tmp_path: Path) -> None:
    name = "no-such-model [bold] " + "x" * 200
    done = shell("info", name, COLUMNS="40")
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(re.escape(f"error: no model {name!r} is registered. ") + r"[^\n]*\n", done.stderr)


def test_wrong_usage_is_status_2() -> None:
    assert shell("info").returncode == 2
    assert shell("fly").returncode == 2


def test_output_survives_a_terminal_without_unicode(folder: Path) -> None:
    bundle.write(replace(bundle.read(folder), summary="Bärenhunger ∑"), folder)
    done = shell("info", folder, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "B\\xe4renhunger" in done.stdout


def test_a_reader_that_leaves_early_causes_no_noise(registered: list[str]) -> None:
    code = f"import sys; sys.argv = ['fastzoo', 'info', {registered[0]!r}]; from fastzoo.cli import main; main()"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_is_status_130(folder: Path) -> None:
    code = (
        "import sys, os, signal; from fastzoo import cli, registry\n"
        "def interrupted(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "registry.locate = interrupted; sys.argv = ['fastzoo', 'info', 'x']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
