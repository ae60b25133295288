"""Distillation: a small network learns what larger ones, or many, answer, beside the labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015: the answers of the teachers are softened
by a temperature, and so say which classes a window resembles, not only which one it is of. Teachers see each window
augmented as the student sees it (Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR
2022): of the recorded ones, which they were trained on, they are too sure to say more than the labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from fastzoo import bundle, registry
from fastzoo._values import is_number
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.nn import SequenceClassifier, from_bundle, seeds_from_bundle
from fastzoo.train import checkpoint, seeds_run


@dataclass(frozen=True)
class Distillation:
    """Whom to learn from, and how much.

    Args:
        teachers: folders of runs, folders of bundles, or names of models of the registry. Each answers with all the
            seeds that it has, and their mean is learnt.
        weight: share of the loss that compares with the teachers; what is left compares with the labels.
        temperature: what logits are divided by before they are compared; the higher, the more the lesser classes count.

    Raises:
        ValueError: settings have the wrong type or are out of range, all of them in one message.
    """

    teachers: tuple[str, ...] = ()
    weight: float = 0.7
    temperature: float = 2.0

    def __post_init__(self) -> None:
        given: object = self.teachers
        if isinstance(given, list):  # as TOML gives it
            object.__setattr__(self, "teachers", tuple(given))
        names = isinstance(self.teachers, tuple) and all(isinstance(name, str) and name for name in self.teachers)
        faults = [
            f"distillation.{name} must be {wanted}, not {getattr(self, name)!r}"
            for name, good, wanted in (
                ("teachers", names, "names of models, or folders of runs or bundles"),
                ("weight", is_number(self.weight, 0, 1) and self.weight > 0, "a share of the loss, in (0, 1]"),
                ("temperature", is_number(self.temperature, 1), "a number of at least 1"),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(faults))

    def __bool__(self) -> bool:
        """Whether there is anybody to learn from."""
        return bool(self.teachers)

    def loss(self, logits: Tensor, answers: Tensor, labelled: Tensor, weights: Tensor | None) -> Tensor:
        """Both losses as one; the teachers' part is as large as the labels' whatever the temperature.

        Args:
            logits: of the student [N, C].
            answers: of the :class:`Teachers` to the same windows [N, C].
            labelled: the loss against the labels.
            weights: how much each window counts [N]; None = all the same.
        """
        softened = log_softmax(logits / self.temperature, dim=1)
        each = kl_div(softened, answers, reduction="none").sum(dim=1)  # [N]
        taught = each.mean() if weights is None else (weights * each).sum() / weights.sum()
        return (1 - self.weight) * labelled + self.weight * self.temperature**2 * taught


@dataclass(frozen=True)
class _Teacher:
    name: str
    nets: tuple[SequenceClassifier, ...]
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    settings: Mapping[str, Any]

    def faults(self, dataset: Dataset, held_out: Mapping[str, Any] | None) -> Iterable[str]:
        """Why it cannot teach on these windows; ``held_out`` says which training subjects the student may not see."""
        if self.classes != tuple(dataset.classes):
            yield f"{self.name} knows the classes {', '.join(self.classes)}"
        if self.channels != tuple(dataset.channels):
            yield f"{self.name} takes the channels {', '.join(self.channels)}"
        elif fault := self.nets[0].misfit(dataset.x.shape[1]):
            yield f"{self.name}: {fault}"
        if held_out and {key: self.settings.get(key) for key in held_out} != held_out:
            yield (
                f"{self.name} was trained on subjects that are held out here, so that validation would flatter: train "
                f"it with {' and '.join(f'{key} = {value}' for key, value in held_out.items())}, or hold out none "
                "(validation_fraction = 0)"
            )


class Teachers:
    """The networks that are learnt from.

    Args:
        distillation: their names, and the temperature.
        dataset: that is trained on, with its validation split.
        held_out: the settings that chose the validation split from the training subjects; None = it has its own.

    Raises:
        TrainingError: a teacher's classes, channels or windows are not those of the data set, or it saw what is held
            out; all faults in one message.
        UnknownModelError: no run, bundle or model has the name.
        BundleError: a teacher's bundle is faulty.
    """

    def __init__(self, distillation: Distillation, dataset: Dataset, held_out: Mapping[str, Any] | None) -> None:
        teachers = [_load(name) for name in distillation.teachers]
        if faults := [fault for teacher in teachers for fault in teacher.faults(dataset, held_out)]:
            raise TrainingError(
                f"cannot learn {dataset.id!r} ({', '.join(dataset.classes)}; {', '.join(dataset.channels)}) from "
                "these teachers: " + "; ".join(faults)
            )
        self.temperature = distillation.temperature
        self.nets = [net.requires_grad_(False) for teacher in teachers for net in teacher.nets]
        self.sha256 = {teacher.name: _digest(teacher.nets) for teacher in teachers}

    def __call__(self, x: Tensor) -> Tensor:
        """What they answer to windows [N, T, D]: the mean of their softened probabilities [N, C]."""
        with torch.no_grad():
            return torch.stack([(net(x) / self.temperature).softmax(dim=1) for net in self.nets]).mean(dim=0)


def digests(teachers: Iterable[str]) -> dict[str, str]:
    """Of the weights of each, by its name: what a run records of those that taught it.

    Raises:
        UnknownModelError: no run, bundle or model has the name.
        BundleError: a teacher's bundle is faulty.
    """
    return {name: _digest(_load(name).nets) for name in teachers}


def _load(name: str) -> _Teacher:
    """A run's folder, a bundle's, or a model of the registry."""
    path = Path(name)
    if seeds_run.is_run(path):
        run = seeds_run.load(path)
        return _of_checkpoints(name, [checkpoint.load(folder) for folder in run.folders.values()])
    if (path / checkpoint.NAME).is_file():
        return _of_checkpoints(name, [checkpoint.load(path)])
    folder = registry.whole_bundle(name)
    content = bundle.read(folder)
    nets = tuple(seeds_from_bundle(folder).values()) or (from_bundle(folder),)
    settings = (content.training or {}).get("settings", {})
    return _Teacher(name, nets, content.labels, content.input.channels, settings)


def _of_checkpoints(name: str, saved: Sequence[checkpoint.Checkpoint]) -> _Teacher:
    first = saved[0]
    nets = tuple(one.net for one in saved)
    classes, channels = tuple(first.data["classes"]), tuple(first.data["channels"])
    return _Teacher(name, nets, classes, channels, first.training["settings"])


def _digest(nets: Iterable[SequenceClassifier]) -> str:
    """Of all their weights."""
    digest = hashlib.sha256()
    for net in nets:
        for key, value in net.state_dict().items():
            digest.update(f"{key}{tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
