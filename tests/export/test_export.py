"""From a trained network to a bundle that loads."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from onnx import numpy_helper
from torch import nn

import fastzoo
from fastzoo import bundle, golden
from fastzoo.audio import LogMel
from fastzoo.data import Dataset
from fastzoo.data.hapt import CLASSES as HAR_CLASSES
from fastzoo.data.synthetic import motion
from fastzoo.errors import BundleError, ExportError
from fastzoo.export import export
from fastzoo.export.graph import constants, operators
from fastzoo.nn import CELLS, FastGRNN, SequenceClassifier, model_size
from fastzoo.train import ModelConfig, Settings, fit

from . import networks
from .conftest import Exported

FILES = [(precision, layout) for precision in ("fp32", "int8") for layout in ("fused", "scan", "unrolled")]
files = pytest.mark.parametrize(("precision", "layout"), FILES)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(exported: Exported, precision: str, layout: str) -> onnx.ModelProto:
    return onnx.load(exported.folder / f"{precision}-{layout}.onnx")


def quickly(net: SequenceClassifier, out: Path, **arguments: Any) -> bundle.Bundle:
    """One file only."""
    return export(net, out, layouts=["fused"], precisions=["fp32"], **arguments)


@files
def test_every_file_can_be_loaded_and_answers_like_torch(
    precision: str, layout: str, exported: Exported, net: SequenceClassifier, dataset: Dataset
) -> None:
    model = fastzoo.load(exported.folder, precision=precision, layout=layout)
    expected = networks.logits(net, dataset.test.x)
    assert np.abs(model.logits(dataset.test.x) - expected).max() < (1e-4 if precision == "fp32" else 0.3)
    names = np.array(dataset.classes)[expected.argmax(1)]
    assert (model.predict(dataset.test.x) == names).mean() >= (1 if precision == "fp32" else 0.95)
    assert model.labels == dataset.classes
    assert model.path.name == f"{precision}-{layout}.onnx"


@files
def test_golden_answers_come_again(precision: str, layout: str, exported: Exported, net: SequenceClassifier) -> None:
    arrays = golden.read(exported.bundle, exported.folder)
    model = fastzoo.load(exported.folder, precision=precision, layout=layout)
    assert np.abs(model.logits(arrays["x"]) - arrays[f"{precision}/{layout}"]).max() < 1e-6
    assert np.abs(networks.logits(net, arrays["x"]) - arrays["torch"]).max() < 1e-6


def test_golden_windows_are_made_up(exported: Exported, net: SequenceClassifier, tmp_path: Path) -> None:
    phone = golden.read(exported.bundle, exported.folder)["x"]
    assert np.array_equal(phone, motion([name for name in HAR_CLASSES for _ in range(2)], 24, 25.0))
    recorded = networks.windows(30, net, 24)
    other = golden.read(quickly(net, tmp_path / "other", calibration=recorded), tmp_path / "other")["x"]
    assert other.shape == (12, 24, 6)
    low, high = np.percentile(recorded, [1, 99], axis=(0, 1))
    assert (other >= low.astype(np.float32)).all()
    assert (other <= high.astype(np.float32)).all()
    assert (other.std(axis=1) > 0).all()


@files
def test_the_file_itself_says_how_to_use_it(
    precision: str, layout: str, exported: Exported, net: SequenceClassifier, dataset: Dataset
) -> None:
    properties = {entry.key: entry.value for entry in stored(exported, precision, layout).metadata_props}
    assert all(key.startswith("fastzoo.") for key in properties)
    texts = {key: properties.pop(f"fastzoo.{key}") for key in ("name", "layout", "precision", "quantization")}
    assert texts == {
        "name": "my-model",
        "layout": layout,
        "precision": precision,
        "quantization": exported.bundle.precisions[precision].layouts[layout].quantization,
    }
    values = {key.removeprefix("fastzoo."): json.loads(value) for key, value in properties.items()}
    assert values.pop("mean") == pytest.approx(net.mean.tolist(), rel=1e-5)
    assert values.pop("std") == pytest.approx(net.std.tolist(), rel=1e-5)
    assert values == {
        "labels": list(dataset.classes),
        "channels": list(dataset.channels),
        "rate": dataset.rate,
        "steps": 24,
    }


@files
def test_the_bundle_describes_each_file(precision: str, layout: str, exported: Exported) -> None:
    record = exported.bundle.precisions[precision].layouts[layout]
    data, model = (exported.folder / record.file).read_bytes(), stored(exported, precision, layout)
    assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (record.ir_version, record.opset) == (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert record.operators == operators(model)
    assert record.verification["windows"] == 12 + 80  # golden and calibration
    assert record.verification["same_class"] >= 0.9
    assert record.metrics is None
    assert record.latency is not None
    assert 0 < record.latency.p50_us <= record.latency.p95_us
    assert ("int8" in record.quantization) == (precision == "int8")


def test_the_bundle_is_whole_and_can_be_read(exported: Exported) -> None:
    assert bundle.read(exported.folder) == as_written(exported.bundle)
    bundle.check(exported.bundle, exported.folder)
    names = {record.file for record in exported.bundle.files} | {"bundle.json"}
    assert set(content(exported.folder)) == names
    assert not [path for path in exported.folder.parent.iterdir() if path != exported.folder]


def as_written(made: bundle.Bundle) -> bundle.Bundle:
    """The same with floats as the file keeps them, in six digits."""
    return bundle.parse(json.dumps(bundle.to_dict(made)).encode(), "it")


def test_the_bundle_describes_the_network(exported: Exported, net: SequenceClassifier, dataset: Dataset) -> None:
    made = exported.bundle
    assert (made.name, made.version, made.labels, made.pool) == ("my-model", "1.0.0", dataset.classes, 8)
    assert made.input == bundle.Input(24, dataset.channels, 25.0)
    assert made.cell == {**net.rnn.config(), "zeta": net.rnn.cell.zeta.item(), "nu": 0.0}
    assert made.summary == "fastgrnn with 12 units, 3 classes, 6 channels"
    assert made.licences == bundle.Licences("Apache-2.0", "not stated by their owner")
    assert made.dataset is None
    assert made.seeds is None
    assert made.calibration is not None
    calibration = np.ascontiguousarray(dataset.train.x[::3])
    assert made.calibration["sha256"] == hashlib.sha256(calibration.tobytes()).hexdigest()
    assert made.calibration["windows"] == 80


SIZE = {  # 6 channels, 12 units, ranks 4 and 6, 3 classes: W 6x4, 4x12; U 12x6, 6x12; head 12x3
    "parameters": 24 + 48 + 72 + 72 + 24 + 36 + 3,
    "nonzeros": 279,
    "dense_bytes": 4 * 279,
    "sparse_bytes": 4 * (279 + 1),  # and the trained zeta
    "int8_bytes": (216 + 36) + 5 * 4 + 4 * (24 + 3),
    "macs_per_step": 216,
    "macs_per_window": 24 * 216 + 36,
}


def test_sizes_are_counted(exported: Exported, published: Exported, run: Path) -> None:
    assert exported.bundle.size == bundle.Size(**SIZE)
    for folder in (exported.folder, published.folder):
        assert json.loads((folder / "bundle.json").read_text())["size"] == SIZE
        for precision in ("fp32", "int8"):
            entry = fastzoo.load(folder, precision=precision).info
            assert {name: entry[name] for name in SIZE} == SIZE
            assert entry["weights_bytes"] == SIZE["dense_bytes" if precision == "fp32" else "int8_bytes"]
    for seed in (3, 4):
        assert json.loads((run / f"seed-{seed}" / "checkpoint.json").read_text())["training"]["size"] == SIZE


def test_zeros_are_counted_as_they_are_stored(net: SequenceClassifier, dataset: Dataset, tmp_path: Path) -> None:
    sparse = copy.deepcopy(net)
    with torch.no_grad():
        sparse.rnn.cell.U1.view(-1)[10:] = 0
        sparse.rnn.cell.bias_gate.zero_()
    made = quickly(sparse, tmp_path / "sparse", calibration=dataset.train.x)
    assert made.size == bundle.Size(
        **{**SIZE, "nonzeros": 279 - 62 - 12, "sparse_bytes": 4 * (279 + 1) - 4 * 72 + 8 * 10}
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_bytes_are_those_in_the_fused_file(precision: str, exported: Exported, net: SequenceClassifier) -> None:
    """Matrices, their scales and the biases as they are stored.

    Not counted: normalisation (mean, std), zero points, shapes, and what fills up the GRU's six biases beyond the two
    that the cell has.
    """
    arrays = constants(stored(exported, precision, "fused"))
    suffixes = ("_quantized", "_scale") if precision == "int8" else ("",)
    counted = [f"{name}{suffix}" for name in ("W1", "W2", "U1", "U2", "head") for suffix in suffixes]
    biases = arrays["bias"].nbytes * 2 // 6 + arrays["head_bias"].nbytes
    total = sum(arrays[name].nbytes for name in counted) + biases
    assert exported.bundle.precisions[precision].weights_bytes == total
    left = {"mean", "std", "bias", "head_bias", "nothing", "0", "at_24", "at_-8", *(["zero"] * (precision == "int8"))}
    assert arrays.keys() - set(counted) == left


def test_the_fp32_weights_make_the_network_again(exported: Exported, net: SequenceClassifier, dataset: Dataset) -> None:
    again = SequenceClassifier.from_config(net.config())
    again.load_state_dict(safetensors.torch.load_file(exported.folder / "weights.safetensors"))
    assert np.array_equal(networks.logits(again, dataset.test.x), networks.logits(net, dataset.test.x))


def test_the_same_network_gives_the_same_files(
    exported: Exported, net: SequenceClassifier, dataset: Dataset, tmp_path: Path
) -> None:
    again = export(
        net, tmp_path / "my-model", calibration=dataset.train.x[::3], labels=dataset.classes,
        channels=dataset.channels, rate=dataset.rate,
    )  # fmt: skip
    first, second = content(exported.folder), content(tmp_path / "my-model")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] in ([], ["bundle.json"])

    def untimed(made: bundle.Bundle) -> Any:
        document = bundle.to_dict(made)
        for precision in document["precisions"].values():
            for layout in precision["layouts"].values():
                layout.pop("latency", None)
        return document

    assert untimed(again) == untimed(exported.bundle)


def test_only_what_is_asked_for_is_made(net: SequenceClassifier, dataset: Dataset, tmp_path: Path) -> None:
    made = export(
        net, tmp_path / "flat", calibration=dataset.train.x, layouts=["unrolled"], precisions=["int8"], inline=True
    )
    assert list(made.precisions) == ["int8"]
    assert list(made.precisions["int8"].layouts) == ["unrolled"]
    assert not onnx.load(tmp_path / "flat" / "int8-unrolled.onnx").functions
    assert made.labels == ("class_0", "class_1", "class_2")
    assert made.input.channels[:2] == ("channel_0", "channel_1")
    assert made.input.rate == 1
    assert set(golden.read(made, tmp_path / "flat")) == {"x", "torch", "int8/unrolled"}


STACKS: dict[str, dict[str, Any]] = {
    "one layer": {}, "two layers": {"num_layers": 2}, "both ways": {"num_layers": 2, "bidirectional": True}
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stack"),
    [*((kind, "one layer") for kind in CELLS), ("fastrnn", "two layers"), ("lstm", "two layers"), ("gru", "both ways")],
)
def test_every_cell_is_exported_in_every_layout(kind: str, stack: str, dataset: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rnn = CELLS[kind](len(dataset.channels), 6, u_rank=3, **STACKS[stack])
    made = export(SequenceClassifier(rnn, len(dataset.classes), 4), tmp_path / "it", dataset=dataset)
    layouts = ["fused", "scan", "unrolled", *(["step"] if stack != "both ways" else [])]
    assert {p: list(precision.layouts) for p, precision in made.precisions.items()} == {
        "fp32": layouts,
        "int8": layouts,
    }
    x = dataset.test.x
    for layout in ("fused", "scan", "unrolled"):
        assert fastzoo.load(tmp_path / "it", precision="fp32", layout=layout).logits(x).shape == (len(x), 3)


def test_what_reads_bricks_is_trained_exported_and_takes_samples(dataset: Dataset, tmp_path: Path) -> None:
    model = ModelConfig(hidden_size=12, w_rank=6, u_rank=6, pool=4, brick=4)
    settings = Settings(epochs=8, batch_size=32, learning_rate=0.03, qat=True)
    net = fit(model.build(dataset, 0), dataset, settings, progress=False).net
    made = export(net, tmp_path / "it", dataset=dataset)
    assert list(made.precisions["int8"].layouts) == ["fused", "scan", "unrolled"]
    assert made.input.steps == dataset.x.shape[1]
    assert made.cell["brick"] == 4
    assert made.size.macs_per_step == 12 * 6 + 6 * 24 + 2 * 6 * 12
    assert made.size.macs_per_window == 6 * made.size.macs_per_step + 3 * 12
    x, expected = dataset.test.x, networks.logits(net, dataset.test.x)
    for backend in ("onnxruntime", "numpy"):
        for layout in ("fused", "scan", "unrolled"):
            loaded = fastzoo.load(tmp_path / "it", precision="fp32", layout=layout, backend=backend)
            assert np.abs(loaded.logits(x) - expected).max() < 1e-4
    recording = x[:4].reshape(-1, x.shape[2])
    answers = loaded.stream(hop=3).push(recording)  # windows may begin in the middle of a brick
    windows = np.stack([recording[i : i + x.shape[1]] for i in range(0, len(recording) - x.shape[1] + 1, 3)])
    assert [answer.label for answer in answers] == list(loaded.predict(windows))
    again = export(tmp_path / "it", tmp_path / "again", dataset=dataset, layouts=["fused"])
    for precision, files in again.precisions.items():
        assert files.layouts["fused"].sha256 == made.precisions[precision].layouts["fused"].sha256


def test_plain_torch_is_exported(dataset: Dataset, tmp_path: Path) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.rnn(x)[0][:, -1])
            return logits

    net = Mine().eval()
    made = export(net, tmp_path / "it", dataset=dataset)
    assert made.cell["type"] == "torch_gru"
    assert made.size.parameters == sum(p.numel() for p in net.parameters()) - 2 * 8  # b_ih and b_hh are one, twice
    answer = fastzoo.load(tmp_path / "it", precision="fp32").logits(dataset.test.x)
    with torch.no_grad():
        assert np.abs(answer - net(torch.from_numpy(dataset.test.x)).numpy()).max() < 1e-5


def test_a_bundle_is_written_again_in_other_layouts(exported: Exported, dataset: Dataset, tmp_path: Path) -> None:
    again = export(exported.folder, tmp_path / "it", calibration=dataset.train.x[::3], layouts=["scan"], state="8")
    assert (again.name, again.labels, again.input) == ("my-model", exported.bundle.labels, exported.bundle.input)
    for precision, files in again.precisions.items():
        assert list(files.layouts) == ["scan"]
        assert files.layouts["scan"].sha256 == exported.bundle.precisions[precision].layouts["scan"].sha256


def test_zeros_of_training_are_cut(net: SequenceClassifier, dataset: Dataset, tmp_path: Path) -> None:
    sparse = copy.deepcopy(net)
    with torch.no_grad():
        sparse.rnn.cell.U1[:, 4:] = 0
    made = export(sparse, tmp_path / "it", calibration=dataset.train.x)
    assert made.cell["cut"] == "U rank 6 -> 4"
    assert made.precisions["int8"].weights_bytes == exported_bytes(net) - 2 * 24
    assert made.size.nonzeros is not None
    assert made.size.parameters - made.size.nonzeros == 2 * 12
    answer = fastzoo.load(tmp_path / "it", precision="fp32").logits(dataset.test.x)
    assert np.abs(answer - networks.logits(sparse, dataset.test.x)).max() < 1e-5


def exported_bytes(net: SequenceClassifier) -> int:
    return model_size(net).int8_bytes


def test_a_front_end_becomes_a_graph(tmp_path: Path) -> None:
    made_by = LogMel(8000, bands=5, clip_s=0.25)
    torch.manual_seed(0)
    net = SequenceClassifier(FastGRNN(5, 6, nu=0.0), 3)
    sound = np.random.default_rng(0).normal(size=(3, 2000)).astype(np.float32) / 8
    x = np.stack([made_by(row, 8000) for row in sound])
    net.set_normalisation(torch.from_numpy(x))
    labels, bands = ["a", "b", "c"], [f"mel_{i}" for i in range(5)]
    made = export(
        net, tmp_path / "it", calibration=x, labels=labels, channels=bands, rate=100, frontend=made_by, formats=["c"]
    )
    assert made.sound is not None
    session = onnxruntime.InferenceSession(tmp_path / "it" / made.sound.file)
    (features,) = session.run(None, {"audio": sound})
    assert np.abs(features - x).max() <= 1  # bytes that lie near a half
    assert sorted(made.headers) == ["fp32", "int8"]
    for record in made.headers.values():
        assert "int it_" in (tmp_path / "it" / record.file).read_text()
    bundle.check(made, tmp_path / "it")


@pytest.mark.slow
@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("state", ["8", "fp32"])
def test_activations_of_eight_bits_where_they_are_asked_for(
    state: str, activations: str, net: SequenceClassifier, dataset: Dataset, tmp_path: Path
) -> None:
    made = export(
        net, tmp_path / "it", dataset=dataset, activations_in=["scan", "step"], state=state, activations=activations,
        percentile=99.9, per_channel=True,
    )  # fmt: skip
    files = made.precisions["int8"].layouts
    for layout, file in files.items():
        quantizes = layout in ("scan", "step")
        assert ("QuantizeLinear" in file.operators) == quantizes
        assert ("U8S8" if activations == "uint8" else "S8S8") in file.quantization or not quantizes
        assert "per channel" in file.quantization
    assert made.calibration is not None
    assert made.calibration["state"] == state
    assert made.calibration["method"] == "percentile 99.9"


def test_the_callers_network_is_left_as_it_was(net: SequenceClassifier, dataset: Dataset, tmp_path: Path) -> None:
    mine = copy.deepcopy(net).double().train()
    before = copy.deepcopy(mine.state_dict())
    made = quickly(mine, tmp_path / "double", calibration=dataset.train.x)
    assert mine.training
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    arrays = golden.read(made, tmp_path / "double")
    assert np.abs(arrays["torch"] - networks.logits(net, arrays["x"])).max() < 1e-6
    weights = safetensors.torch.load_file(tmp_path / "double" / "weights.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_calibration_windows_may_be_anything_numeric(tmp_path: Path) -> None:
    net = networks.classifier(nu=0.0)
    integers = np.rint(networks.windows(20) * 10).astype(np.int16)
    quickly(net, tmp_path / "integers", calibration=integers)
    made = quickly(net, tmp_path / "lists", calibration=integers.astype(float).tolist())
    assert made.calibration == bundle.read(tmp_path / "integers").calibration


def test_a_data_set_gives_what_is_not_said(net: SequenceClassifier, dataset: Dataset, tmp_path: Path) -> None:
    made = quickly(net, tmp_path / "it", dataset=dataset, labels=("walk", "stand", "lie"))
    assert made.input == bundle.Input(24, dataset.channels, 25.0)
    metrics = made.precisions["fp32"].layouts["fused"].metrics
    assert metrics is not None
    guess = networks.logits(net, dataset.test.x).argmax(1)
    assert metrics.accuracy == (guess == dataset.test.y).mean()
    assert list(metrics.per_class) == ["walk", "stand", "lie"]
    assert made.dataset == bundle.DatasetRecord("made-up-motion", sha256=dataset.sha256)


def test_an_existing_folder_is_not_touched(exported: Exported, net: SequenceClassifier, dataset: Dataset) -> None:
    before = content(exported.folder)
    with pytest.raises(ExportError, match=r"my-model exists already; .* --force \(overwrite=True\)"):
        export(net, exported.folder, calibration=dataset.train.x)
    assert content(exported.folder) == before


def test_a_bundle_can_be_replaced(net: SequenceClassifier, dataset: Dataset, tmp_path: Path) -> None:
    quickly(net, tmp_path / "it", calibration=dataset.train.x)
    (tmp_path / "it" / "notes").touch()
    made = export(
        net, tmp_path / "it", calibration=dataset.train.x, layouts=["fused"], precisions=["int8"], overwrite=True
    )
    assert set(content(tmp_path / "it")) == {record.file for record in made.files} | {"bundle.json"}
    assert list(tmp_path.iterdir()) == [tmp_path / "it"]


@pytest.mark.parametrize("kind", ["file", "empty folder", "photographs"])
def test_what_is_no_bundle_is_never_replaced(
    kind: str, net: SequenceClassifier, dataset: Dataset, tmp_path: Path
) -> None:
    target = tmp_path / "it"
    if kind == "file":
        target.touch()
    else:
        target.mkdir()
    if kind == "photographs":
        (target / "holiday.jpg").touch()
    with pytest.raises(ExportError, match="it is not a bundle, so it is not replaced"):
        export(net, target, calibration=dataset.train.x, overwrite=True)
    assert target.exists()
    assert kind != "photographs" or (target / "holiday.jpg").exists()


def overflowing(net: SequenceClassifier) -> SequenceClassifier:
    """Finite weights, infinite answers."""
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.head.weight.fill_(3e38)
    return broken


def test_nothing_is_left_behind_when_verification_fails(
    net: SequenceClassifier, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="failed verification: it answers NaN or infinity"):
        export(overflowing(net), tmp_path / "new" / "it", calibration=dataset.train.x)
    assert not list((tmp_path / "new").iterdir())
    quickly(net, tmp_path / "old", calibration=dataset.train.x)
    before = content(tmp_path / "old")
    with pytest.raises(ExportError, match="failed verification"):
        export(overflowing(net), tmp_path / "old", calibration=dataset.train.x, overwrite=True)
    assert content(tmp_path / "old") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


@pytest.mark.parametrize("largest", [0, 2000, 7000])
def test_nothing_is_left_behind_when_the_disk_is_full(
    largest: int, net: SequenceClassifier, dataset: Dataset, tmp_path: Path
) -> None:
    limits = pytest.importorskip("resource")
    before = limits.getrlimit(limits.RLIMIT_FSIZE)
    limits.setrlimit(limits.RLIMIT_FSIZE, (largest, before[1]))
    try:
        with pytest.raises((ExportError, BundleError), match=r"cannot write .*File too large"):
            export(net, tmp_path / "it", calibration=dataset.train.x)
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_name_that_no_bundle_may_have_leaves_nothing(
    net: SequenceClassifier, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="name 'My Model' must be lower-case"):
        quickly(net, tmp_path / "My Model", calibration=dataset.train.x)
    assert not list(tmp_path.iterdir())


def test_weights_in_the_file_are_the_trained_ones(exported: Exported, net: SequenceClassifier) -> None:
    arrays = {t.name: numpy_helper.to_array(t) for t in stored(exported, "fp32", "unrolled").graph.initializer}
    assert np.array_equal(arrays["W1"], net.rnn.cell.w[0].detach().numpy())
    assert np.array_equal(arrays["mean"], net.mean.numpy())
