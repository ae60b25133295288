"""What ``bundle.json`` says about a network besides its files: sizes, accuracy, where it comes from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

import fastzoo
from fastzoo import data, metrics
from fastzoo.bundle import DatasetRecord, Licences, Metrics, Size
from fastzoo.export import verify
from fastzoo.export.layouts import Builder, Form
from fastzoo.export.network import Floats, Network, from_torch
from fastzoo.export.source import Source
from fastzoo.nn import model_size


def size(source: Source) -> Size:
    """What :func:`fastzoo.nn.model_size` counts."""
    return Size(**vars(model_size(source.net, source.steps)))


def weights_bytes(source: Source, precision: str) -> int:
    """Bytes of the trained numbers as they are stored: matrices in int8 have one scale each, biases are fp32."""
    counted = model_size(source.net)
    return counted.dense_bytes if precision == "fp32" else counted.int8_bytes


def accuracy(source: Source, network: Network, form: Form, model: onnx.ModelProto) -> Metrics | None:
    """Metrics of one file on the test split; None where there is none."""
    if source.dataset is None or not len(source.dataset.test):
        return None
    test = source.dataset.test
    logits = verify.answer(model, network, form.session, test.x.astype(np.float32))
    return metrics.evaluate(logits.argmax(1), test.y, source.contract.labels, "test")


def seeds(source: Source, wanted: Sequence[Form], calibration: Floats) -> Mapping[str, Any] | None:
    """Test accuracy of every seed in each form, with mean, spread and worst; None for a single seed."""
    if len(source.siblings) < 2 or source.dataset is None or not len(source.dataset.test):
        return None
    record: dict[str, Any] = {"seeds": list(source.siblings), "chosen": source.seed, "split": "test"}
    for form in wanted:
        values = []
        for net in source.siblings.values():
            network = from_torch(net, source.steps)
            result = accuracy(source, network, form, Builder(network, calibration).build(form))
            values.append(result.accuracy if result else float("nan"))
        record[f"{form.precision}/{form.layout}"] = {
            "accuracy": values,
            "mean": statistics.mean(values),
            "std": statistics.stdev(values),
            "worst": min(values),
        }
    return record


def dataset(source: Source) -> DatasetRecord | None:
    """Which data the network was trained on, in which variant and under which terms."""
    if source.dataset is None:
        return None
    about = data.about(source.dataset.id)
    return DatasetRecord(
        id=source.dataset.id,
        variant=about.variant if about else None,
        sha256=source.data_sha256 or source.dataset.sha256,
        licence=about.licence if about else None,
        citation=about.citation if about else None,
    )


def licences(source: Source) -> Licences:
    """Code, weights and data are three things."""
    about = data.about(source.dataset.id) if source.dataset else None
    return Licences(
        code="Apache-2.0",
        weights=source.bundle.get("weights_licence", "not stated by their owner"),
        data=about.licence if about else None,
    )


def environment(source: Source) -> Mapping[str, Any]:
    """What the network was trained and exported with."""
    return {
        "training": dict(source.environment or {}),
        "export": {
            "fastzoo": fastzoo.__version__,
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def summary(source: Source) -> str:
    """A line for bundles whose maker gave none."""
    config = source.net.rnn.config()
    classes = f"{len(source.contract.labels)} classes"
    return f"{config['type']} with {config['hidden_size']} units, {classes}, {len(source.contract.channels)} channels"
