"""Seeds in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.train import Recipe, Run, Settings, checkpoint, fit_recipe, seeds_run

from .task import MODEL, files, network, same, weights

SETTINGS = Settings(epochs=3, batch_size=32, learning_rate=0.03, seed=3, average=0.9)
THREE = Recipe("made-up-motion", MODEL, SETTINGS, seeds=3, bundle={"name": "mine"})


@pytest.fixture(scope="module")
def alone(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Run]]:
    """Three seeds one after the other, in this process."""
    runs: dict[int, Run] = {}
    folder = tmp_path_factory.mktemp("alone") / "run"
    fit_recipe(THREE, dataset, folder, progress=False, report=runs.__setitem__)
    return folder, runs


@pytest.mark.slow
def test_side_by_side_gives_the_same_bits_and_a_failing_seed_spares_the_others(
    alone: tuple[Path, dict[int, Run]], dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "seed-4").write_text("no folder")
    runs: dict[int, Run] = {}
    with pytest.raises(TrainingError, match=r"cannot write .*seed-4: (Not a directory|File exists)"):
        fit_recipe(THREE, dataset, folder, report=runs.__setitem__, jobs=2)
    shown = capfd.readouterr()
    assert not shown.out
    for seed in (3, 4, 5):
        assert f"seed {seed}" in shown.err
    assert "Traceback" not in shown.err
    assert sorted(runs) == [3, 5]
    one_by_one = alone[1]
    for seed, run in runs.items():
        assert same(weights(run.net), weights(one_by_one[seed].net))
        assert run.history == one_by_one[seed].history
        assert (run.best, run.validation) == (one_by_one[seed].best, one_by_one[seed].validation)
        assert run.settings == replace(SETTINGS, seed=seed)
        assert run.folder == folder / f"seed-{seed}"
        assert not run.interrupted
        assert same(weights(checkpoint.load(run.folder).net), weights(run.net))
    assert list(seeds_run.load(folder).validation_accuracy) == [3, 5]

    (folder / "seed-4").unlink()  # once the cause is gone, only what is missing is done
    fit_recipe(THREE, dataset, folder, progress=False, resumed=True)
    assert files(folder) == files(alone[0])


def test_one_run_needs_no_process(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*arguments: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("multiprocessing.get_context", no_process)
    fit_recipe(replace(THREE, seeds=1), dataset, tmp_path, progress=False, jobs=8)
    assert checkpoint.load(tmp_path).training["settings"]["seed"] == 3


LONG = ["train", "--data", "digits", "--hidden-size", "8", "--w-rank", "4", "--u-rank", "4", "--epochs", "5000"]


def begin(out: Path, *options: str) -> subprocess.Popen[str]:
    """``fastzoo train`` in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastzoo", *LONG, "--seeds", "3", "--jobs", "2", "--out", str(out), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def two_have_begun(out: Path) -> bool:
    return sum((out / f"seed-{seed}" / checkpoint.NAME).exists() for seed in range(3)) == 2


def end_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.timeout(120)
def test_ctrl_c_ends_all_and_keeps_what_there_is(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = begin(out)
    try:
        assert wait(lambda: two_have_begun(out))
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=40)
    finally:
        end_group(process)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "seed 0" in errors, "progress is on standard error"
    assert "seed 0" not in output
    assert output.count("interrupted, best epoch") == 2
    assert not (out / "seed-2").exists(), "a seed was begun after Ctrl-C"
    found = seeds_run.load(out)
    assert list(found.validation_accuracy) == [0, 1]
    for folder in found.folders.values():
        checkpoint.load(folder)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c_while_one_process_waits_for_the_other(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "seed-0").write_text("no folder")  # this seed fails at once, and its process is idle
    process = begin(out, "--set", "seeds=2")
    try:
        assert wait(lambda: (out / "seed-1" / checkpoint.NAME).exists())
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=40)
    finally:
        end_group(process)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "error: cannot write" in errors
    checkpoint.load(out / "seed-1")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nobody_trains_on_when_the_command_is_dead(how: signal.Signals, tmp_path: Path) -> None:
    """Else --resume would find others writing into its folders."""
    out = tmp_path / "run"
    process = begin(out)
    try:
        assert wait(lambda: two_have_begun(out))
        process.send_signal(how)
        process.wait(timeout=20)
        assert wait(lambda: not group(process.pid), seconds=20), group(process.pid)
    finally:
        end_group(process)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("seconds", [0.2, 1, 2])
def test_ctrl_c_while_the_processes_begin(seconds: float, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = begin(out)
    try:
        assert wait(lambda: (out / "environment.json").exists())
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode in (0, 130)
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_is_killed_is_one_clear_error(tmp_path: Path) -> None:
    """As Linux kills what needs too much memory."""
    out = tmp_path / "run"
    process = begin(out, "--set", "train.epochs=120")
    try:
        assert wait(lambda: two_have_begun(out))
        os.kill(busiest(process.pid), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "--resume" in errors.splitlines()[-1]
    for seed in (0, 1):
        checkpoint.load(out / f"seed-{seed}")


def busiest(leader: int) -> int:
    """The process of a group, but for its leader, that worked most."""
    worked = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader and int(stat.parent.name) != leader:
                worked[int(stat.parent.name)] = int(fields[11])
    return max(worked, key=worked.__getitem__)


def group(leader: int) -> list[str]:
    """The processes of a group that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == leader and state != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_the_processes_get_what_they_need(dataset: Dataset, tmp_path: Path) -> None:
    """What a task holds survives the way to another process and back."""
    import pickle

    from fastzoo.errors import DataError, FastzooError, MissingExtraError
    from fastzoo.train.parallel import Task

    task = Task(3, "seed 3", network(), dataset, SETTINGS, tmp_path, False, {"name": "mine"})
    copy: Task = pickle.loads(pickle.dumps(task))
    assert same(weights(copy.net), weights(task.net))
    assert copy.dataset.sha256 == dataset.sha256
    assert (copy.settings, copy.folder, copy.bundle) == (task.settings, task.folder, task.bundle)
    for error in (TrainingError("a"), DataError("b"), MissingExtraError("c")):
        again: FastzooError = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
