"""A run that was cut short goes on, and ends with the bits of one that was not."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.nn import GRU, FastGRNN, SequenceClassifier
from fastzoo.train import Augmentation, Epoch, Run, Settings, checkpoint, fit, resume
from fastzoo.train.sparsity import Sparsity

from .task import Event, files, network, same, weights, with_misled_validation
from .test_checkpoint import full_disk

BASE = Settings(epochs=6, batch_size=32, learning_rate=0.03)
SHAKEN = Augmentation(rotate=0.3, scale=0.1, noise=0.1)


def stacked(seed: int = 0) -> SequenceClassifier:
    torch.manual_seed(seed)
    return SequenceClassifier(GRU(6, 5, num_layers=2, bidirectional=True, dropout=0.4), 3, 8)


VARIANTS: dict[str, tuple[Callable[..., SequenceClassifier], Settings]] = {
    "usual": (network, BASE),
    "step": (network, replace(BASE, optimizer="adam", schedule="step", decay_epochs=2, decay_rate=0.5)),
    "adam": (network, replace(BASE, optimizer="adam", weight_decay=0.1, batch_size=50)),
    "average": (network, replace(BASE, average=0.9)),
    "dropout": (stacked, replace(BASE, average=0.8)),
    "sparse": (network, replace(BASE, sparsity=Sparsity(w=0.5, u=0.3, every=5))),
    "gradually sparse": (
        network,
        replace(BASE, average=0.9, sparsity=Sparsity(w=0.5, u=0.3, every=3, schedule="cubic")),
    ),
    "sparse at last": (network, replace(BASE, sparsity=Sparsity(u=0.3, begin=0.9, end=0.9))),
    "sampling": (network, replace(BASE, balance="sampling", augmentation=SHAKEN)),
    "quantized": (network, replace(BASE, qat=True, sparsity=Sparsity(w=0.5, end=0.5, every=5))),
    "weights quantized": (network, replace(BASE, qat="weights")),
    "quantized average": (network, replace(BASE, qat=True, average=0.9)),
    "augmented twice": (network, replace(BASE, augmentation=(SHAKEN, Augmentation(time_warp=0.2, drop=0.3)))),
    "loss": (network, replace(BASE, balance="loss", label_smoothing=0.1, at_rest=0.5, seed=7)),
    "everything": (
        stacked,
        replace(
            BASE,
            average=0.9,
            balance="sampling",
            augmentation=SHAKEN,
            label_smoothing=0.1,
            schedule="step",
            decay_epochs=1,
            sparsity=Sparsity(w=0.5, u=0.3, every=4, schedule="cubic"),
        ),
    ),
}


class PowerCutError(Exception):
    """A power cut, as far as `fit` can see one."""


def break_after(epoch: int) -> Callable[[Epoch], None]:
    def stop(done: Epoch) -> None:
        if done.epoch == epoch:
            raise PowerCutError

    return stop


def cut_short(net: SequenceClassifier, dataset: Dataset, settings: Settings, out: Path, after: int) -> None:
    """Train up to an epoch; what there is of it by then goes on."""
    with pytest.raises(PowerCutError):
        fit(net, dataset, settings, out=out, resumed=True, progress=False, on_epoch=break_after(after))


def go_on(net: SequenceClassifier, dataset: Dataset, settings: Settings, out: Path) -> Run:
    return fit(net, dataset, settings, out=out, resumed=True, progress=False)


def agree(run: Run, whole: Run) -> None:
    """Nothing tells the two runs apart."""
    assert run.history == whole.history
    assert (run.best, run.validation) == (whole.best, whole.validation)
    assert same(weights(run.net), weights(whole.net))
    assert run.folder is not None
    assert whole.folder is not None
    one, other = files(run.folder), files(whole.folder)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_broken_after_every_epoch_ends_with_the_same_bits(variant: str, dataset: Dataset, tmp_path: Path) -> None:
    build, settings = VARIANTS[variant]
    torch.manual_seed(1)
    whole = fit(build(), dataset, settings, out=tmp_path / "whole", progress=False)
    for epoch in range(1, settings.epochs + 1):  # after the last one, too
        torch.manual_seed(epoch)
        start = build(seed=0 if epoch == 1 else epoch)  # later what there is replaces it
        cut_short(start, dataset, settings, tmp_path / "broken", after=epoch)
    agree(go_on(build(seed=99), dataset, settings, tmp_path / "broken"), whole)


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing disturbed."""
    return fit(network(), dataset, BASE, out=tmp_path_factory.mktemp("whole") / "run", progress=False)


