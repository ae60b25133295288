"""Random changes to training windows that leave the label alone, in raw sensor units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastzoo._values import is_number


@dataclass(frozen=True)
class Augmentation:
    """What is done to each window of a batch, anew every time it is seen.

    Args:
        rotate: standard deviation, in radians, of the angle by which the device is turned about a random axis. All
            x-y-z triples of one window turn together, as they do when a phone sits askew in a pocket.
        scale: standard deviation of a factor around 1, one per window.
        noise: standard deviation of white noise, as a share of each channel's scale in the normalisation.
    """

    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rotate", "scale", "noise"):
            if not is_number(getattr(self, name), 0):
                raise ValueError(f"{name} must be a number of at least 0, not {getattr(self, name)!r}")

    def __call__(self, x: Tensor, axes: Sequence[Sequence[int]], std: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            x: [N, T, D]; not changed.
            axes: the channel numbers of each x-y-z triple (:func:`xyz_triples`).
            std: scale of each channel in the normalisation, [D].
            generator: the source of all randomness.

        Returns:
            The changed windows, [N, T, D].
        """
        if self.rotate and axes:
            turn = random_rotations(len(x), self.rotate, generator).to(x.dtype)  # [N, 3, 3]
            x = x.clone()
            for triple in axes:
                x[..., list(triple)] = x[..., list(triple)] @ turn
        if self.scale:
            x = x * (1 + self.scale * torch.randn(len(x), 1, 1, generator=generator))
        if self.noise:
            x = x + self.noise * std * torch.randn(x.shape, generator=generator)
        return x


def random_rotations(n: int, angle_std: float, generator: torch.Generator) -> Tensor:
    """``n`` rotation matrices about uniformly random axes by angles from N(0, ``angle_std``) radians, [n, 3, 3]."""
    axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=1)
    x, y, z = (axis * torch.randn(n, 1, generator=generator, dtype=torch.float64) * angle_std).unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(n, 3, 3)
    rotation: Tensor = torch.linalg.matrix_exp(skew)
    return rotation


def xyz_triples(channels: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """Channel numbers that form the three axes of one sensor, found by name: ``acc_x [g]``, ``acc_y [g]``, ..."""
    number: dict[tuple[str, str], int] = {}
    for i, name in enumerate(channels):
        if match := re.match(r"(.*)_([xyz])\b", name):
            number[match[1], match[2]] = i
    sensors = dict.fromkeys(sensor for sensor, _ in number)
    return tuple(
        (number[s, "x"], number[s, "y"], number[s, "z"]) for s in sensors if all((s, axis) in number for axis in "xyz")
    )
