"""Fit a data set to a model that was made for another one: channels and classes found by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastzoo.audio import LogMel
from fastzoo.data.prepared import Dataset
from fastzoo.errors import DataError
from fastzoo.records import Bundle


def fitted(data: Dataset, content: Bundle) -> tuple[Dataset, str]:
    """The windows as the model takes them and the classes in the order of its labels, and what was done, in words.

    Returns:
        ``data`` itself and "" where nothing is to do.

    Raises:
        DataError: the data set is not what the model was made for; the message names all differences.
    """
    made, about_channels = chosen(data, content.input.channels)
    made, about_classes = _renumbered(made, content.labels)
    if faults := _misfits(made, content):
        raise DataError(f"data set {data.id!r} does not fit {content.name}: it has " + "; ".join(faults))
    return made, ". ".join(filter(None, (about_channels, about_classes)))


def _misfits(data: Dataset, content: Bundle) -> list[str]:
    wanted = content.input
    pairs = {
        "classes": (data.classes, content.labels),
        "channels": (data.channels, wanted.channels),
        "steps per window": (data.x.shape[1], wanted.steps),
    }
    faults = [f"{what} {has}, where the model has {wants}" for what, (has, wants) in pairs.items() if has != wants]
    if not math.isclose(data.rate, wanted.rate, rel_tol=1e-3):
        faults.append(f"{data.rate:g} samples per second, where the model has {wanted.rate:g}")
    takes = None if content.frontend is None else LogMel.of(content.frontend)
    if data.frontend is not None and takes is not None and data.frontend != takes:
        faults.append(f"another front end ({data.frontend}), where the model has {takes}")
    return faults


def chosen(data: Dataset, channels: Sequence[str]) -> tuple[Dataset, str]:
    """The windows with ``channels`` alone, in that order, and a sentence on where each was found.

    A channel is found under its own name, unit included, or under UCI HAR's: ``acc_x [g]`` as ``total_acc_x [g]``,
    ``gyro_x [rad/s]`` as ``body_gyro_x [rad/s]``. (``body_acc_x [g]`` is something else: gravity is taken off it.)

    Returns:
        ``data`` itself and "" where it has these channels and no others, or lacks one of them.
    """
    known = {name: position for position, name in enumerate(data.channels)}
    for name in data.channels:
        if (plain := _plain(name)) not in data.channels:
            known[plain] = data.channels.index(name)
    if tuple(channels) == data.channels or any(name not in known for name in channels):
        return data, ""
    positions = [known[name] for name in channels]
    names = [data.channels[position] for position in positions]
    taken = [name if name == found else f"{found} as {name}" for name, found in zip(channels, names, strict=True)]
    left = [name for name in data.channels if name not in names]
    sentence = f"Channels of {data.id} chosen by name: {', '.join(taken)}" + (
        f"; left out: {', '.join(left)}" if left else ""
    )
    x = np.ascontiguousarray(data.x[:, :, positions])
    return replace(data, x=x, channels=tuple(channels), frontend=None, strict=False), sentence


def _renumbered(data: Dataset, labels: Sequence[str]) -> tuple[Dataset, str]:
    """The same windows with the classes in the order of ``labels``; unchanged where these are other classes."""
    if tuple(labels) == data.classes or set(labels) != set(data.classes):
        return data, ""
    places = np.array([list(labels).index(name) for name in data.classes])
    made = replace(data, y=places[data.y], classes=tuple(labels), strict=False)
    return made, f"Classes of {data.id} put in the order of the model's labels"


def _plain(name: str) -> str:
    if name.startswith("total_acc_"):
        return name.removeprefix("total_")
    return name.removeprefix("body_") if name.startswith("body_gyro_") else name
