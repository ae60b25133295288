"""Checkpoints: a folder with ``checkpoint.json`` and the weights it names (safetensors).

The weights' file name carries their digest, and ``checkpoint.json`` is replaced last, in one step. So whatever
moment the process dies at, the JSON names weights that are whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

import fastzoo
from fastzoo import _files, _json, bench
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.frontend import FrontEnd
from fastzoo.nn import SequenceClassifier

NAME = "checkpoint.json"
SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and everything that is known about its training."""

    net: SequenceClassifier
    data: dict[str, Any]  # id, sha256, steps, channels, rate, classes, and frontend where there is one
    training: dict[str, Any]  # settings, epoch, validation metrics
    environment: dict[str, str]


@dataclass(frozen=True)
class _Weights:
    file: str
    sha256: str


@dataclass(frozen=True)
class DataRecord:
    """What a checkpoint says of the data behind it; ``sha256`` is empty where nobody had it at hand."""

    id: str
    sha256: str
    steps: int
    channels: tuple[str, ...]
    rate: float
    classes: tuple[str, ...]
    frontend: FrontEnd | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> DataRecord:
        """The record of a data set."""
        return cls(
            dataset.id,
            dataset.sha256,
            dataset.x.shape[1],
            dataset.channels,
            dataset.rate,
            tuple(dataset.classes),
            dataset.frontend,
        )


@dataclass(frozen=True)
class _Settings:
    validation_fraction: float
    validation_seed: int
    seed: int


@dataclass(frozen=True)
class _Training:
    settings: _Settings
    bundle: Mapping[str, str]


@dataclass(frozen=True)
class _Record:
    """What a reader of ``checkpoint.json`` relies on."""

    weights: _Weights
    model: Mapping[str, Any]
    data: DataRecord
    training: _Training
    environment: Mapping[str, str]


def save(
    folder: Path,
    net: SequenceClassifier,
    data: DataRecord,
    training: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write the checkpoint, replacing an older one in the folder.

    Args:
        folder: made if need be.
        net: the network.
        data: what it was trained on, as it was given.
        training: settings, epoch, validation metrics; JSON-able.
        environment: versions it was trained with; None = this machine's.

    Raises:
        TrainingError: the folder cannot be written; the older checkpoint, if any, is still whole.
    """
    weights = safetensors.torch.save({name: value.contiguous() for name, value in net.state_dict().items()})
    digest = hashlib.sha256(weights).hexdigest()
    file = f"weights-{digest[:12]}.safetensors"
    record = {
        "schema": SCHEMA,
        "weights": {"file": file, "sha256": digest},
        "model": net.config(),
        "data": {key: value for key, value in asdict(data).items() if value is not None},
        "training": dict(training),
        "environment": this_environment() if environment is None else dict(environment),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _files.write(folder / file, weights)
        _files.write(folder / NAME, (json.dumps(record, indent=2) + "\n").encode())
        for old in os.listdir(folder):  # a list at once: Ctrl-C must not leave an open iterator behind
            if old != file and re.fullmatch(r"weights-[0-9a-f]{12}\.safetensors", old):
                (folder / old).unlink()
    except OSError as error:
        raise TrainingError(
            f"cannot write the checkpoint to {folder}: {error.strerror}. Free some space or choose another folder; "
            "an earlier checkpoint there is untouched."
        ) from error


def load(folder: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint folder and check it.

    Raises:
        TrainingError: the folder holds no checkpoint, or it is damaged or from a newer version.
    """
    path = Path(folder) / NAME
    try:
        record = _json.parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise TrainingError(f"no checkpoint in {folder}: there is no {NAME}. `fastzoo train` writes one.") from None
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is damaged: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise TrainingError(f"{path} is not a checkpoint of schema {SCHEMA}; update fastzoo or train again")
    if faults := list(_json.faults(record, _Record)):
        raise TrainingError(f"{path} is damaged: {_json.listing(faults)}; train again")
    try:
        net = SequenceClassifier.from_config(record["model"])
        net.load_state_dict(_weights(path.parent, record["weights"]))
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} does not describe a model of this version: {error}") from error
    net.eval()
    return Checkpoint(net, record["data"], record["training"], record["environment"])


def _weights(folder: Path, record: Mapping[str, str]) -> dict[str, torch.Tensor]:
    name = record["file"]
    if Path(name).name != name:
        raise TrainingError(f"{folder / NAME} names weights outside its folder: {name!r}")
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise TrainingError(f"cannot read the weights {folder / name}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise TrainingError(f"{folder / name} is damaged: its sha256 is not the one in {NAME}")
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise TrainingError(f"{folder / name} is not a safetensors file: {error}") from error


def this_environment() -> dict[str, str]:
    """Versions and kind of machine, which can change the last bits of a result."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpu": bench.describe_machine().cpu,
        "threads": str(torch.get_num_threads()),
        "fastzoo": fastzoo.__version__,
    }
