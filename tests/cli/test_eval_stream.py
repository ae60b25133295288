"""``fastzoo eval --stream``: what the command says is what a stream and the truth say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastzoo
from fastzoo.data import Dataset, hapt, synthetic
from fastzoo.detection import Interval, score
from fastzoo.events import Events, Majority

from .shell import good, message_of, run

MODEL = "fastgrnn-har-int8"


@pytest.fixture(scope="module")
def recording() -> tuple[npt.NDArray[np.float32], list[Interval]]:
    """Laying, walking in between: [5120, 6]."""
    names = (["laying"] * 6 + ["walking"] * 4) * 4
    truth = [Interval("walking", (10 * i + 6) * 2.56, (10 * i + 10) * 2.56) for i in range(4)]
    return np.concatenate(list(synthetic.motion(names))), truth


@pytest.fixture
def files(tmp_path: Path, recording: tuple[npt.NDArray[np.float32], list[Interval]]) -> tuple[Path, Path]:
    x, truth = recording
    np.save(tmp_path / "hour.npy", x)
    rows = [f"{one.label},{one.start},{one.end}" for one in truth]
    (tmp_path / "hour.csv").write_text("\n".join(["label,start,end", *rows]))
    return tmp_path / "hour.npy", tmp_path / "hour.csv"


def evaluated(*options: str | Path) -> dict[str, Any]:
    output = good("eval", MODEL, "--stream", "--json", *options)
    found: dict[str, Any] = json.loads(output[output.index("{\n") :])  # warnings come first
    return found


def test_a_recording_is_scored_as_its_stream_finds_it(
    files: tuple[Path, Path], recording: tuple[npt.NDArray[np.float32], list[Interval]]
) -> None:
    x, truth = recording
    options = ["--smooth", "majority:3", "--events", "0.7,0.4,0.5", "--labels", "walking", "--hop", "32"]
    found = evaluated("--recording", files[0], "--truth", files[1], *options)
    stream = fastzoo.load(MODEL).stream(32, smooth=Majority(3), events=Events(0.7, 0.4, 0.5, ("walking",)))
    events = [event for result in stream.push(x) for event in result.events]
    expected = score(events, truth, len(x) / 50, labels=["walking"])
    assert found["score"]["total"]["detected"] == expected.total.detected > 0
    assert found["score"]["total"]["false_alarms_per_hour"] == pytest.approx(expected.total.false_alarms_per_hour)
    assert found["score"]["total"]["median_delay"] == pytest.approx(expected.total.median_delay)
    assert found["score"]["seconds"] == len(x) / 50
    text = good("eval", MODEL, "--stream", "--recording", files[0], "--truth", files[1], *options)
    assert "false alarms" in text
    assert f"{len(x) / 50:g} s at 50 samples/s" in text


def test_a_sweep_is_printed_and_drawn(files: tuple[Path, Path], tmp_path: Path) -> None:
    options: list[str | Path] = ["--recording", files[0], "--truth", files[1], "--sweep"]
    picture = tmp_path / "sweep.png"
    found = evaluated(*options, "--plot", picture)
    ons = [point["on"] for point in found["sweep"]]
    assert ons == sorted(ons)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "by the threshold at which an event starts" in good("eval", MODEL, "--stream", *options)


def test_windows_strung_together_say_that_they_are_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path))
    labels = [name for name in hapt.CLASSES for _ in range(8)]
    rows = np.arange(len(labels))
    Dataset(
        id="har",
        x=synthetic.motion(labels),
        y=rows // 8,
        group=rows % 8,
        split=np.where(rows % 8 < 4, 0, 2).astype(np.uint8),
        classes=hapt.CLASSES,
        channels=hapt.CHANNELS,
        rate=50.0,
    ).save(tmp_path)
    found = evaluated("--data", "har", "--smooth", "majority:3")
    assert found["source"]["kind"] == "windows strung together"
    assert found["score"]["seconds"] == pytest.approx(24 * 2.56)
    assert found == evaluated("--data", "har", "--smooth", "majority:3"), "the order is drawn from a seed"
    assert "This is no recording" in good("eval", MODEL, "--stream", "--data", "har")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stream"], "takes either --recording"),
        (["--hop", "16"], "belongs to --stream"),
        ([], "give --data, or --stream"),
        (["--stream", "--recording", "x.npy"], "belong together"),
        (
            ["--stream", "--recording", "x.npy", "--truth", "x.csv", "--plot", "x.png"],
            "--plot draws what --sweep finds",
        ),
    ],
)
def test_options_that_do_not_belong_together_are_wrong_usage(options: Sequence[str], message: str) -> None:
    result = run("eval", MODEL, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("\u2502", " ").split())


def test_what_cannot_be_is_said(files: tuple[Path, Path], tmp_path: Path) -> None:
    both: list[str | Path] = ["--recording", files[0], "--truth", files[1]]
    assert "no class 'flying'" in message_of("eval", MODEL, "--stream", *both, "--labels", "flying")
    assert "no smoothing" in message_of("eval", MODEL, "--stream", *both, "--smooth", "median")
    assert "tolerance must be seconds" in message_of("eval", MODEL, "--stream", *both, "--tolerance", "-1")
    assert "must end in .png" in message_of("eval", MODEL, "--stream", *both, "--sweep", "--plot", tmp_path / "x.doc")
    np.save(tmp_path / "short.npy", np.zeros((50, 6)))
    (tmp_path / "none.csv").write_text("label,start,end\n")
    short: list[str | Path] = ["--recording", tmp_path / "short.npy", "--truth", tmp_path / "none.csv"]
    assert "less than one window of 2.56 s" in message_of("eval", MODEL, "--stream", *short)
    bad = np.zeros((500, 6))
    bad[300, 2] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    message = message_of("eval", MODEL, "--stream", "--recording", tmp_path / "bad.npy", *short[2:])
    assert "the chunk holds nan in row 300" in message
