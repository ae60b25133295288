"""From a trained network to a verified bundle."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from fastzoo import bench, bundle
from fastzoo._files import sha256
from fastzoo.bundle import Bundle, FileRecord, Input, LayoutFile, Precision
from fastzoo.data import Dataset, hapt, synthetic
from fastzoo.errors import ExportError
from fastzoo.export import describe, verify
from fastzoo.export.contract import inscribe
from fastzoo.export.graph import IR_VERSION, OPSET, operators
from fastzoo.export.layouts import PRECISIONS, Builder, Form, forms
from fastzoo.export.network import Floats, Network, from_torch
from fastzoo.export.source import Source, as_array, calibration_windows, resolve
from fastzoo.frontend import FrontEnd
from fastzoo.model import Model
from fastzoo.nn import SequenceClassifier

GOLDEN_WINDOWS = 12
CITATION = (
    "Kusupati, Singh, Bhatia, Kumar, Jain, Varma: FastGRNN: A Fast, Accurate, Stable and Tiny Kilobyte Sized Gated "
    "Recurrent Neural Network, NeurIPS 2018"
)
VERIFIED_WINDOWS = 512  # recorded windows that every file must answer like torch, besides the golden ones


def export(
    source: SequenceClassifier | str | os.PathLike[str],
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
    inline: bool = False,
    overwrite: bool = False,
    frontend: FrontEnd | None = None,
) -> Bundle:
    """Write a bundle: every layout in every precision, each file verified against torch before it is kept.

    Args:
        source: a trained classifier, a checkpoint folder of ``fastzoo train``, or its folder of several seeds (the
            one chosen on validation is exported).
        out: the bundle's folder. It appears complete or not at all.
        calibration: raw windows [n, T, D] on which int8 ranges are found; default windows of the training split.
        dataset: a data set, or its id; gives calibration windows, labels, channels, rate, and the test split on which
            every file is evaluated. Default the checkpoint's, where it is prepared.
        labels: class names; default the data set's.
        channels: channel names with units; default the data set's.
        rate: samples per second; default the data set's.
        name: the bundle's name; default that of the recipe or of the folder.
        summary: one line on what the model does.
        layouts: of ``"fused"``, ``"unrolled"``; default all that exist for the network.
        precisions: of ``"fp32"``, ``"int8"``.
        inline: write ``unrolled`` as a flat graph, for compilers without local functions.
        overwrite: replace an existing bundle.
        frontend: what makes windows from sound; default the data set's, or the one it was trained with.

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
    given = as_array(calibration)
    found = resolve(source, name, target, dataset, labels, channels, rate, given, frontend)
    network = from_torch(found.net, found.steps)
    wanted = forms(network, tuple(layouts) if layouts else None, tuple(precisions))
    windows = calibration_windows(found, given)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            part = Path(folder) / "bundle"
            part.mkdir(mode=0o755)
            result = _write(part, found, network, wanted, windows, inline, summary)
            if target.exists():
                target.rename(Path(folder) / "replaced")  # goes with the temporary folder, once the new one is in place
            part.rename(target)
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error.strerror}; nothing was left behind") from error
    return result


def _write(
    folder: Path,
    source: Source,
    network: Network,
    wanted: Sequence[Form],
    calibration: Floats,
    inline: bool,
    summary: str | None,
) -> Bundle:
    """All files of the bundle, measured in place, and at last ``bundle.json``."""
    builder = Builder(network, calibration, inline)
    golden = _golden_windows(source, calibration)
    reference = _reference(source, golden, calibration)
    arrays = {"x": golden, "torch": reference.logits[: len(golden)]}
    files: dict[str, dict[str, LayoutFile]] = {}
    for form in wanted:
        model = builder.build(form)
        inscribe(model, source.contract, network, form.layout, form.precision, form.quantization)
        checked = verify.verify(model, network, form.precision, form.session, reference)
        arrays[f"{form.precision}/{form.layout}"] = verify.answer(model, network, form.session, golden)
        files.setdefault(form.precision, {})[form.layout] = LayoutFile(
            **asdict(_save(folder / form.file, model.SerializeToString(deterministic=True))),
            ir_version=IR_VERSION,
            opset=OPSET,
            operators=operators(model),
            quantization=form.quantization,
            session=form.session,
            verification=asdict(checked),
            metrics=describe.accuracy(source, network, form, model),
        )
    result = Bundle(
        name=source.contract.name,
        version=source.bundle.get("version", "1.0.0"),
        summary=summary or source.bundle.get("summary") or describe.summary(source),
        cell=source.net.rnn.config() | {"zeta": network.cell.zeta, "nu": network.cell.nu},
        pool=network.pool,
        input=Input(network.steps, source.contract.channels, source.contract.rate),
        labels=source.contract.labels,
        size=describe.size(source),
        weights=_save(folder / "weights.safetensors", safetensors.torch.save(source.net.state_dict())),
        golden=_save(folder / "golden.npz", _npz(arrays)),
        precisions={p: Precision(describe.weights_bytes(source, p), layouts) for p, layouts in files.items()},
        calibration={"sha256": sha256(calibration.tobytes()), "windows": len(calibration), "method": "min-max"},
        dataset=describe.dataset(source),
        seeds=describe.seeds(source, wanted, calibration),
        training=source.training,
        environment=describe.environment(source),
        licences=describe.licences(source),
        frontend=source.contract.frontend,
        citation=CITATION,
    )
    bundle.write(result, folder)
    result = _measured(result, folder)
    bundle.write(result, folder)
    return result


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
    pairs = [(p, layout) for p, precision in content.precisions.items() for layout in precision.layouts]
    latencies = bench.measure_all([Model(folder, *pair) for pair in pairs])
    timed = dict(zip(pairs, latencies, strict=True))
    precisions = {
        p: replace(
            precision,
            layouts={layout: replace(file, latency=timed[p, layout]) for layout, file in precision.layouts.items()},
        )
        for p, precision in content.precisions.items()
    }
    return replace(content, precisions=precisions, measured_on=bench.describe_machine())
