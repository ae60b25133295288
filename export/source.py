"""What can be exported: a torch classifier, a checkpoint folder, or a run of several seeds."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from fastzoo import _json, data
from fastzoo import bundle as bundles
from fastzoo.data import Dataset
from fastzoo.errors import DataError, ExportError
from fastzoo.export.contract import Contract
from fastzoo.export.from_torch import from_torch
from fastzoo.export.network import Network
from fastzoo.export.plain import plain_network
from fastzoo.frontend import FrontEnd, faults, misfits
from fastzoo.nn import SequenceClassifier, from_bundle, seeds_from_bundle
from fastzoo.train import checkpoint, seeds_run
from fastzoo.train.qat import calibration_rows


@dataclass(frozen=True)
class Source:
    """A network and all that is known about it."""

    net: nn.Module  # a SequenceClassifier, or plain torch
    contract: Contract
    steps: int
    dataset: Dataset | None = None
    training: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None
    data_sha256: str | None = None
    seed: int | None = None
    siblings: Mapping[int, SequenceClassifier] = field(default_factory=dict)  # the networks of all seeds
    bundle: Mapping[str, str] = field(default_factory=dict)  # what the recipe says about the published bundle
    seeds: Mapping[str, Any] | None = None  # what an earlier export measured of all seeds

    def network(self, net: nn.Module) -> Network:
        """A network of this source as arrays.

        Raises:
            ExportError: it cannot be exported.
        """
        return arrays(net, self.steps)


def arrays(net: nn.Module, steps: int) -> Network:
    """A classifier of ours or of plain torch as arrays, for windows of ``steps`` steps."""
    return from_torch(net, steps) if isinstance(net, SequenceClassifier) else plain_network(net, steps)


def resolve(
    source: nn.Module | str | os.PathLike[str],
    name: str | None,
    folder: Path,
    dataset: Dataset | str | None,
    labels: Sequence[str] | None,
    channels: Sequence[str] | None,
    rate: float | None,
    calibration: npt.NDArray[Any] | None,
    frontend: FrontEnd | None = None,
) -> Source:
    """Collect what the exporter needs from its arguments; what is given beats what a checkpoint or data set says.

    Raises:
        ExportError: labels, channels, rate, front end or windows do not fit the network, or windows are missing.
        TrainingError: the checkpoint is missing or damaged.
    """
    found: Source | None = None
    if not isinstance(source, nn.Module):
        path = Path(source)
        found = (_from_bundle if (path / bundles.FILE).is_file() else _from_checkpoint)(path, dataset)
        source, dataset = found.net, found.dataset
    elif isinstance(dataset, str):
        dataset = data.load(dataset)
    inputs, classes = _ends(source)
    if dataset is not None:
        steps = dataset.x.shape[1]
        trained = found.contract.frontend if found else None
        default = Contract(
            folder.name, dataset.classes, dataset.channels, dataset.rate, _common_frontend(dataset, trained)
        )
    elif found is not None:
        default, steps = found.contract, found.steps
    elif calibration is not None and calibration.ndim == 3:
        numbered = tuple(f"class_{i}" for i in range(classes)), tuple(f"channel_{i}" for i in range(inputs))
        default, steps = Contract(folder.name, *numbered, 1.0), calibration.shape[1]
    else:
        raise ExportError("windows are needed: give `calibration` [n, T, D] or `dataset`")
    contract = Contract(
        name or (found.bundle.get("name") if found else None) or folder.name,
        default.labels if labels is None else tuple(map(str, labels)),
        default.channels if channels is None else tuple(map(str, channels)),
        default.rate if rate is None else float(rate),
        frontend or default.frontend,
    )
    if not (math.isfinite(contract.rate) and contract.rate > 0):
        raise ExportError(f"the rate must be a positive number of samples per second, not {contract.rate}")
    if len(contract.labels) != classes or len(set(contract.labels)) != classes:
        raise ExportError(f"the network has {classes} classes, but {len(set(contract.labels))} different labels")
    if len(contract.channels) != inputs:
        raise ExportError(f"the network takes {inputs} channels, but {len(contract.channels)} are named")
    if (made := contract.frontend) is not None:
        wrong = faults(made) or misfits(made, steps, inputs, contract.rate)
        if wrong:
            raise ExportError(f"the front end does not fit the network: {_json.listing(wrong)}")
    if found is None:
        net = copy.deepcopy(source).cpu().float().eval()  # the caller's own stays as it is
        return Source(net, contract, steps, dataset)
    return replace(found, contract=contract, steps=steps, dataset=dataset)


def _ends(net: nn.Module) -> tuple[int, int]:
    """D and C of a classifier."""
    if isinstance(net, SequenceClassifier):
        return net.input_size, net.head.out_features
    network = plain_network(net, 8)
    return network.input_size, network.num_classes


def _common_frontend(dataset: Dataset, trained: FrontEnd | None) -> FrontEnd | None:
    """The front end of the data set, which must be the one that the network was trained with."""
    if None not in (dataset.frontend, trained) and dataset.frontend != trained:
        raise ExportError(
            f"data set {dataset.id!r} was made by another front end ({dataset.frontend}) than the network was trained "
            f"with ({trained}): prepare it with the same one"
        )
    return dataset.frontend or trained


def _from_bundle(folder: Path, dataset: Dataset | str | None) -> Source:
    """A bundle's own weights, to be written in other layouts."""
    return with_data(of_bundle(folder), folder, dataset)


