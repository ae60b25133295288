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
from fastzoo.data import Split
from fastzoo.export import size as sizes
from fastzoo.export import verify
from fastzoo.export.layouts import Builder, Form
from fastzoo.export.network import Floats, Network
from fastzoo.export.source import Source
from fastzoo.nn import SequenceClassifier, model_size


def size(source: Source) -> Size:
    """What :func:`fastzoo.nn.model_size` counts."""
    if isinstance(source.net, SequenceClassifier):
        return Size(**vars(model_size(source.net, source.steps)))
    return sizes.size(source.network(source.net))


def cell(source: Source, network: Network) -> Mapping[str, Any]:
    """The recurrent module's configuration, and the samples it reads in a step; of one cell its trained scalars."""
    if not isinstance(source.net, SequenceClassifier):
        one = network.cells[0]
        return {
            "type": one.kind, "input_size": one.input_size, "hidden_size": one.hidden_size,
            "num_layers": len(network.layers), "bidirectional": network.directions == 2,
        }  # fmt: skip
    config = source.net.rnn.config() | ({"brick": network.brick} if network.brick > 1 else {})
    return config | (dict(network.cells[0].scalars) if len(network.cells) == 1 else {})


def accuracy(source: Source, network: Network, form: Form, model: onnx.ModelProto) -> Metrics | None:
    """Metrics of one file on the test split; None where there is none.

    The layout ``step`` answers like the others, window by window: what it is for are streams.
    """
    if source.dataset is None or not len(source.dataset.test) or form.layout == "step":
        return None
    return on_split(source, network, form, model, source.dataset.test, "test")


def on_split(source: Source, network: Network, form: Form, model: onnx.ModelProto, split: Split, name: str) -> Metrics:
    """Metrics of one file on a split."""
    logits = verify.answer(model, network, form, split.x.astype(np.float32))
    return metrics.evaluate(logits.argmax(1), split.y, source.contract.labels, name)


def seeds(source: Source, wanted: Sequence[Form], calibration: Floats) -> Mapping[str, Any] | None:
    """Test accuracy of every seed in each form, with mean, spread and worst; None for a single seed."""
    if len(source.siblings) < 2 or source.dataset is None or not len(source.dataset.test):
        return source.seeds
    record: dict[str, Any] = {"seeds": list(source.siblings), "chosen": source.seed, "split": "test"}
    for form in wanted:
        values = []
        for net in source.siblings.values():
            builder = Builder(source.network(net), calibration)
            result = accuracy(source, builder.network, form, builder.build(form))
            if result:
                values.append(result.accuracy)
        if not values:
            continue
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
    config = cell(source, source.network(source.net))
    classes = f"{len(source.contract.labels)} classes"
    return f"{config['type']} with {config['hidden_size']} units, {classes}, {len(source.contract.channels)} channels"
