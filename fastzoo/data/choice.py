"""Choose the channels of a data set that a model made for another one takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastzoo.data.prepared import Dataset


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


def _plain(name: str) -> str:
    if name.startswith("total_acc_"):
        return name.removeprefix("total_")
    return name.removeprefix("body_") if name.startswith("body_gyro_") else name
