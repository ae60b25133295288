"""A small task with whole subjects in every split: three kinds of motion of ten made-up people."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fastzoo.data import Dataset
from fastzoo.data.hapt import CHANNELS
from fastzoo.data.synthetic import motion
from fastzoo.nn import FastGRNN, SequenceClassifier
from fastzoo.train import Augmentation, ModelConfig, Run, Settings, fit

CLASSES = ("walking", "standing", "laying")
PEOPLE, WINDOWS_EACH, STEPS, RATE = 10, 30, 24, 25.0
TEST_PEOPLE = (8, 9)

MODEL = ModelConfig(hidden_size=12, w_rank=4, u_rank=6, gate_bias=(0, 3), pool=8)
QUICK = Settings(batch_size=32, learning_rate=0.03)


def motions() -> Dataset:
    """300 windows; people 8 and 9 are the test split, validation is left to `fit`."""
    rows = np.arange(PEOPLE * WINDOWS_EACH, dtype=np.int64)
    y, group = rows % len(CLASSES), rows // WINDOWS_EACH
    return Dataset(
        id="made-up-motion",
        x=motion([CLASSES[i] for i in y], STEPS, RATE),
        y=y,
        group=group,
        split=np.where(np.isin(group, TEST_PEOPLE), 2, 0).astype(np.uint8),
        classes=CLASSES,
        channels=CHANNELS,
        rate=RATE,
    )


def network(seed: int = 0, pool: int = 8, classes: int = 3, channels: int = 6) -> SequenceClassifier:
    """A classifier with seeded weights; it fits the task where nothing else is asked for."""
    torch.manual_seed(seed)
    return SequenceClassifier(FastGRNN(channels, 12, w_rank=4, u_rank=6, nu=0.0, gate_bias=(0, 3)), classes, pool)


def fit_quickly(net: SequenceClassifier, dataset: Dataset, **arguments: Any) -> Run:
    """Train on the small task with settings that suit it."""
    return fit(net, dataset, QUICK, progress=False, **arguments)


def weights(net: SequenceClassifier) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def with_misled_validation(dataset: Dataset) -> Dataset:
    """Validation labels are wrong on purpose, so that what is learned makes validation worse."""
    shown = dataset.with_validation()
    return replace(shown, y=np.where(shown.split == 1, (shown.y + 1) % len(CLASSES), shown.y))


def every_epoch_equal(dataset: Dataset) -> Dataset:
    """Two opposite labels for one validation window: every epoch is as good, so the last one is kept."""
    first = np.flatnonzero(dataset.split == 1)[0]
    rows = np.flatnonzero(dataset.split != 1)
    rows = np.concatenate([rows, [first] * len(CLASSES)])
    y = np.concatenate([dataset.y[rows[: -len(CLASSES)]], np.arange(len(CLASSES))])
    return replace(dataset, x=dataset.x[rows], y=y, group=dataset.group[rows], split=dataset.split[rows])


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder.

    But for the events that TensorBoard reads, which hold times, and for what a killed process was about to write.
    """
    return {
        str(path.relative_to(folder)): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts and not path.name.startswith(".")
    }


def _content(path: Path) -> bytes:
    """The bytes of a file; of a state whose header is whole what they mean, since the header has no fixed order."""
    if path.name.startswith("resume-"):
        with suppress(safetensors.SafetensorError), safetensors.safe_open(path, "pt") as file:
            tensors = safetensors.torch.save({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return tensors + json.dumps(file.metadata(), sort_keys=True).encode()
    return path.read_bytes()


class Event(Augmentation):
    """No augmentation, but something happens to batch number ``at``, counted from 1."""

    def __init__(self, at: int, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        batches = itertools.count(1)
        object.__setattr__(self, "apply", lambda x: what(x) if next(batches) == at else x)

    def __call__(self, x: Tensor, *others: Any) -> Tensor:
        changed: Tensor = vars(self)["apply"](x)
        return changed
