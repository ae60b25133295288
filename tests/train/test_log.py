from __future__ import annotations

import csv
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.train import Epoch, Settings, fit
from fastzoo.train import log as logs
from fastzoo.train.sparsity import Sparsity

from .task import fit_quickly, network
from .test_checkpoint import full_disk

SPARSE = Settings(epochs=6, batch_size=32, learning_rate=0.03, sparsity=Sparsity(w=0.5, every=3))


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / logs.NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_one_line_an_epoch(dataset: Dataset, tmp_path: Path) -> None:
    run = fit(network(), dataset, SPARSE, out=tmp_path, progress=False)
    rows = table(tmp_path)
    assert list(rows[0]) == [field.name for field in fields(Epoch)]
    for row, epoch in zip(rows, run.history, strict=True):
        assert int(row["epoch"]) == epoch.epoch
        for name in ("loss", "validation_accuracy", "validation_macro_f1", "learning_rate"):
            assert float(row[name]) == getattr(epoch, name)
        assert row["phase"] == epoch.phase
        assert int(row["nonzeros"]) == epoch.nonzeros
    assert {row["phase"] for row in rows} == {"dense", "thresholding", "frozen"}
    assert b"\r" not in (tmp_path / logs.NAME).read_bytes()


def test_what_is_not_known_is_empty(dataset: Dataset, tmp_path: Path) -> None:
    fit_quickly(network(), dataset, epochs=2, out=tmp_path)
    assert [(row["epoch"], row["nonzeros"]) for row in table(tmp_path)] == [("1", ""), ("2", "")]


def test_the_log_is_there_while_training(dataset: Dataset, tmp_path: Path) -> None:
    seen: list[int] = []
    fit_quickly(network(), dataset, epochs=4, out=tmp_path, on_epoch=lambda epoch: seen.append(len(table(tmp_path))))
    assert seen == [1, 2, 3, 4]


class PowerCutError(Exception):
    pass


def test_no_line_is_there_twice_after_a_break(dataset: Dataset, tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch in (2, 3):
            raise PowerCutError

    for _ in range(2):
        with pytest.raises(PowerCutError):
            fit(network(), dataset, SPARSE, out=tmp_path, resumed=True, progress=False, on_epoch=stop)
    fit(network(), dataset, SPARSE, out=tmp_path, resumed=True, progress=False)
    assert [row["epoch"] for row in table(tmp_path)] == ["1", "2", "3", "4", "5", "6"]


def test_an_earlier_run_leaves_no_line(dataset: Dataset, tmp_path: Path) -> None:
    fit(network(), dataset, SPARSE, out=tmp_path, progress=False)
    fit_quickly(network(), dataset, epochs=1, out=tmp_path)
    assert len(table(tmp_path)) == 1


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logs.Log(None).write([Epoch(1, 0.5, 0.25)])
    assert not list(tmp_path.iterdir())


def masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord files hold it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, their checksums checked."""
    data = path.read_bytes()
    while data:
        head, (length,) = data[:8], struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        assert struct.unpack("<I", data[8:12]) == (masked_crc(head),)
        assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked_crc(body),)
        yield body
        data = data[16 + length :]


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars by name and step, as TensorBoard shows them: the last of a step counts."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found: dict[str, dict[int, float]] = {}
    for path in sorted((folder / "tensorboard").glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        for body in records(path):
            event = event_pb2.Event.FromString(body)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def agree(found: dict[str, dict[int, float]], history: list[Epoch]) -> None:
    assert set(found) >= {"loss", "validation_accuracy", "validation_macro_f1", "learning_rate", "nonzeros"}
    for name, values in found.items():
        wanted = {epoch.epoch: getattr(epoch, name) for epoch in history}
        assert values.keys() == wanted.keys(), name
        assert all(math.isclose(values[step], wanted[step], rel_tol=1e-6) for step in wanted), name


def test_tensorboard_can_read_the_run(dataset: Dataset, tmp_path: Path) -> None:
    run = fit(network(), dataset, SPARSE, out=tmp_path, progress=False)
    agree(events(tmp_path), run.history)


def test_tensorboard_sees_a_run_that_went_on(dataset: Dataset, tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(network(), dataset, SPARSE, out=tmp_path, progress=False, on_epoch=stop)
    run = fit(network(), dataset, SPARSE, out=tmp_path, resumed=True, progress=False)
    agree(events(tmp_path), run.history)


KILLED = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from train.task import motions, network
from train.test_log import SPARSE
from fastzoo.train import fit

fit(network(), motions(), SPARSE, out=sys.argv[2], progress=False,
    on_epoch=lambda epoch: epoch.epoch < 4 or os.kill(os.getpid(), 9))
"""


@pytest.mark.slow
def test_tensorboard_misses_nothing_after_a_kill(dataset: Dataset, tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    run = fit(network(), dataset, SPARSE, out=tmp_path, resumed=True, progress=False)
    assert [epoch.epoch for epoch in run.history] == [1, 2, 3, 4, 5, 6]
    agree(events(tmp_path), run.history)


def test_an_earlier_run_is_gone_from_tensorboard(dataset: Dataset, tmp_path: Path) -> None:
    fit(network(), dataset, SPARSE, out=tmp_path, progress=False)
    shorter = fit(network(), dataset, SPARSE, epochs=3, out=tmp_path, progress=False)
    agree(events(tmp_path), shorter.history)


def test_without_tensorboardx_the_csv_is_written(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    fit_quickly(network(), dataset, epochs=2, out=tmp_path)
    assert len(table(tmp_path)) == 2
    assert not (tmp_path / "tensorboard").exists()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write the log to .*run: Not a directory"):
        logs.Log(tmp_path / "file" / "run").write([Epoch(1, 0.5, 0.25)])


@pytest.mark.timeout(20, method="signal")
@pytest.mark.parametrize("largest", [0, 40, 2000], ids=["nothing fits", "no table fits", "no events fit"])
def test_a_full_disk_is_an_error_and_no_halt(largest: int, tmp_path: Path) -> None:
    def train() -> None:
        record, history = logs.Log(tmp_path), []
        for epoch in range(1, 100):
            history.append(Epoch(epoch, 0.5, 0.25, 0.2, 0.01))
            record.write(history)

    with pytest.raises(TrainingError, match=r"cannot write the log to .* Free some space"), full_disk(largest):
        train()
    assert not list(tmp_path.glob(".*"))


def test_an_epoch_is_numbers_words_and_gaps_alone() -> None:
    for value in asdict(Epoch(1, 0.5, 0.25)).values():
        assert value is None or isinstance(value, int | float | str)
