"""``fastzoo data``: describe and prepare recordings of one's own."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastzoo import data
from fastzoo.cli import _cut
from fastzoo.data import Cut
from fastzoo.errors import DataError, FastzooError

from .shell import good, run


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def error(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, DataError), result.output
    return str(result.exception)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Four people who rest and walk for 4 s each, at 50 samples a second."""
    rng = np.random.default_rng(0)
    lines = ["t [ms],acc_x [g],acc_y [g],activity,subject"]
    for person in range(4):
        for i in range(400):
            x, y = rng.normal(size=2)
            lines.append(f"{20 * i},{x:.4f},{y:.4f},{'rest' if i < 200 else 'walk'},{person}")
    path = tmp_path / "recordings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


CUT = ("--window", "20", "--hop", "5")


@pytest.mark.parametrize("command", ["describe", "prepare"])
def test_help_has_examples_that_parse(command: str) -> None:
    text = good("data", command, "--help")
    examples = re.findall(rf"Example: fastzoo (data {command} .*)", text)
    assert len(examples) == 2
    for example in examples:
        result = run(*(word.strip('"') for word in re.findall(r'"[^"]*"|\S+', example)))
        assert result.exit_code != 2  # wrong usage; there is no such data here, so the command may still fail
        assert isinstance(result.exception, FastzooError)


def test_every_field_of_cut_is_an_option_and_has_its_type() -> None:
    assert list(_cut.OPTIONS.table) == [field.name for field in fields(Cut)]
    assert inspect.signature(_cut.made).return_annotation == "Cut"
    assert _cut.made({"window": 5, "channels": "acc_*, gyro_x [rad/s]"}) == Cut(
        window=5, channels=("acc_*", "gyro_x [rad/s]")
    )
    text = good("data", "describe", "--help")
    assert [name for name in _cut.OPTIONS.table if f"--{name.replace('_', '-')}" not in text] == []


def test_describe_prints_what_is_there(recordings: Path) -> None:
    text = good("data", "describe", recordings, *CUT, "--test-fraction", "0.25")
    assert "296 of 20 samples (0.4 s at 50 samples/s), float32" in text
    assert "read time from 't [ms]', label from 'activity', group from 'subject'" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["class"] == ["train", "test"]
    assert rows["rest"] == rows["walk"] == ["111", "37"]
    assert rows["all"] == ["222", "74"]
    assert rows["groups"] == ["3", "1"]
    assert "No faults found." in text
    assert not Path("data").exists()


def test_describe_prints_json(recordings: Path) -> None:
    document = json.loads(good("data", "describe", recordings, *CUT, "--json", "--batch-size", "500"))
    assert document["splits"]["train"]["per_class"] == {"rest": 148, "walk": 148}
    assert [fault["kind"] for fault in document["faults"]] == ["small", "no test windows"]
    assert document["sha256"] == data.load(recordings, window=20, hop=5).sha256


def test_describe_takes_ids_and_prepared_files_without_more(tmp_path: Path, recordings: Path) -> None:
    good("data", "prepare", recordings, *CUT, "--out", "data/gestures.npz")
    expected = data.load(recordings, window=20, hop=5).sha256
    assert expected in good("data", "describe", "gestures")
    assert expected in good("data", "describe", "data/gestures.npz")
    assert "takes no --window" in error("data", "describe", "gestures", "--window", "20")


def test_describe_reports_faults_of_a_file_that_cannot_be_loaded(recordings: Path) -> None:
    made = data.load(recordings, window=20)
    x = made.x.copy()
    x[7, 3, 1] = np.nan
    arrays: dict[str, Any] = {"x": x, "y": made.y, "group": made.group, "split": np.arange(len(x)) % 2 * 2}
    np.savez("faulty.npz", **arrays, classes=made.classes, channels=made.channels, rate=50.0)
    result = run("data", "describe", "faulty.npz", "--plot", "faulty.png")
    assert result.exit_code == 1
    assert "error: x holds NaN or infinity, first in row 7, channel 'acc_y [g]', step 3" in result.output
    assert "error: group(s) [0, 1, 2, 3] stand in more than one split" in result.output
    assert Path("faulty.png").read_bytes().startswith(b"\x89PNG")
    assert "NaN" in error("data", "prepare", "faulty.npz", "--out", "mended.npz")


def test_describe_draws_only_when_asked(recordings: Path) -> None:
    good("data", "describe", recordings, *CUT)
    assert [path.name for path in Path().iterdir()] == ["recordings.csv"]
    assert "picture.png" in good("data", "describe", recordings, *CUT, "--plot", "picture.png")
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")
    assert "must end in .png" in error("data", "describe", recordings, *CUT, "--plot", "picture")


def test_prepare_writes_what_load_would_cut(recordings: Path) -> None:
    text = good("data", "prepare", recordings, *CUT, "--channels", "acc_x", "--out", "my.npz")
    assert "Written to my.npz. Next: fastzoo train --data my.npz" in text
    made = data.load("my.npz")
    assert made.id == "my"
    assert made.channels == ("acc_x [g]",)
    assert made.sha256 == data.load(recordings, window=20, hop=5, channels=("acc_x",)).sha256


def test_prepare_replaces_a_file_only_by_force(recordings: Path) -> None:
    good("data", "prepare", recordings, *CUT, "--out", "my.npz")
    assert "my.npz is there already; choose another --out, or replace it with --force" in error(
        "data", "prepare", recordings, *CUT, "--out", "my.npz"
    )
    good("data", "prepare", recordings, "--window", "40", "--out", "my.npz", "--force")
    assert data.load("my.npz").x.shape[1] == 40
    assert "does not end in .npz" in error("data", "prepare", recordings, *CUT, "--out", "my.zip")


def test_prepare_takes_edgemls_files(tmp_path: Path) -> None:
    folder = tmp_path / "usps10"
    folder.mkdir()
    for name in ("train", "test"):
        np.save(
            folder / f"{name}.npy", np.column_stack([np.arange(40) % 2, np.random.default_rng(0).normal(size=(40, 12))])
        )
    good("data", "prepare", folder, "--input-dim", "3", "--rate", "50", "--out", "usps10.npz")
    assert data.load("usps10.npz").x.shape == (80, 4, 3)
    assert "possible are 1, 2, 3, 4, 6, 12" in error("data", "describe", folder)


def test_impossible_options_are_errors_of_fastzoo(recordings: Path) -> None:
    assert "time_unit must be s, ms, us or ns" in error("data", "describe", recordings, *CUT, "--time-unit", "h")
    assert "how long is a window?" in error("data", "describe", recordings)
    assert "no data set 'recordings.xls'" in error("data", "describe", "recordings.xls", *CUT)