@pytest.mark.parametrize("batch", [1, 6, 7, 20, 36])
def test_ctrl_c_loses_the_epoch_in_progress_alone(batch: int, whole: Run, dataset: Dataset, tmp_path: Path) -> None:
    def press(x: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return x

    stopped = fit(
        network(), dataset, replace(BASE, augmentation=Event(batch, press)), out=tmp_path, resumed=True, progress=False
    )
    assert stopped.interrupted
    assert stopped.history[-1].epoch == (batch - 1) // 6
    assert checkpoint.load(tmp_path).training["epoch"] == (stopped.best.epoch if stopped.best else None)
    agree(go_on(network(seed=5 if batch > 6 else 0), dataset, BASE, tmp_path), whole)


def test_ctrl_c_before_the_weights_are_sparse_spares_the_run(dataset: Dataset, tmp_path: Path) -> None:
    settings = replace(BASE, sparsity=Sparsity(w=0.5, u=0.3, every=3))
    whole = fit(network(), dataset, settings, out=tmp_path / "whole", progress=False)

    def press(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    stopped = fit(network(), dataset, settings, out=tmp_path / "run", progress=False, on_epoch=press)
    assert stopped.interrupted
    assert [epoch.epoch for epoch in stopped.history] == [1]
    assert checkpoint.load(tmp_path / "run").training["epoch"] == 1
    agree(go_on(network(), dataset, settings, tmp_path / "run"), whole)


def test_a_nan_leaves_what_can_be_gone_on_with(whole: Run, dataset: Dataset, tmp_path: Path) -> None:
    broken = replace(BASE, augmentation=Event(at=23, what=lambda x: x * torch.nan))
    with pytest.raises(TrainingError, match="epoch 4, batch 5: the loss became nan for training windows"):
        fit(network(), dataset, broken, out=tmp_path, progress=False)
    assert checkpoint.load(tmp_path).training["epoch"] <= 3
    agree(go_on(network(), dataset, BASE, tmp_path), whole)


def test_weights_that_are_no_numbers_are_blamed_on_their_epoch(dataset: Dataset, tmp_path: Path) -> None:
    def one_infinite_sample(x: Tensor) -> Tensor:
        x[0, 0, 0] = torch.inf
        return x

    last_of_the_first_epoch = replace(BASE, augmentation=Event(6, one_infinite_sample))
    net = SequenceClassifier(FastGRNN(6, 12, nu=0.0), 3)
    with pytest.raises(TrainingError, match="epoch 1, batch 6: weights became NaN or infinite"):
        fit(net, dataset, last_of_the_first_epoch, out=tmp_path, progress=False)


def test_a_finished_run_is_left_as_it_is(whole: Run, dataset: Dataset) -> None:
    assert whole.folder is not None
    before = files(whole.folder)
    events = sorted((whole.folder / "tensorboard").iterdir())
    called: list[Epoch] = []
    again = fit(network(seed=3), dataset, BASE, out=whole.folder, resumed=True, progress=False, on_epoch=called.append)
    agree(again, whole)
    assert not called
    assert files(whole.folder) == before
    assert sorted((whole.folder / "tensorboard").iterdir()) == events
    assert not again.interrupted


@pytest.mark.parametrize("seed", [7, 10, 18])  # rounding changes the answer to some windows
def test_a_quantized_run_is_judged_as_before(seed: int, dataset: Dataset, tmp_path: Path) -> None:
    settings = replace(BASE, epochs=2 + seed % 3, qat=True, seed=seed)
    whole = fit(network(seed), dataset, settings, out=tmp_path, progress=False)
    assert whole.best is not None
    again = go_on(network(), dataset, settings, tmp_path)
    assert again.validation == whole.validation
    assert whole.validation is not None
    assert whole.validation.accuracy == whole.best.validation_accuracy


def test_patience_that_has_ended_has_ended(dataset: Dataset, tmp_path: Path) -> None:
    misled, patient = with_misled_validation(dataset), replace(BASE, epochs=30, patience=2)
    whole = fit(network(), misled, patient, out=tmp_path / "whole", progress=False)
    assert len(whole.history) < 30
    for epoch in range(1, len(whole.history) + 1):
        cut_short(network(), misled, patient, tmp_path / "broken", after=epoch)
    agree(go_on(network(), misled, patient, tmp_path / "broken"), whole)


def test_without_resume_a_run_begins_anew(whole: Run, dataset: Dataset, tmp_path: Path) -> None:
    cut_short(network(), dataset, replace(BASE, learning_rate=0.1), tmp_path, after=4)
    agree(fit(network(), dataset, BASE, out=tmp_path, progress=False), whole)


def test_where_there_is_no_state_a_run_begins(whole: Run, dataset: Dataset, tmp_path: Path) -> None:
    agree(go_on(network(), dataset, BASE, tmp_path / "nothing" / "here"), whole)
    without = fit(network(), dataset, BASE, resumed=True, progress=False)
    assert same(weights(without.net), weights(whole.net))


def test_two_states_are_kept(dataset: Dataset, tmp_path: Path) -> None:
    cut_short(network(), dataset, BASE, tmp_path, after=1)
    assert states(tmp_path) == ["resume-000001.safetensors"]
    cut_short(network(), dataset, BASE, tmp_path, after=5)
    assert states(tmp_path) == ["resume-000004.safetensors", "resume-000005.safetensors"]
    assert not list(tmp_path.glob(".*"))


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("resume-*"))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "last bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "first bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "in the record": lambda data: data.replace(b"validation_accuracy", b"validation_accurbcy", 1),
    "a number": lambda data: data.replace(b'steps_done\\":30', b'steps_done\\":24').replace(
        b'steps_done\\": 30', b'steps_done\\": 24'
    ),
    "zeros": lambda data: b"\0" * len(data),
    "other tensors": lambda data: safetensors.torch.save({"a": torch.zeros(3)}, {"record": "{}", "sha256": ""}),
    "no record": lambda data: safetensors.torch.save({"a": torch.zeros(3)}),
    "a pickle": lambda data: b"\x80\x04K\x01.",
}