def of_bundle(folder: Path) -> Source:
    """A bundle's own weights, without its data set.

    Raises:
        BundleError: the bundle is faulty, its weights are not what it says, or its network cannot be built from them.
    """
    made, net = bundles.read(folder), from_bundle(folder)
    about = {"name": made.name, "version": made.version, "summary": made.summary}
    return Source(
        net,
        Contract(made.name, made.labels, made.input.channels, made.input.rate, made.frontend),
        made.input.steps,
        training=made.training,
        environment=(made.environment or {}).get("training"),
        seed=(made.training or {}).get("settings", {}).get("seed"),
        siblings=seeds_from_bundle(folder),
        bundle={**about, "weights_licence": made.licences.weights},
        seeds=made.seeds,
    )


def with_data(source: Source, folder: Path, dataset: Dataset | str | None = None) -> Source:
    """The source of a bundle in ``folder`` with the data set that is given, or else the recorded one, if at hand.

    Raises:
        ExportError: the data set at hand is not the recorded one.
    """
    trained_on = bundles.read(folder).dataset
    id, digest = (trained_on.id, trained_on.sha256) if trained_on else (None, None)
    found, digest = _data_set(dataset, folder, id, digest, (source.training or {}).get("settings", {}))
    return replace(source, dataset=found, data_sha256=digest)


def _data_set(
    given: Dataset | str | None, folder: Path, name: str | None, sha: str | None, settings: Mapping[str, Any]
) -> tuple[Dataset | None, str | None]:
    """The data set that was asked for, or that a network was trained on, if it is at hand; and its digest."""
    dataset = data.load(given) if isinstance(given, str) else given
    if dataset is None and name is not None:
        own = folder / f"{name}.npz"  # windows that were cut for this run
        with suppress(DataError):  # it is not at hand: the caller's calibration windows must do
            dataset = data.load(own if own.exists() else name)
        if dataset is not None and dataset.sha256 != sha:
            raise ExportError(
                f"the data set {dataset.id!r} is no longer the one that this network was trained on: it may have seen "
                "windows of the test split. Prepare the old one again, or name the data set to accept this one"
            )
    if dataset is None:
        return None, None
    digest = dataset.sha256
    if settings and settings["validation_fraction"]:
        dataset = dataset.with_validation(settings["validation_fraction"], settings["validation_seed"])
    return dataset, digest


def _from_checkpoint(folder: Path, dataset: Dataset | str | None) -> Source:
    run = seeds_run.load(folder) if seeds_run.is_run(folder) else None
    saved = checkpoint.load(run.chosen_folder if run else folder)
    settings = saved.training["settings"]
    dataset, data_sha256 = _data_set(dataset, folder, saved.data["id"], saved.data["sha256"], settings)
    siblings = {seed: checkpoint.load(path).net for seed, path in run.folders.items()} if run else {}
    contract = Contract(
        folder.name,
        tuple(saved.data["classes"]),
        tuple(saved.data["channels"]),
        float(saved.data["rate"]),
        _json.build(saved.data.get("frontend"), FrontEnd | None),
    )
    training = {key: value for key, value in saved.training.items() if key not in ("bundle", "size")}
    about = saved.training.get("bundle", {})
    return Source(
        saved.net,
        contract,
        int(saved.data["steps"]),
        dataset,
        training,
        saved.environment,
        data_sha256,
        int(saved.training["settings"]["seed"]),
        siblings,
        about,
    )


def as_array(calibration: npt.ArrayLike | None) -> npt.NDArray[Any] | None:
    """Windows given as anything that NumPy understands.

    Raises:
        ExportError: the rows have different lengths.
    """
    try:
        return None if calibration is None else np.asarray(calibration)
    except ValueError as error:
        raise ExportError(f"calibration windows must be an array [n, T, D]: {error}") from error


def calibration_windows(source: Source, given: npt.NDArray[Any] | None) -> npt.NDArray[np.float32]:
    """Windows [n, T, D] on which activation ranges are found: the given ones, or evenly from the training split.

    Raises:
        ExportError: there are none, they do not fit, hold NaN, or are all the same.
    """
    if given is None:
        if source.dataset is None:
            raise ExportError(
                "calibration windows are needed, and the data set of the checkpoint is not at hand: "
                "prepare it, name another (`--data`), or give `calibration` [n, T, D] in raw units"
            )
        train = source.dataset.train.x
        given = train[calibration_rows(len(train))]
    shape = (source.steps, len(source.contract.channels))
    if given.ndim != 3 or len(given) == 0 or given.shape[1:] != shape:
        raise ExportError(f"calibration windows must be [n, {shape[0]}, {shape[1]}], not {list(given.shape)}")
    if given.dtype.kind not in "fiu":
        raise ExportError(f"calibration windows must be numbers, not {given.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
        x = np.ascontiguousarray(given, dtype=np.float32)
    if not np.isfinite(x).all():
        raise ExportError(f"calibration window {int(np.argwhere(~np.isfinite(x))[0, 0])} holds NaN or infinity")
    if (x == x[:, :1]).all():
        raise ExportError("the calibration windows are constant: no range can be found; give real recordings")
    return x
