"""mean and std of the training data: per channel as they are, per step and channel only where that is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fastzoo.errors import EdgeMLError
from fastzoo.nn.classifier import SequenceClassifier
from fastzoo.nn.edgeml.files import Array, npy

_STEADY = 1e-5  # of a channel's scale: statistics that move less are constant over time


def normalise(net: SequenceClassifier, how: str, folder: Path, notes: list[str]) -> int | None:
    """Give a network mean and std from ``folder``.

    Args:
        net: normalises nothing yet.
        how: one of ``NORMALISATIONS``.
        folder: where ``mean.npy`` and ``std.npy`` lie, if there are any.
        notes: are added to.

    Returns:
        T, where the statistics are per step and channel.
    """
    if how == "none":
        notes.append("no normalisation: the network takes normalised samples")
        return None
    statistics = _statistics(folder, net.rnn.input_size)
    if statistics is None:
        notes.append(f"no normalisation: there is no mean.npy in {folder}")
        return None
    mean, std = _over_time(*statistics, how, folder, notes)
    net.mean.copy_(torch.from_numpy(mean))
    net.std.copy_(torch.from_numpy(std))
    steps = len(statistics[0])
    return steps if steps > 1 else None


def _statistics(folder: Path, channels: int) -> tuple[Array, Array] | None:
    """mean and std [T, D] (T = 1: per channel) of the training data; None where they are not there."""
    paths = [folder / "mean.npy", folder / "std.npy"]
    missing = [path for path in paths if not path.exists()]
    if missing == paths:
        return None
    if missing:
        raise EdgeMLError(
            f"{missing[0]} is missing, while its twin is there; normalisation='none' would do without both"
        )
    mean, std = (npy(path, "f").ravel() for path in paths)
    if mean.size != std.size or not mean.size or mean.size % channels:
        raise EdgeMLError(
            f"{paths[0]} has {mean.size} numbers and std.npy {std.size}, where the network takes {channels} channels: "
            f"{channels} or T times {channels} are needed; with normalisation='none' they are not read"
        )
    if not (std > 0).all():
        raise EdgeMLError(f"{paths[1]} holds {std.min()}, where EdgeML writes numbers above 0")
    return mean.reshape(-1, channels), std.reshape(-1, channels)


def _over_time(mean: Array, std: Array, how: str, folder: Path, notes: list[str]) -> tuple[Array, Array]:
    """mean and std [D] from those [T, D].

    Raises:
        EdgeMLError: they change over time, and ``how`` is not ``"averaged"``.
    """
    moves, swells = np.ptp(mean, axis=0), np.ptp(std, axis=0)
    if (moves <= _STEADY * (std.min(axis=0) + 0.1 * abs(mean[0]))).all() and (swells <= _STEADY * std[0]).all():
        return mean[0], std[0]
    if how == "averaged":
        notes.append("normalisation averaged over time, an approximation: measure the accuracy")
        # as if the columns of all steps had been one; where a column was constant, EdgeML wrote 1 for its 0
        square = np.where(std == 1, 0, std**2) + (mean - mean.mean(axis=0)) ** 2
        pooled = np.sqrt(square.mean(axis=0))
        return mean.mean(axis=0), np.where(pooled < 1e-6, 1, pooled)
    raise EdgeMLError(
        f"{folder} normalises each of {len(mean)} steps on its own (a channel's mean moves by up to "
        f"{(moves / std.min(axis=0)).max():.2g} standard deviations, its standard deviation by up to "
        f"{(100 * swells / std.max(axis=0)).max():.2g} %). A network that also runs on streams knows no steps: it "
        "normalises per channel. Train again on data normalised per channel; or accept an approximation, with "
        "normalisation='averaged'; or normalise samples before the network, with normalisation='none' "
        "(--normalisation)"
    )