@pytest.fixture(scope="module")
def broken(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run leaves that was cut short after five of six epochs."""
    folder = tmp_path_factory.mktemp("broken")
    cut_short(network(), dataset, BASE, folder, after=5)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def put(folder: Path, content: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_told_of_and_the_one_before_is_used(
    damage: str,
    broken: dict[str, bytes],
    whole: Run,
    dataset: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(tmp_path, broken)
    newest = tmp_path / "resume-000005.safetensors"
    newest.write_bytes(DAMAGE[damage](broken[newest.name]))
    assert newest.read_bytes() != broken[newest.name]
    epochs: list[int] = []
    run = fit(
        network(seed=9), dataset, BASE, out=tmp_path, resumed=True, progress=False,
        on_epoch=lambda epoch: epochs.append(epoch.epoch),
    )  # fmt: skip
    assert epochs == [5, 6]
    agree(run, whole)
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "resume-000005.safetensors is damaged" in warning.getMessage()


def test_a_missing_state_is_no_loss(broken: dict[str, bytes], whole: Run, dataset: Dataset, tmp_path: Path) -> None:
    put(tmp_path, broken)
    (tmp_path / "resume-000005.safetensors").unlink()
    (tmp_path / ".resume-000005.safetensors.1234-abcd.part").write_bytes(b"half a state")
    (tmp_path / "resume-5.safetensors").write_bytes(b"of somebody else's")
    run = go_on(network(), dataset, BASE, tmp_path)
    assert same(weights(run.net), weights(whole.net))
    assert run.history == whole.history


def test_where_all_states_are_damaged_the_run_begins_anew(
    broken: dict[str, bytes], whole: Run, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, {name: data[:100] if name.startswith("resume") else data for name, data in broken.items()})
    agree(go_on(network(), dataset, BASE, tmp_path), whole)
    assert sum("is damaged" in record.getMessage() for record in caplog.records) == 2


def test_a_damaged_checkpoint_beside_a_good_state_is_made_again(
    broken: dict[str, bytes], whole: Run, dataset: Dataset, tmp_path: Path
) -> None:
    put(tmp_path, {name: b"" if name.startswith(("weights", "checkpoint")) else data for name, data in broken.items()})
    go_on(network(), dataset, BASE, tmp_path)
    assert same(weights(checkpoint.load(tmp_path).net), weights(whole.net))


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(place: float, bit: int, tmp_path: Path) -> None:
    record = {"epoch": 2, "text": "ä", "loss": 0.1, "nothing": None}
    tensors = {"a.b": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(3, dtype=torch.int64)}
    resume.clear(tmp_path)
    resume.save(tmp_path, 1, {"a.b": torch.zeros(2, 3)}, {"epoch": 1})
    resume.save(tmp_path, 2, tensors, record)
    path = tmp_path / "resume-000002.safetensors"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    found = resume.load(tmp_path)
    assert found is not None
    if found[1] != {"epoch": 1}:  # the bit meant nothing
        assert found[1] == record
        assert same(found[0], tensors)


def test_all_kinds_of_numbers_come_back(tmp_path: Path) -> None:
    tensors = {
        "float": torch.tensor([float("inf"), -0.0, 1e-45]),
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "bytes": torch.get_rng_state(),
        "empty": torch.zeros(0, 3),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }
    resume.save(tmp_path, 7, tensors, {"nan": float("nan"), "third": 1 / 3, "large": 2**63})
    found = resume.load(tmp_path)
    assert found is not None
    assert same(found[0], tensors)
    assert str(found[1]) == str({"nan": float("nan"), "third": 1 / 3, "large": 2**63})


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"learning_rate": 0.02}}, "settings"),
    ({"settings": {"epochs": 7}}, "settings"),
    ({"settings": {"sparsity": Sparsity(w=0.5)}}, "settings"),
    ({"settings": {"augmentation": SHAKEN}}, "settings"),
    ({"net": {"pool": 4}}, "network"),
    ({"data": {"rate": 50.0}}, "data"),
    ({"net": {"pool": 4}, "data": {"rate": 50.0}, "settings": {"seed": 1}}, "settings and network and data"),
]


@pytest.mark.parametrize(("other", "what"), OTHERS)
def test_another_run_is_refused(
    other: dict[str, Any], what: str, broken: dict[str, bytes], dataset: Dataset, tmp_path: Path
) -> None:
    put(tmp_path, broken)
    with pytest.raises(TrainingError, match=f"the run in .* has other {what} than this one: go on with the same, or "):
        go_on(
            network(**other.get("net", {})),
            replace(dataset, **other.get("data", {})),
            replace(BASE, **other.get("settings", {})),
            tmp_path,
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == broken


@pytest.mark.parametrize(
    "augmentation",
    [SHAKEN, Augmentation(), (SHAKEN, Augmentation(drop=0.3))],
    ids=["one", "none", "several"],
)
def test_a_run_from_before_a_setting_existed_goes_on(
    augmentation: Augmentation | tuple[Augmentation, ...], dataset: Dataset, tmp_path: Path
) -> None:
    settings = replace(BASE, augmentation=augmentation)
    whole = fit(network(), dataset, settings, out=tmp_path / "whole", progress=False)
    cut_short(network(), dataset, settings, tmp_path / "run", after=5)
    found = resume.load(tmp_path / "run")
    assert found is not None
    tensors, record = found
    recorded = record["settings"]
    assert [recorded.pop(name) for name in ("at_rest", "distillation")] == [
        0.0, {"teachers": [], "weight": 0.7, "temperature": 2.0}
    ]  # fmt: skip
    for part in recorded["augmentation"] if isinstance(augmentation, tuple) else [recorded["augmentation"]]:
        assert part.pop("frequency_warp") == 0.0
    resume.save(tmp_path / "run", 5, tensors, record)

    unlike = replace(settings, at_rest=0.5)
    with pytest.raises(TrainingError, match="has other settings than this one"):
        go_on(network(), dataset, unlike, tmp_path / "run")
    run = go_on(network(), dataset, settings, tmp_path / "run")
    assert run.history == whole.history
    assert same(weights(run.net), weights(whole.net))


@pytest.mark.parametrize("largest", [0, 1000, 10_000], ids=["nothing fits", "no weights fit", "no state fits"])
def test_a_full_disk_is_reported_and_the_run_goes_on_later(
    largest: int, whole: Run, dataset: Dataset, tmp_path: Path
) -> None:
    cut_short(network(), dataset, BASE, tmp_path, after=2)
    before = states(tmp_path)
    with pytest.raises(TrainingError, match=r"cannot write .*File too large.* [Ff]ree some space"), full_disk(largest):
        go_on(network(), dataset, BASE, tmp_path)
    assert states(tmp_path) == before
    assert not list(tmp_path.glob(".*"))
    checkpoint.load(tmp_path)
    agree(go_on(network(seed=4), dataset, BASE, tmp_path), whole)


def test_a_state_that_cannot_be_written_spares_the_others(tmp_path: Path) -> None:
    for epoch in (1, 2):
        resume.save(tmp_path, epoch, {"a": torch.full((3,), float(epoch))}, {"epoch": epoch})
    with pytest.raises(TrainingError, match=r"cannot write to .* go on with --resume"), full_disk(1000):
        resume.save(tmp_path, 3, {"a": torch.zeros(5000)}, {"epoch": 3})
    found = resume.load(tmp_path)
    assert found is not None
    assert found[1] == {"epoch": 2}
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write to .*file.run: Not a directory"):
        resume.save(tmp_path / "file" / "run", 1, {}, {})


QUICK = ["--hidden-size", "8", "--w-rank", "4", "--u-rank", "4", "--w-sparsity", "0.5", "--average", "0.9"]
RANDOM = ["--noise", "0.1", "--balance", "sampling", "--set", "train.sparsity.every=7"]


def command(out: Path, epochs: int) -> list[str]:
    return ["train", "--data", "digits", *QUICK, *RANDOM, "--epochs", str(epochs), "--threads", "1", "--out", str(out)]


def going_on(out: Path) -> list[str]:
    return ["train", "--resume", "--threads", "1", "--out", str(out)]


FORKS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from fastzoo import cli
from fastzoo.data import load
from fastzoo.train import ModelConfig, fit

load("digits")  # what the children need is imported, compiled and read once
fit(ModelConfig(hidden_size=8, w_rank=4, u_rank=4).build(load("digits"), 0), load("digits"), epochs=1, progress=False)

def start(arguments):
    child = os.fork()
    if not child:
        try:
            sys.argv = ["fastzoo", *arguments]
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            cli.main()
        except SystemExit as end:
            os._exit(end.code or 0)
        finally:
            os._exit(1)
    return child

whole, killed, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
first, later = (part.split("|") for part in sys.argv[4:6])
begin = time.monotonic()
assert os.waitpid(start([*first, "--out", str(whole)]), 0)[1] == 0
takes = time.monotonic() - begin
random.seed(0)
went_on = 0
for attempt in range(kills):
    seen = (killed / "recipe.toml").exists()
    child = start([*(later if seen else first), "--out", str(killed)])
    time.sleep(random.uniform(0, 2.5 * takes / kills))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed"
assert os.waitpid(start([*later, "--out", str(killed)]), 0)[1] == 0
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    first, later = (["|".join(part(tmp_path)[:-2])] for part in (partial(command, epochs=12), going_on))
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(whole), str(killed), "8", *first, *later],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.endswith("done\n"), done.stderr
    one, other = files(whole), files(killed)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def fastzoo(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastzoo", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_of_the_command_change_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    begin = time.monotonic()
    assert fastzoo(command(whole, epochs=40)).wait() == 0
    takes = time.monotonic() - begin
    generator = random.Random(0)
    for _ in range(20):
        resumable = (killed / "recipe.toml").exists()
        process = fastzoo(going_on(killed) if resumable else command(killed, epochs=40))
        time.sleep(generator.uniform(0.5, 0.8 * takes))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (killed / checkpoint.NAME).exists():
            checkpoint.load(killed)
        if (killed / "report.md").exists():  # finished long before the twentieth: once more from the middle
            for name in ("report.md", "metrics.json", "resume-000040.safetensors"):
                (killed / name).unlink(missing_ok=True)
    assert fastzoo(going_on(killed)).wait() == 0
    one, other = files(whole), files(killed)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_what_the_identity_of_a_run_holds_survives_json(broken: dict[str, bytes], tmp_path: Path) -> None:
    put(tmp_path, broken)
    found = resume.load(tmp_path)
    assert found is not None
    tensors, record = found
    assert record["settings"] == json.loads(json.dumps(asdict(BASE)))
    assert [epoch["epoch"] for epoch in record["history"]] == [1, 2, 3, 4, 5]
    assert {name.split(".")[0] for name in tensors} == {"net", "optimizer", "random", "best"}
