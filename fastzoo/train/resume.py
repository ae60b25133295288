"""Where a run stands after each epoch, on disk: what is killed can go on and end with the same bits.

One safetensors file an epoch, which carries its JSON part and a digest of all of it in its header; it appears whole or
not at all. The last two are kept: should the newest be damaged, the run goes on from the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from fastzoo import _files
from fastzoo.errors import TrainingError

logger = logging.getLogger(__name__)

KEPT = 2
_NAME = re.compile(r"resume-(\d{6})\.safetensors")


def save(folder: Path, epoch: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write the state after an epoch, and delete all but the one before.

    Args:
        folder: of the run.
        epoch: counted from 1.
        tensors: by name.
        record: the rest, JSON-able.

    Raises:
        TrainingError: the folder cannot be written; what was there is untouched.
    """
    content = {name: tensor.contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record)
    data = safetensors.torch.save(content, {"record": text, "sha256": _digest(content, text)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _files.write(folder / f"resume-{epoch:06}.safetensors", data)
        for _, path in list(_states(folder))[KEPT:]:
            path.unlink()
    except OSError as error:
        raise TrainingError(
            f"cannot write to {folder}: {error.strerror}. Free some space and go on with --resume: the epochs so far, "
            "and the best weights, are kept"
        ) from error


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest state that is whole, or None where there is none; damaged ones are logged."""
    for epoch, path in _states(folder):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            logger.warning("%s is damaged (%s): going on from the state before epoch %d", path, error, epoch)
    return None


def clear(folder: Path) -> None:
    """Delete what an earlier run left."""
    for _, path in _states(folder):
        path.unlink()


def _states(folder: Path) -> Iterator[tuple[int, Path]]:
    """Epoch and file of each state, newest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("resume-*.safetensors"))
    yield from sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    if _digest(tensors, header["record"]) != header["sha256"]:
        raise ValueError("its digest is not that of its content")
    record: dict[str, Any] = json.loads(header["record"])
    return tensors, record


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
