"""From a trained network to a verified bundle."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import nn

from fastzoo import bench, bundle
from fastzoo._files import sha256
from fastzoo.bundle import Bundle, FileRecord, Input, LayoutFile, Precision
from fastzoo.data import Dataset, hapt, synthetic
from fastzoo.errors import ExportError
from fastzoo.export import cross, describe, verify
from fastzoo.export.c import c_header, c_name
from fastzoo.export.calibrate import Method
from fastzoo.export.choose import STATES, Judge, choose
from fastzoo.export.contract import inscribe
from fastzoo.export.graph import IR_VERSION, OPSET, operators
from fastzoo.export.layouts import LAYOUTS, PRECISIONS, Builder, Form, Scheme, forms
from fastzoo.export.network import Floats, Network
from fastzoo.export.report import report
from fastzoo.export.shrink import describe as describe_cut
from fastzoo.export.shrink import shrunk
from fastzoo.export.size import weights_bytes
from fastzoo.export.sound import sound_graph
from fastzoo.export.source import Source, as_array, calibration_windows, resolve
from fastzoo.frontend import FrontEnd
from fastzoo.model import Model
from fastzoo.nn.published import seed_tensors

FORMATS = ("onnx", "c")
GOLDEN_WINDOWS = 12
CITATION = (
    "Kusupati, Singh, Bhatia, Kumar, Jain, Varma: FastGRNN: A Fast, Accurate, Stable and Tiny Kilobyte Sized Gated "
    "Recurrent Neural Network, NeurIPS 2018"
)
TIMED_WINDOWS = 600  # of every file
VERIFIED_WINDOWS = 512  # recorded windows that every file must answer like torch, besides the golden ones


def export(
    source: nn.Module | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    calibration: npt.ArrayLike | None = None,
    dataset: Dataset | str | None = None,
    labels: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    rate: float | None = None,
    name: str | None = None,
    summary: str | None = None,
    layouts: Sequence[str] | None = None,
    precisions: Sequence[str] = PRECISIONS,
    activations_in: Sequence[str] = ("unrolled",),
    state: str = "auto",
    activations: str = "uint8",
    percentile: float = 100.0,
    per_channel: bool = False,
    formats: Sequence[str] = ("onnx",),
    report: bool = False,
    inline: bool = False,
    overwrite: bool = False,
    frontend: FrontEnd | None = None,
    on_file: Callable[[str], None] = lambda name: None,
) -> Bundle:
    """Write a bundle: every layout in every precision, each file verified against torch before it is kept.

    Args:
        source: a trained classifier, a plain torch module (:func:`fastzoo.export.plain.plain_network` says which), a
            checkpoint folder of ``fastzoo train``, or its folder of several seeds (the one chosen on validation is
            exported), or a bundle, to be written in other layouts.
        out: the bundle's folder. It appears complete or not at all.
        calibration: raw windows [n, T, D] on which int8 ranges are found; default windows of the training split.
        dataset: a data set, or its id; gives calibration windows, labels, channels, rate, and the test split on which
            every file is evaluated. Default the checkpoint's, where it is prepared.
        labels: class names; default the data set's.
        channels: channel names with units; default the data set's.
        rate: samples per second; default the data set's.
        name: the bundle's name; default that of the recipe or of the folder.
        summary: one line on what the model does.
        layouts: of ``"fused"``, ``"scan"``, ``"unrolled"``, ``"step"``; default all that exist for the network.
        precisions: of ``"fp32"``, ``"int8"``.
        activations_in: layouts whose int8 files have 8-bit activations too; the others have int8 weights alone.
        state: how wide the state is in those: ``"8"`` bits, ``"fp32"``, or ``"auto"``, the narrowest that costs at most
            0.3 points of validation accuracy and changes the class of at most 1.5 % of windows.
        activations: ``"uint8"``, which x86 runs fast, or ``"int8"``, for Arm and accelerators.
        percentile: of what is seen in calibration that the ranges of activations hold; 100 = min-max.
        per_channel: a scale for each output channel of a matrix: more faithful, and some hundred bytes larger.
        formats: ``"onnx"``, and ``"c"`` for a C99 header of each precision beside it.
        report: write ``report.html``: the step's graph, kernels, sizes, latencies, and where errors come from.
        inline: write ``unrolled`` as a flat graph, for compilers without local functions.
        overwrite: replace an existing bundle.
        frontend: what makes windows from sound; default the data set's, or the one it was trained with. It is written
            as a graph of its own, ``frontend.onnx``.
        on_file: called with the name of each file before it is made.

    Raises:
        ExportError: the network cannot be exported, what is given does not fit it, a file failed verification, or
            ``out`` exists or cannot be written.
        TrainingError: the checkpoint is missing or damaged.
        BundleError: the name or another field is not what a bundle may hold.
    """
    target = Path(out)
    if target.exists() and not overwrite:
        raise ExportError(
            f"{target} exists already; choose another folder, or replace it with --force (overwrite=True)"
        )
    if target.exists() and not (target / bundle.FILE).is_file():
        raise ExportError(f"{target} is not a bundle, so it is not replaced; choose another folder")
    options = Options(
        tuple(layouts) if layouts else None, tuple(precisions), tuple(activations_in), state, activations,
        percentile, per_channel, tuple(formats), inline, report,
    )  # fmt: skip
    given = as_array(calibration)
    found = resolve(source, name, target, dataset, labels, channels, rate, given, frontend)
    network = found.network(found.net)
    forms(network, options.layouts, options.precisions)  # refuses what does not exist, before long work
    windows = calibration_windows(found, given)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            part = Path(folder) / "bundle"
            part.mkdir(mode=0o755)
            result = _Export(part, found, network, windows, options, on_file).write(summary)
            if target.exists():
                target.rename(Path(folder) / "replaced")  # goes with the temporary folder, once the new one is in place
            part.rename(target)
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error.strerror}; nothing was left behind") from error
    return result


@dataclass(frozen=True)
class Options:
    """The arguments of :func:`export` that say which files are made, and how.

    Raises:
        ExportError: one is out of range.
    """

    layouts: tuple[str, ...] | None
    precisions: tuple[str, ...]
    activations_in: tuple[str, ...]
    state: str
    activations: str
    percentile: float
    per_channel: bool
    formats: tuple[str, ...]
    inline: bool
    report: bool

    def __post_init__(self) -> None:
        in_loops = tuple(name for name in LAYOUTS if name != "fused")
        for what, wanted, known in (
            ("layout for 8-bit activations", self.activations_in, in_loops),
            ("type of activations", (self.activations,), ("uint8", "int8")),
            ("state width", (self.state,), STATES),
            ("format", self.formats, FORMATS),
        ):
            if unknown := [str(name) for name in wanted if name not in known]:
                why = ": the operator of fused computes in fp32" if unknown == ["fused"] else ""
                raise ExportError(f"unknown {what} {', '.join(unknown)}{why}; there are {', '.join(known)}")
        if not 90 <= self.percentile <= 100:
            raise ExportError(f"the percentile must lie between 90 and 100 (min-max), not {self.percentile:g}")

    @property
    def scheme(self) -> Scheme:
        """What all int8 files have in common."""
        return Scheme(
            method=Method(float(self.percentile)), per_channel=self.per_channel, signed=self.activations == "int8"
        )


@dataclass
class _Export:
    """The making of one bundle."""

    folder: Path
    source: Source
    network: Network  # as it was trained
    calibration: Floats
    options: Options
    on_file: Callable[[str], None]

    def write(self, summary: str | None) -> Bundle:
        """All files, measured in place, and at last ``bundle.json``."""
        source, network = self.source, self.network
        smaller = shrunk(network)
        builder = Builder(smaller, self.calibration, self.options.inline)
        wanted, choice = self._forms(builder)
        golden = _golden_windows(source, self.calibration)
        reference = _reference(source, golden, self.calibration)
        arrays = {"x": golden, "torch": reference.logits[: len(golden)]}
        files: dict[str, dict[str, LayoutFile]] = {}
        for form in wanted:
            self.on_file(form.file)
            file, logits = self._file(builder, form, reference, golden)
            files.setdefault(form.precision, {})[form.layout] = file
            arrays[f"{form.precision}/{form.layout}"] = logits
        int8 = {"fp32": None, "int8": self.options.scheme.weights}
        cut = describe_cut(network, smaller)
        made = Bundle(
            name=source.contract.name,
            version=source.bundle.get("version", "1.0.0"),
            summary=summary or source.bundle.get("summary") or describe.summary(source),
            cell={**describe.cell(source, network), **({"cut": cut} if cut else {})},
            pool=network.pool,
            input=Input(network.steps, source.contract.channels, source.contract.rate),
            labels=source.contract.labels,
            size=describe.size(source),
            weights=_save(self.folder / "weights.safetensors", safetensors.torch.save(_state(source.net))),
            seed_weights=self._seeds(),
            golden=_save(self.folder / "golden.npz", _npz(arrays)),
            precisions={p: Precision(weights_bytes(smaller, int8[p]), layouts) for p, layouts in files.items()},
            calibration={
                "sha256": sha256(self.calibration.tobytes()),
                "windows": len(self.calibration),
                "method": str(self.options.scheme.method),
                **choice,
            },
            dataset=describe.dataset(source),
            seeds=describe.seeds(source, wanted, self.calibration),
            training=source.training,
            environment=describe.environment(source),
            licences=describe.licences(source),
            frontend=source.contract.frontend,
            sound=self._sound(),
            headers=self._headers(smaller),
            citation=CITATION if network.cells[0].kind in ("fastrnn", "fastgrnn") else None,
        )
        bundle.write(made, self.folder)
        made = cross.checked(_measured(made, self.folder), self.folder)
        bundle.write(made, self.folder)
        if self.options.report:
            self.on_file("report.html")
            for name, content in report(made, builder, wanted, self.calibration).items():
                (self.folder / name).write_bytes(content)
        return made

    def _forms(self, builder: Builder) -> tuple[list[Form], Mapping[str, object]]:
        """What to make; the width of the state is chosen only where a file depends on it."""
        options, scheme = self.options, self.options.scheme
        choice: Mapping[str, object] = {}
        wanted = forms(builder.network, options.layouts, options.precisions, scheme, options.activations_in)
        if any(form.scheme and form.layout in options.activations_in for form in wanted):
            scheme, choice = choose(builder, scheme, options.state, self._judge())
            wanted = forms(builder.network, options.layouts, options.precisions, scheme, options.activations_in)
        return wanted, choice

    def _judge(self) -> Judge:
        dataset = self.source.dataset
        if dataset is not None and len(dataset.validation):
            return Judge(dataset.validation.x, dataset.validation.y, "validation split")
        return Judge(self.calibration, None, "calibration windows")

    def _file(
        self, builder: Builder, form: Form, reference: verify.Reference, golden: Floats
    ) -> tuple[LayoutFile, Floats]:
        """One ONNX file, verified and evaluated, and its golden answers."""
        source, model = self.source, builder.build(form)
        inscribe(model, source.contract, builder.network, form.layout, form.precision, form.quantization)
        checked = asdict(verify.verify(model, builder.network, form, reference))
        dataset = source.dataset
        if dataset is not None and len(dataset.validation) and form.layout != "step":
            found = describe.on_split(source, builder.network, form, model, dataset.validation, "validation")
            checked["validation_accuracy"] = found.accuracy
        record = LayoutFile(
            **asdict(_save(self.folder / form.file, model.SerializeToString(deterministic=True))),
            ir_version=IR_VERSION,
            opset=OPSET,
            operators=operators(model),
            quantization=form.quantization,
            session=form.session,
            verification=checked,
            metrics=describe.accuracy(source, builder.network, form, model),
        )
        return record, verify.answer(model, builder.network, form, golden)

    def _seeds(self) -> FileRecord | None:
        """The weights of all seeds, which their published spread can be measured on again."""
        if len(self.source.siblings) < 2:
            return None
        return _save(self.folder / "seeds.safetensors", safetensors.torch.save(seed_tensors(self.source.siblings)))

    def _sound(self) -> FileRecord | None:
        """The front end as a graph."""
        if self.source.contract.frontend is None:
            return None
        self.on_file("frontend.onnx")
        graph = sound_graph(self.source.contract.frontend)
        return _save(self.folder / "frontend.onnx", graph.SerializeToString(deterministic=True))

    def _headers(self, network: Network) -> Mapping[str, FileRecord]:
        """The C header of each precision."""
        if "c" not in self.options.formats:
            return {}
        contract, records = self.source.contract, {}
        for precision in self.options.precisions:
            name = f"{contract.name}-{precision}"
            file = f"{c_name(name)}.h"
            self.on_file(file)
            int8 = self.options.scheme.weights if precision == "int8" else None
            text = c_header(network, name, contract.labels, contract.channels, contract.rate, int8)
            records[precision] = _save(self.folder / file, text.encode())
        return records


def _state(net: nn.Module) -> dict[str, torch.Tensor]:
    """The trained tensors, each with memory of its own."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}


