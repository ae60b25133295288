"""The torch networks of a bundle, from the weights that it ships: to train on, to teach with, to export otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from fastzoo import bundle
from fastzoo.bundle import Bundle, FileRecord
from fastzoo.errors import BundleError, require
from fastzoo.nn.classifier import SequenceClassifier

_LEARNT = ("zeta", "nu", "alpha", "beta")  # scalars that a cell may train


def from_bundle(folder: str | os.PathLike[str]) -> SequenceClassifier:
    """The published network of a bundle, ready to answer.

    Args:
        folder: of the bundle, with its ``weights.safetensors``.

    Raises:
        BundleError: the bundle is faulty, its weights are not what it says, or it is of no cell of ours.
        MissingExtraError: safetensors is not installed.
    """
    content = bundle.read(folder)
    return _network(content, _tensors(folder, content.weights), folder)


def seeds_from_bundle(folder: str | os.PathLike[str]) -> dict[int, SequenceClassifier]:
    """The networks of all seeds that were trained for a bundle, by seed; empty where it does not ship them.

    Args:
        folder: of the bundle, with its ``seeds.safetensors``.

    Raises:
        BundleError: as :func:`from_bundle` does.
        MissingExtraError: safetensors is not installed.
    """
    content = bundle.read(folder)
    if content.seed_weights is None:
        return {}
    each: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _tensors(folder, content.seed_weights).items():
        prefix, _, own = name.partition(".")
        seed = prefix.removeprefix("seed-")
        if not seed.isdecimal():
            raise BundleError(f"{Path(folder) / content.seed_weights.file} holds {name!r}, which is of no seed")
        each.setdefault(int(seed), {})[own] = tensor
    return {seed: _network(content, each[seed], folder) for seed in sorted(each)}


def seed_tensors(networks: Mapping[int, SequenceClassifier]) -> dict[str, Tensor]:
    """What :func:`seeds_from_bundle` takes apart: the tensors of several seeds, ``seed-<n>.<tensor>``."""
    return dict(_named(networks))


def _named(networks: Mapping[int, SequenceClassifier]) -> Iterator[tuple[str, Tensor]]:
    for seed, net in networks.items():
        for name, tensor in net.state_dict().items():
            yield f"seed-{seed}.{name}", tensor.detach().cpu().contiguous().clone()


def _tensors(folder: str | os.PathLike[str], record: FileRecord) -> dict[str, Tensor]:
    require("safetensors", extra="train", purpose="reading the weights of a bundle")
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load(bundle.read_file(folder, record))
    except safetensors.SafetensorError as error:
        raise BundleError(f"{Path(folder) / record.file} is not a safetensors file: {error}") from error


def _network(content: Bundle, tensors: Mapping[str, Tensor], folder: str | os.PathLike[str]) -> SequenceClassifier:
    config = {key: value for key, value in content.cell.items() if key not in ("cut", "brick")}
    for name in _LEARNT:
        if any(key.endswith(f".{name}_logit") for key in tensors):
            config[name] = None  # it was trained, and is among the weights
    try:
        brick = content.cell["input_size"] // len(content.input.channels)
        ends = {"num_classes": len(content.labels), "pool": content.pool, "brick": brick}
        net = SequenceClassifier.from_config({"cell": config, **ends})
        net.load_state_dict(dict(tensors))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"the network of the bundle {folder} cannot be built again ({error}): use its checkpoint or module"
        ) from error
    return net.eval()
