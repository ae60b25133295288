"""What must be true of a published bundle, recomputed from its bytes. Each check yields faults, and stops no other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import safetensors.numpy

from fastzoo import bundle, data, entry, golden, metrics
from fastzoo.bundle import Bundle, LayoutFile, Metrics
from fastzoo.data import Dataset, Split
from fastzoo.data.cross import Relation
from fastzoo.errors import BundleError
from fastzoo.export import cross, describe, reproduce
from fastzoo.export.graph import operators
from fastzoo.export.layouts import Form, Scheme
from fastzoo.export.source import calibration_windows, of_bundle, with_data
from fastzoo.export.verify import ALLOWED_OPERATORS, int8_count
from fastzoo.model import Model
from fastzoo.train import distillation, recipe

LARGEST_LOSS = 0.003  # an int8 file may be so much below its fp32 parent
LEAST_SEEDS = 3
MANY_STEPS = 2_000_000  # of a test split: beyond it, slow layouts are run on a part of it
LEAST_SAME = 0.995  # of windows, the class of another layout, or of another platform, where products are int8

Faults = Iterator[str]
Check = Callable[[Bundle, Path], Faults]


def faults(folder: Path, checks: tuple[Check, ...]) -> list[str]:
    """What all checks find; one that breaks is a fault, and the others go on."""
    content = bundle.read(folder)
    found = []
    for check in checks:
        try:
            found += [f"{folder.name}: {fault}" for fault in check(content, folder)]
        except Exception as error:
            found.append(f"{folder.name}: {check.__name__} broke: {type(error).__name__}: {error}")
    return found


def files(content: Bundle) -> Iterator[tuple[str, str, LayoutFile]]:
    for precision, of in content.precisions.items():
        for layout, file in of.layouts.items():
            yield precision, layout, file


def rounds(file: LayoutFile) -> bool:
    """Whether its products are computed in int8, which differs a little between kinds of CPU."""
    return "QuantizeLinear" in file.operators


# ---------------------------------------------------------------------------------------------------------------------
# Bytes


def hashes(content: Bundle, folder: Path) -> Faults:
    """All files are there, no others, and each has the digest and size that the bundle says."""
    for record in content.files:
        try:
            bundle.read_file(folder, record)
        except BundleError as error:
            yield str(error)
    expected = {bundle.FILE, *(record.file for record in content.files)}
    if odd := expected.symmetric_difference(path.name for path in folder.iterdir()):
        yield f"files missing or too many: {', '.join(sorted(odd))}"


def graphs(content: Bundle, folder: Path) -> Faults:
    """Versions, operators, int8 weights and the contract in the metadata."""
    for precision, layout, file in files(content):
        model = onnx.load(folder / file.file)
        opset = next(imported.version for imported in model.opset_import if imported.domain == "")
        for what, is_, said in (
            ("IR", model.ir_version, file.ir_version),
            ("opset", opset, file.opset),
            ("operators", operators(model), dict(file.operators)),
        ):
            if is_ != said:
                yield f"{file.file}: {what} {is_}, the bundle says {said}"
        if foreign := operators(model).keys() - ALLOWED_OPERATORS:
            yield f"{file.file}: operators {', '.join(sorted(foreign))}"
        if (int8_count(model) > 0) != (precision == "int8"):
            yield f"{file.file}: {int8_count(model)} weights in int8"
        yield from (f"{file.file}: {fault}" for fault in contract(model, content, precision, layout, file))


def contract(model: onnx.ModelProto, content: Bundle, precision: str, layout: str, file: LayoutFile) -> Faults:
    """The file says of itself what the bundle says."""
    found = {prop.key.removeprefix("fastzoo."): prop.value for prop in model.metadata_props}
    said: dict[str, Any] = {
        "name": content.name, "layout": layout, "precision": precision, "quantization": file.quantization,
        "labels": list(content.labels), "channels": list(content.input.channels), "rate": content.input.rate,
        "steps": content.input.steps,
    }  # fmt: skip
    for key, value in said.items():
        is_ = found.get(key, "") if isinstance(value, str) else json.loads(found.get(key, "null"))
        if is_ != value:
            yield f"its metadata says {key} {is_!r}, not {value!r}"


def sizes(content: Bundle, folder: Path) -> Faults:
    """Parameters, non-zeros and bytes from the weights; multiply-adds from the products in the graph of a step."""
    arrays = safetensors.numpy.load_file(folder / content.weights.file)
    trained = {name: value for name, value in arrays.items() if name not in ("mean", "std")}
    matrices = [value for value in trained.values() if value.ndim == 2]
    vectors = [value for value in trained.values() if value.ndim == 1]
    scalars = sum(1 for value in trained.values() if value.ndim == 0)
    numbers, biases = sum(value.size for value in matrices), sum(value.size for value in vectors)
    sparse = sum(min(8 * int(np.count_nonzero(value)), 4 * value.size) for value in matrices)
    found = {
        "parameters": numbers + biases,
        "nonzeros": sum(int(np.count_nonzero(value)) for value in (*matrices, *vectors)),
        "dense_bytes": 4 * (numbers + biases),
        "int8_bytes": numbers + 4 * len(matrices) + 4 * biases,
        "sparse_bytes": sparse + 4 * biases + 4 * scalars,
    }
    size = content.size
    head = sum(value.size for name, value in trained.items() if name.startswith("head") and value.ndim == 2)
    if size.macs_per_step is not None:
        steps = content.input.steps // content.cell.get("brick", 1)
        found["macs_per_window"] = steps * size.macs_per_step + head
    cut = "cut" in content.cell  # its files hold less than its weights
    step = content.precisions.get("fp32") and content.precisions["fp32"].layouts.get("step")
    if step and not cut:
        found["macs_per_step"] = products(onnx.load(folder / step.file)) - head
    for name, value in found.items():
        if getattr(size, name) != value:
            yield f"size.{name} is {value}, the bundle says {getattr(size, name)}"
    if not cut:
        per_channel = any("per channel" in file.quantization for _, _, file in files(content))
        for precision, weigh in (
            ("fp32", found["dense_bytes"]),
            ("int8", None if per_channel else found["int8_bytes"]),
        ):
            said = content.precisions[precision].weights_bytes if precision in content.precisions else None
            if None not in (said, weigh) and said != weigh:
                yield f"{precision} weights take {weigh} bytes, the bundle says {said}"


def products(model: onnx.ModelProto) -> int:
    """The multiply-adds of the matrix products for one row of what comes in: the sizes of the matrices on the right."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in graph.value_info:
        shapes.setdefault(value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
    return sum(int(np.prod(shapes[node.input[1]])) for node in graph.node if node.op_type in ("MatMul", "Gemm"))


def answers(content: Bundle, folder: Path) -> Faults:
    """Golden windows get golden answers from every file, and fp32 files those of torch."""
    arrays = golden.read(content, folder)
    for precision, layout, file in files(content):
        logits = logits_of(folder, content, precision, layout, arrays["x"])
        allowed = [(f"{precision}/{layout}", 0.5 if rounds(file) else 1e-3)]
        allowed += [("torch", 1e-4)] if precision == "fp32" else []
        for name, most in allowed:
            if (off := float(np.abs(logits - arrays[name]).max())) > most:
                yield f"{file.file}: golden logits are {off:.3g} off from {name}"


def logits_of(folder: Path, content: Bundle, precision: str, layout: str, x: npt.NDArray[np.float32]) -> Any:
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


def same_bytes(content: Bundle, folder: Path) -> Faults:
    """From the weights, export and quantization give the same bytes; ranges are left to :func:`same_ranges`."""
    calibrated = {file.file for _, _, file in files(content) if rounds(file)}
    for made in reproduce.from_weights(folder).files:
        if made.verdict == reproduce.DIFFERS or (made.verdict == reproduce.UNCHECKED and made.file not in calibrated):
            yield f"{made.file}: made from the weights it is {made.sha256}, not {made.published_sha256}"


# ---------------------------------------------------------------------------------------------------------------------
# What is said


def registered(content: Bundle, folder: Path, models: dict[str, dict[str, Any]]) -> Faults:
    """The registry repeats the bundle."""
    for name, said in entry.entries(folder, f"models/{folder.name}").items():
        found = models.get(name, {})
        for key in sorted(said.keys() | found.keys()):
            if said.get(key) != found.get(key):
                yield f"the registry's {name}.{key} is not what the bundle says"


def complete(content: Bundle, folder: Path) -> Faults:
    """Nothing is left out that a reader needs."""
    seeds, environment = content.seeds or {}, content.environment or {}
    dataset = content.dataset
    needed = {
        "fp32 and int8": set(bundle.PRECISIONS) <= content.precisions.keys(),
        "data set, its variant, digest, licence and citation": dataset is not None
        and all(dataclasses.asdict(dataset).values()),
        "the machine that latencies were measured on": content.measured_on is not None,
        f"{LEAST_SEEDS} seeds": len(seeds.get("seeds", ())) >= LEAST_SEEDS,
        "the weights of all seeds": content.seed_weights is not None,
        "what was trained, with its settings": "settings" in (content.training or {}),
        "the digest of the calibration windows": "sha256" in (content.calibration or {}),
        "environments of training and export": {"training", "export"} <= environment.keys(),
        "licences of weights and data": bool(content.licences.data) and "not stated" not in content.licences.weights,
    }
    yield from (f"lacks {what}" for what, there in needed.items() if not there)
    for precision, layout, file in files(content):
        if layout != "step" and (file.metrics is None or file.latency is None):
            yield f"{precision}/{layout} has no metrics, or no latency"
        if not file.verification:
            yield f"{precision}/{layout} was not verified"
    for precision, of in content.precisions.items():
        missing = [relation.id for relation in cross.relations(content) if relation.id not in (of.cross_checks or {})]
        yield from (f"{precision} lacks the cross-check on {id}: run tools/cross_check.py" for id in missing)
    if dataset is not None and not content.name.startswith(f"{content.cell['type']}-{dataset.id}"):
        yield f"its name should begin with {content.cell['type']}-{dataset.id}"


def loss(content: Bundle, folder: Path) -> Faults:
    """An int8 file keeps the accuracy of its parent."""
    parents = content.precisions["fp32"].layouts
    for layout, file in content.precisions["int8"].layouts.items():
        parent = parents[layout].metrics
        if parent and file.metrics and parent.accuracy - file.metrics.accuracy > LARGEST_LOSS:
            yield f"int8/{layout} loses {100 * (parent.accuracy - file.metrics.accuracy):.2f} points to fp32"


def elsewhere(content: Bundle, folder: Path) -> Faults:
    """Other platforms gave the same classes."""
    for precision, layout, file in files(content):
        found = file.verification.get("platforms", {})
        if missing := [word for word in ("1.16", "aarch64", "web") if not any(word in name for name in found)]:
            yield f"{precision}/{layout} was not run on {', '.join(missing)}"
        for name, told in found.items():
            if told["same_class"] < (LEAST_SAME if rounds(file) else 1.0):
                yield f"{precision}/{layout} on {name}: {told['same_class']:.4f} of windows keep their class"


def rebuilt(content: Bundle, folder: Path) -> Faults:
    """A recipe of its name comes with it, and says what the bundle says."""
    made = recipe.read(recipe.of_model(content.name))
    if changed := reproduce.changed_settings((content.training or {}).get("settings", {}), made.settings):
        yield f"its recipe has another {', '.join(changed)}"
    said = {"name": content.name, "version": content.version, "summary": content.summary}
    if wrong := [key for key, value in said.items() if made.bundle.get(key, value) != value]:
        yield f"its recipe has another {', '.join(wrong)}"
    if content.dataset is not None and made.data != content.dataset.id:
        yield f"its recipe is for the data set {made.data!r}"
    if made.model.cell != content.cell["type"] or made.model.pool != content.pool:
        yield "its recipe is of another network"


def taught(content: Bundle, folder: Path) -> Faults:
    """Whoever taught it is in the zoo, with the weights of then."""
    said = (content.training or {}).get("teachers", {})
    for name, digest in distillation.digests(said).items():
        if digest != said[name]:
            yield f"its teacher {name} has other weights now: train it again"


# ---------------------------------------------------------------------------------------------------------------------
# Recordings


def same_ranges(content: Bundle, folder: Path, dataset: Dataset) -> Faults:
    """With the recordings, what holds ranges of activations comes out the same, too."""
    for made in reproduce.from_weights(folder, dataset).files:
        if made.verdict != reproduce.IDENTICAL:
            yield f"{made.file}: {made.verdict}{': ' + made.reason if made.reason else ''}"


def accuracy(content: Bundle, folder: Path, dataset: Dataset) -> Faults:
    """The shipped bytes have the published accuracy."""
    assert content.dataset is not None
    if dataset.sha256 != content.dataset.sha256:
        yield f"the data set {dataset.id!r} here is not the one it was measured on"
        return
    test = dataset.test
    for precision, layout, file in files(content):
        fastest = content.fastest(precision)
        if layout == "step" or file.metrics is None or fastest is None:
            continue
        if layout != fastest and len(test) * content.input.steps > MANY_STEPS:
            yield from agreement(content, folder, precision, layout, test)
            continue
        measured = metrics.evaluate(Model(folder, precision, layout).logits(test.x).argmax(1), test.y, dataset.classes)
        most = 0.005 if rounds(file) else 0.0005
        if abs(measured.accuracy - file.metrics.accuracy) > most:
            yield f"{file.file}: accuracy {measured.accuracy:.4f}, the bundle says {file.metrics.accuracy:.4f}"
        if abs(measured.macro_f1 - file.metrics.macro_f1) > 2 * most:
            yield f"{file.file}: macro F1 {measured.macro_f1:.4f}, the bundle says {file.metrics.macro_f1:.4f}"
        if not rounds(file) and confusion_off(measured, file.metrics) > max(2, 0.001 * len(test)):
            yield f"{file.file}: another confusion matrix"


def spread(content: Bundle, folder: Path, dataset: Dataset) -> Faults:
    """The accuracy of every seed, from the weights that are shipped."""
    found = with_data(of_bundle(folder), folder, dataset)
    if list(found.siblings) != list((content.seeds or {}).get("seeds", ())):
        yield f"it ships the weights of seeds {list(found.siblings)}, and speaks of others"
        return
    windows = calibration_windows(found, None)
    for precision in content.precisions:
        layout = content.fastest(precision)
        assert layout is not None
        file = content.precisions[precision].layouts[layout]
        again = describe.seeds(found, [Form(precision, layout, Scheme.read(file.quantization))], windows) or {}
        kind = f"{precision}/{layout}"
        said = (content.seeds or {}).get(kind, {}).get("accuracy", [])
        measured = again[kind]["accuracy"]
        most = 0.005 if rounds(file) else 0.0005
        if len(said) != len(measured) or np.abs(np.subtract(said, measured)).max() > most:
            yield f"{kind}: the seeds' accuracies are {measured}, the bundle says {said}"


def cross_checks(content: Bundle, folder: Path, relation: Relation, dataset: Dataset) -> Faults:
    """On a related data set the shipped bytes have the published accuracy."""
    for name, precision in content.precisions.items():
        said = (precision.cross_checks or {}).get(relation.id)
        if said is None:
            continue  # a fault of `complete`
        if said.sha256 != dataset.sha256:
            yield f"the data set {dataset.id!r} here is not the one it was cross-checked on"
            return
        found = cross.measured(content, folder, name, relation, dataset)
        assert found is not None
        most = 0.005 if rounds(precision.layouts[said.layout]) else 0.0005
        for what in ("layout", "split", "n", "variant"):
            if getattr(found, what) != getattr(said, what):
                yield f"{name} on {relation.id}: {what} {getattr(found, what)}, the bundle says {getattr(said, what)}"
        for what, limit in (("accuracy", most), ("macro_f1", 2 * most)):
            if abs(getattr(found, what) - getattr(said, what)) > limit:
                yield (
                    f"{name} on {relation.id}: {what} {getattr(found, what):.4f}, the bundle says "
                    f"{getattr(said, what):.4f}"
                )


def confusion_off(measured: Metrics, said: Metrics) -> int:
    """How many windows have another class."""
    return int(np.abs(np.subtract(measured.confusion, said.confusion)).sum()) // 2


def agreement(content: Bundle, folder: Path, precision: str, layout: str, test: Split) -> Faults:
    """A slow layout gives the classes of the fastest, on a part of the windows."""
    fastest = content.fastest(precision)
    assert fastest is not None
    part = test.x[:: -(-len(test) * content.input.steps // MANY_STEPS)]
    classes = [Model(folder, precision, name).logits(part).argmax(1) for name in (layout, fastest)]
    if (same := float((classes[0] == classes[1]).mean())) < LEAST_SAME - 0.01 * rounds_any(content, precision):
        yield f"{precision}/{layout} gives {same:.4f} of windows the class of {fastest}"


def rounds_any(content: Bundle, precision: str) -> bool:
    return any(rounds(file) for file in content.precisions[precision].layouts.values())


def prepared(content: Bundle) -> Dataset:
    """The bundle's data set.

    Raises:
        DataError: it is not prepared.
    """
    assert content.dataset is not None
    return data.load(content.dataset.id)
