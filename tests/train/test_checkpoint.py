from __future__ import annotations

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.train import checkpoint
from fastzoo.train.checkpoint import DataRecord

from .task import fit_quickly, network, same, weights

TRAINING = {"settings": {"validation_fraction": 0.2, "validation_seed": 0, "seed": 0}, "epoch": 3, "bundle": {}}


@pytest.fixture
def folder(dataset: Dataset, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "run", network(), DataRecord.of(dataset), TRAINING)
    return tmp_path / "run"


def document(folder: Path) -> Any:
    return json.loads((folder / checkpoint.NAME).read_text())


def rewrite(folder: Path, value: object) -> None:
    (folder / checkpoint.NAME).write_text(json.dumps(value))


def weights_file(folder: Path) -> Path:
    (file,) = folder.glob("weights-*.safetensors")
    return file


def test_a_checkpoint_tells_everything(folder: Path, dataset: Dataset) -> None:
    saved = checkpoint.load(folder)
    assert same(weights(saved.net), weights(network()))
    assert saved.net.config() == network().config()
    assert not saved.net.training
    assert saved.data == {
        "id": dataset.id,
        "sha256": dataset.sha256,
        "steps": 24,
        "channels": list(dataset.channels),
        "rate": 25.0,
        "classes": list(dataset.classes),
    }
    assert saved.training == TRAINING
    assert saved.environment["torch"] == torch.__version__
    assert checkpoint.load(str(folder)).data == saved.data


def test_a_checkpoint_may_come_from_elsewhere(dataset: Dataset, tmp_path: Path) -> None:
    data = DataRecord("made elsewhere", "", 24, dataset.channels, 25.0, dataset.classes)
    checkpoint.save(tmp_path, network(), data, TRAINING, environment={"numpy": "1.16.4"})
    saved = checkpoint.load(tmp_path)
    assert saved.environment == {"numpy": "1.16.4"}
    assert (saved.data["id"], saved.data["sha256"]) == ("made elsewhere", "")


def test_what_fit_writes_can_be_read(dataset: Dataset, tmp_path: Path) -> None:
    about = {"name": "my-model", "summary": "mine"}
    run = fit_quickly(network(), dataset, epochs=2, out=tmp_path / "deep" / "run", bundle=about)
    saved = checkpoint.load(tmp_path / "deep" / "run")
    assert same(weights(saved.net), weights(run.net))
    assert saved.training["settings"]["epochs"] == 2
    assert saved.training["settings"]["augmentation"]["rotate"] == 0
    assert saved.training["bundle"] == about
    assert saved.training["size"] == {
        "parameters": 279,
        "nonzeros": 279,
        "dense_bytes": 1116,
        "sparse_bytes": 1120,
        "int8_bytes": 380,
        "macs_per_step": 216,
        "macs_per_window": 24 * 216 + 36,
    }
    assert saved.training["settings"] == json.loads(json.dumps(asdict(run.settings)))


def test_the_weights_are_named_by_their_digest_and_old_ones_go(folder: Path, dataset: Dataset) -> None:
    first = weights_file(folder)
    assert first.name == f"weights-{hashlib.sha256(first.read_bytes()).hexdigest()[:12]}.safetensors"
    checkpoint.save(folder, network(seed=1), DataRecord.of(dataset), TRAINING)
    assert weights_file(folder).name != first.name
    assert same(weights(checkpoint.load(folder).net), weights(network(seed=1)))
    checkpoint.save(folder, network(seed=1), DataRecord.of(dataset), TRAINING)
    assert sorted(path.name for path in folder.iterdir()) == [checkpoint.NAME, weights_file(folder).name]


def test_other_files_in_the_folder_are_left_alone(folder: Path, dataset: Dataset) -> None:
    (folder / "notes.txt").write_text("mine")
    checkpoint.save(folder, network(seed=1), DataRecord.of(dataset), TRAINING)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(TrainingError, match=r"no checkpoint in .* `fastzoo train` writes one"):
            checkpoint.load(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}', b"\0"])
def test_a_damaged_description_is_refused(text: bytes, folder: Path) -> None:
    (folder / checkpoint.NAME).write_bytes(text)
    with pytest.raises(TrainingError, match=r"checkpoint\.json is damaged"):
        checkpoint.load(folder)


@pytest.mark.parametrize("schema", [2, 0, "1", None])
def test_another_schema_is_refused(schema: object, folder: Path) -> None:
    rewrite(folder, {**document(folder), "schema": schema})
    with pytest.raises(TrainingError, match="not a checkpoint of schema 1; update fastzoo or train again"):
        checkpoint.load(folder)


