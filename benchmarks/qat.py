"""Quantization-aware training against post-training quantization: what 8 bits cost on validation windows.

    python benchmarks/qat.py [digits] [har]

Each seed is trained once up to its last phase; from there it goes on three times: in fp32, with the weights rounded,
and with weights and activations rounded as the exporter rounds them. What counts are the answers of the exported files
in onnxruntime, made of the last weights of each, without a choice among epochs; behind the points lost stands the
standard error of their mean. One window of `digits` is 0.28 points: hence 40 seeds, in two minutes. `har`, 24 epochs on
3 seeds, takes some five and needs the prepared data set.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, replace

import numpy as np
import torch
from timing import show, verdict

from fastzoo import data
from fastzoo.data import Dataset
from fastzoo.export import verify
from fastzoo.export.from_torch import from_torch
from fastzoo.export.layouts import PRECISIONS, Builder, forms
from fastzoo.nn import SequenceClassifier
from fastzoo.train import Augmentation, ModelConfig, Settings
from fastzoo.train.qat import FakeQuantizer, calibration_rows
from fastzoo.train.trainer import Trainer

FILES = {"fp32": ("fp32", "unrolled"), "W8": ("int8", "fused"), "W8A8": ("int8", "unrolled")}
WAYS = ("after training", "weights in training", "weights and activations in training")


@dataclass(frozen=True)
class Task:
    """What is trained, and on how many seeds."""

    model: ModelConfig
    settings: Settings
    seeds: int


TASKS = {
    "digits": Task(ModelConfig(hidden_size=32, w_rank=6, u_rank=8), Settings(epochs=60, average=0.95), 40),
    "har": Task(
        ModelConfig(hidden_size=52, w_rank=6, u_rank=20, gate_bias=(0.0, 4.0), pool=64),
        Settings(epochs=24, average=0.99, at_rest=0.5, augmentation=Augmentation(rotate=0.25, scale=0.1)),
        3,
    ),
}


def accuracies(net: SequenceClassifier, dataset: Dataset) -> list[float]:
    """Validation accuracy of the exported files, in percent."""
    network = from_torch(net.eval(), dataset.x.shape[1])
    builder = Builder(network, dataset.train.x[calibration_rows(len(dataset.train))].astype(np.float32))
    found = []
    for file in FILES.values():
        form = next(form for form in forms(network, None, PRECISIONS) if (form.precision, form.layout) == file)
        x, y = dataset.validation.x.astype(np.float32), dataset.validation.y
        logits = verify.answer(builder.build(form), network, form, x)
        found.append(100 * float((logits.argmax(1) == y).mean()))
    return found


def one_seed(task: Task, dataset: Dataset, seed: int) -> list[list[float]]:
    """Accuracies [way, file]."""
    settings = replace(task.settings, seed=seed)
    dense = round(settings.epochs * settings.sparsity.end)

    def trainer() -> Trainer:
        torch.manual_seed(seed)
        return Trainer(task.model.build(dataset, seed), dataset.train, dataset.channels, settings)

    first = trainer()
    for _ in range(dense):
        first.epoch(lambda loss: None)
    calibration = first.x[calibration_rows(len(first.x))]
    found = []
    for activations in (None, False, True):
        branch = trainer()
        branch.restore(*copy.deepcopy(first.state()))
        if activations is not None:
            branch.quantizer = FakeQuantizer(branch.net, calibration, activations)
        for _ in range(settings.epochs - dense):
            branch.epoch(lambda loss: None)
        found.append(accuracies(branch.judged, dataset))
    return found


def main() -> None:
    torch.set_num_threads(1)
    for id in sys.argv[1:] or ["digits"]:
        task, dataset = TASKS[id], data.load(id).with_validation()
        found = np.array([one_seed(task, dataset, seed) for seed in range(task.seeds)])  # [seed, way, file]
        fp32 = found[:, 0, 0]
        rows = []
        for column, file in enumerate(FILES):
            for row, way in enumerate(WAYS if column else ("",)):
                values = found[:, row, column]
                lost, plainly = fp32 - values, (fp32 - found[:, 0, column]).mean()
                error = lost.std(ddof=1) / len(lost) ** 0.5
                limit = round(max(0.1, plainly / 2), 3)
                said = f"{lost.mean():.2f} points" if row == 0 else verdict(lost.mean(), limit, " points")
                figures = [f"{value:.2f} %" for value in (values.mean(), values.std(ddof=1), values.min())]
                name = f"{file}, rounded {way}" if column else file
                rows.append([name, *figures, *((said, f"{error:.2f}") if column else ("", ""))])
        title = f"{id}, {len(dataset.validation)} validation windows, seeds 0 to {task.seeds - 1}"
        show(title, ["", "mean", "std", "worst", "lost to fp32", "±"], rows)


if __name__ == "__main__":
    main()
