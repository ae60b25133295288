"""Every shipped model, recomputed from its bytes: all faults of an entry at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import safetensors.numpy

import fastzoo
from fastzoo import bundle, data, golden, metrics, registry
from fastzoo._files import sha256
from fastzoo.bundle import Bundle
from fastzoo.errors import DataError
from fastzoo.export.contract import inscribe
from fastzoo.export.graph import operators
from fastzoo.export.layouts import Builder, Form, Scheme
from fastzoo.export.source import resolve
from fastzoo.export.verify import ALLOWED_OPERATORS, int8_count
from fastzoo.model import Model

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = sorted(path.parent for path in (ROOT / "fastzoo" / "models").glob(f"*/{bundle.FILE}"))
LARGEST_LOSS = 0.003  # an int8 file may be so much below its fp32 parent

each_bundle = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def files(content: Bundle) -> Iterator[tuple[str, str, bundle.LayoutFile]]:
    for precision, files in content.precisions.items():
        for layout, file in files.layouts.items():
            yield precision, layout, file


def test_the_model_of_the_readme_is_shipped() -> None:
    assert {"fastgrnn-har-fp32", "fastgrnn-har-int8"} <= set(fastzoo.list_models("*-har-*"))
    assert sorted(registry.builtin().models) == sorted(
        bundle.read(folder).model_name(precision) for folder in FOLDERS for precision in bundle.read(folder).precisions
    )


@each_bundle
def test_the_files_are_what_the_bundle_says(folder: Path) -> None:
    content = bundle.read(folder)
    bundle.check(content, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [bundle.FILE, *(record.file for record in content.files)]
    )
    faults = []
    for precision, layout, file in files(content):
        model = onnx.load(folder / file.file)
        opset = next(entry.version for entry in model.opset_import if entry.domain == "")
        found = (model.ir_version, opset, operators(model))
        if found != (file.ir_version, file.opset, dict(file.operators)):
            faults.append(f"{file.file}: IR, opset, operators are {found}")
        if foreign := operators(model).keys() - ALLOWED_OPERATORS:
            faults.append(f"{file.file}: operators {foreign}")
        if (int8_count(model) > 0) != (precision == "int8"):
            faults.append(f"{file.file}: {int8_count(model)} weights in int8")
        contract = {entry.key: entry.value for entry in model.metadata_props}
        if (contract["fastzoo.layout"], contract["fastzoo.precision"]) != (layout, precision):
            faults.append(f"{file.file}: the metadata says {contract}")
    assert faults == []


@each_bundle
def test_other_platforms_gave_the_same_classes(folder: Path) -> None:
    faults = []
    for precision, layout, file in files(bundle.read(folder)):
        found = file.verification["platforms"]
        if not {"1.16", "aarch64", "web"} <= {
            word for name in found for word in ("1.16", "aarch64", "web") if word in name
        }:
            faults.append(f"{precision}/{layout}: only {', '.join(found)}")
        least = 0.995 if "QuantizeLinear" in file.operators else 1.0
        faults += [f"{precision}/{layout} on {name}" for name, told in found.items() if told["same_class"] < least]
    assert faults == []


@each_bundle
def test_from_the_weights_export_and_quantization_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    content = bundle.read(folder)
    exported = resolve(folder, None, folder, None, None, None, None, golden.read(content, folder)["x"])
    builder = Builder(exported.network(exported.net), golden.read(content, folder)["x"])
    checked = 0
    for precision, layout, file in files(content):
        if "QuantizeLinear" in file.operators:
            continue  # its ranges come from recordings
        form = Form(precision, layout, Scheme() if precision == "int8" else None)
        model = builder.build(form)
        inscribe(model, exported.contract, builder.network, layout, precision, form.quantization)
        assert sha256(model.SerializeToString(deterministic=True)) == file.sha256, (precision, layout)
        checked += 1
    assert checked >= 6


@each_bundle
def test_sizes_follow_from_the_weights(folder: Path) -> None:
    content = bundle.read(folder)
    weights = safetensors.numpy.load_file(folder / content.weights.file)
    trained = {k: v for k, v in weights.items() if k not in ("mean", "std") and v.ndim}
    matrices = [v for v in trained.values() if v.ndim == 2]
    biases = [v for v in trained.values() if v.ndim == 1]
    assert content.size.parameters == sum(v.size for v in trained.values())
    assert content.size.nonzeros == sum(np.count_nonzero(v) for v in trained.values())
    recurrent = sum(v.size for k, v in trained.items() if v.ndim == 2 and not k.startswith("head"))
    assert content.size.macs_per_window == content.input.steps * recurrent + weights["head.weight"].size
    assert content.size.macs_per_step == recurrent
    assert content.size.dense_bytes == content.precisions["fp32"].weights_bytes == 4 * content.size.parameters
    int8 = sum(v.size + 4 for v in matrices) + sum(4 * v.size for v in biases)
    assert content.size.int8_bytes == content.precisions["int8"].weights_bytes == int8
    scalars = sum(1 for v in weights.values() if not v.ndim)
    by_index = sum(min(8 * int(np.count_nonzero(v)), 4 * v.size) for v in matrices)
    assert content.size.sparse_bytes == by_index + sum(4 * v.size for v in biases) + 4 * scalars


@each_bundle
def test_the_registry_repeats_the_sizes(folder: Path) -> None:
    content = bundle.read(folder)
    for precision in content.precisions:
        entry = fastzoo.info(content.model_name(precision))
        sizes = {name: count for name, count in vars(content.size).items() if count is not None}
        assert {name: entry.get(name) for name in sizes} == sizes
        assert {"dense_bytes", "sparse_bytes", "int8_bytes", "macs_per_step"} < sizes.keys()


@each_bundle
def test_golden_windows_get_golden_answers(folder: Path) -> None:
    content = bundle.read(folder)
    arrays = golden.read(content, folder)
    for precision, layout, file in files(content):
        logits = answer(folder, content, precision, layout, arrays["x"])
        arithmetic_in_int8 = "QuantizeLinear" in file.operators
        np.testing.assert_allclose(
            logits, arrays[f"{precision}/{layout}"], rtol=0, atol=0.5 if arithmetic_in_int8 else 1e-3
        )
        if precision == "fp32":
            np.testing.assert_allclose(logits, arrays["torch"], rtol=0, atol=1e-4)


def answer(folder: Path, content: Bundle, precision: str, layout: str, x: npt.NDArray[np.float32]) -> Any:
    """Logits of windows; of the layout for streams, from one step after the other."""
    if layout != "step":
        return Model(folder, precision, layout).logits(x)
    session = onnxruntime.InferenceSession(folder / content.precisions[precision].layouts[layout].file)
    state = np.zeros((len(x), session.get_inputs()[1].shape[1]), np.float32)
    each = []
    for t in range(x.shape[1]):
        logits, state = session.run(["logits", "state_next"], {"x": x[:, t], "state": state})
        each.append(logits)
    return np.mean(each[-content.pool :], axis=0)


@each_bundle
def test_int8_keeps_the_accuracy_of_its_parent(folder: Path) -> None:
    content = bundle.read(folder)
    lost = {
        layout: parent.metrics.accuracy - file.metrics.accuracy
        for layout, file in content.precisions["int8"].layouts.items()
        if (parent := content.precisions["fp32"].layouts[layout]).metrics and file.metrics
    }
    assert {layout: loss for layout, loss in lost.items() if loss > LARGEST_LOSS} == {}
    assert lost, "no metrics are published"


@each_bundle
@pytest.mark.real_data
def test_the_published_accuracy_is_that_of_the_shipped_bytes(folder: Path) -> None:
    content = bundle.read(folder)
    assert content.dataset is not None
    if "FASTZOO_DATA" not in os.environ and content.dataset.id != "digits":
        pytest.skip("FASTZOO_DATA names no folder of prepared data")
    try:
        dataset = data.load(content.dataset.id)
    except DataError as error:
        pytest.skip(str(error))
    assert dataset.sha256 == content.dataset.sha256
    test = dataset.test
    for precision, layout, file in files(content):
        if layout == "step":
            assert file.metrics is None
            continue
        logits = Model(folder, precision, layout).logits(test.x)
        measured = metrics.evaluate(logits.argmax(1), test.y, dataset.classes)
        assert file.metrics is not None
        # Arithmetic in int8 differs a little between kinds of CPU.
        allowed = 0.005 if "QuantizeLinear" in file.operators else 0.0005
        assert measured.accuracy == pytest.approx(file.metrics.accuracy, abs=allowed)
        assert measured.macro_f1 == pytest.approx(file.metrics.macro_f1, abs=2 * allowed)