@pytest.mark.parametrize("value", [[], 5, "text", None, {}])
def test_a_description_of_something_else_is_refused(value: object, folder: Path) -> None:
    rewrite(folder, value)
    with pytest.raises(TrainingError, match="not a checkpoint of schema 1"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"",
        lambda data: data + b"\0",
    ],
    ids=["cut", "one bit", "empty", "longer"],
)
def test_damaged_weights_are_refused(change: Callable[[bytes], bytes], folder: Path) -> None:
    file = weights_file(folder)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(TrainingError, match=r"is damaged: its sha256 is not the one in checkpoint\.json"):
        checkpoint.load(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    file = weights_file(folder)
    file.unlink()
    with pytest.raises(TrainingError, match=f"cannot read the weights .*{file.name}"):
        checkpoint.load(folder)


def put_weights(folder: Path, content: bytes) -> None:
    """Weights whose digest is right, whatever they are."""
    weights_file(folder).write_bytes(content)
    record = document(folder)
    record["weights"]["sha256"] = hashlib.sha256(content).hexdigest()
    rewrite(folder, record)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    put_weights(folder, pickle.dumps(Bomb()))
    with pytest.raises(TrainingError, match="is not a safetensors file"):
        checkpoint.load(folder)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("tensors", [{}, {"W": torch.zeros(3)}, {"rnn.cells.0.U1": torch.zeros(2, 2)}])
def test_weights_of_another_network_are_refused(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    own = {} if tensors == {} else weights(network())
    put_weights(folder, safetensors.torch.save({**own, **tensors}))
    with pytest.raises(TrainingError, match="does not describe a model of this version"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", "", "\0"])
def test_weights_are_read_from_the_folder_only(name: str, folder: Path) -> None:
    content = weights_file(folder).read_bytes()
    (folder.parent / "secret").write_bytes(content)
    record = document(folder)
    record["weights"]["file"] = name
    rewrite(folder, record)
    with pytest.raises(TrainingError):
        checkpoint.load(folder)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


HOSTILE = st.sampled_from([None, True, -1, 0, 3, 2**60, 1e999, -0.5, "", "x", "\0", "../x", [], ["a"], {}, {"a": 1}])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_description_leads_to_another_error(data: st.DataObject, folder: Path) -> None:
    original = (folder / checkpoint.NAME).read_bytes()
    record = json.loads(original)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(sorted(paths(record), key=repr)))
        parent = record
        for key in way:
            parent = parent[key]
        if data.draw(st.booleans()):
            del parent[last]
        else:
            parent[last] = copy.deepcopy(data.draw(HOSTILE))
    try:
        rewrite(folder, record)
        checkpoint.load(folder)
    except TrainingError:
        pass
    finally:
        (folder / checkpoint.NAME).write_bytes(original)


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file can grow beyond ``largest`` bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("largest", [0, 1000, 10_000], ids=["nothing fits", "half the weights", "the weights alone"])
def test_a_full_disk_spares_the_earlier_checkpoint(largest: int, folder: Path, dataset: Dataset) -> None:
    record, long_story = document(folder), {**TRAINING, "story": "x" * 20_000}
    with pytest.raises(TrainingError, match=r"cannot write the checkpoint to .* Free some space"), full_disk(largest):
        checkpoint.save(folder, network(seed=1), DataRecord.of(dataset), long_story)
    assert document(folder) == record
    assert same(weights(checkpoint.load(folder).net), weights(network()))
    assert not list(folder.glob(".*"))


def test_a_folder_that_cannot_be_is_named(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write the checkpoint to .*file.run: Not a directory"):
        checkpoint.save(tmp_path / "file" / "run", network(), DataRecord.of(dataset), TRAINING)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from train.task import motions, network, same, weights
from train.test_checkpoint import TRAINING
from fastzoo.train import checkpoint

folder, record = Path(sys.argv[2]), checkpoint.DataRecord.of(motions())
nets = [network(seed) for seed in range(2)]
expected = [weights(net) for net in nets]
checkpoint.save(folder, nets[0], record, TRAINING)
random.seed(0)
for attempt in range(40):
    child = os.fork()
    if not child:
        while True:
            for net in (nets[0], nets[0], nets[1]):  # the same weights again, too
                checkpoint.save(folder, net, record, TRAINING)
    time.sleep(random.uniform(0.005, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = weights(checkpoint.load(folder).net)
    assert any(same(found, whole) for whole in expected), attempt
checkpoint.save(folder, nets[0], record, TRAINING)
assert len(list(folder.glob("weights-*.safetensors"))) == 1
print("always whole")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tests), str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "always whole\n", done.stderr