def _save(path: Path, content: bytes) -> FileRecord:
    path.write_bytes(content)
    return FileRecord(path.name, sha256(content), len(content))


def _npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The same arrays give the same bytes: unlike ``np.savez``, no time of day goes in."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.save(entry, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _golden_windows(source: Source, calibration: Floats) -> Floats:
    """Synthetic, seeded windows: plausible motion for a phone's channels, else smooth noise in the usual range."""
    if source.contract.channels == hapt.CHANNELS:
        labels = [name for name in hapt.CLASSES for _ in range(GOLDEN_WINDOWS // len(hapt.CLASSES))]
        return synthetic.motion(labels, source.steps, source.contract.rate)
    low, high = np.percentile(calibration, [1, 99], axis=(0, 1))
    return synthetic.windows(
        len(source.contract.channels), source.steps, source.contract.rate, GOLDEN_WINDOWS, 0, low, high
    )


def _reference(source: Source, golden: Floats, calibration: Floats) -> verify.Reference:
    """Torch's logits for the golden windows, and for recorded ones from the validation split or the calibration."""
    recorded = calibration
    if source.dataset is not None and len(source.dataset.validation):
        recorded = source.dataset.validation.x
    x = np.concatenate([golden, recorded[:: -(-len(recorded) // VERIFIED_WINDOWS)].astype(np.float32)])
    with torch.no_grad():
        logits = source.net(torch.from_numpy(x)).numpy()
    return verify.Reference(x, logits)


def _measured(content: Bundle, folder: Path) -> Bundle:
    """The bundle with the latency of each layout, all layouts and precisions timed in turns."""
    pairs = [
        (p, layout) for p, precision in content.precisions.items() for layout in precision.layouts if layout != "step"
    ]
    latencies = bench.measure_all([Model(folder, *pair) for pair in pairs], TIMED_WINDOWS)
    timed = dict(zip(pairs, latencies, strict=True))
    precisions = {
        p: replace(
            precision,
            layouts={
                layout: replace(file, latency=timed.get((p, layout))) for layout, file in precision.layouts.items()
            },
        )
        for p, precision in content.precisions.items()
    }
    return replace(content, precisions=precisions, measured_on=bench.describe_machine())
