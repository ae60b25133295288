"""Random changes to training windows that leave the label alone, in raw sensor units."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import torch
from torch import Tensor

from fastzoo._values import is_number, is_whole
from fastzoo.errors import TrainingError

WAVES = 3  # a time warp is faster and slower up to so many times in a window
MOST_MASKS = 100


@dataclass(frozen=True, eq=False)
class Channels:
    """What an augmentation knows of the D channels of a window.

    Args:
        names: of the channels, with units: ``acc_x [g]``.
        mean: of each channel in the normalisation, [D].
        std: scale of each channel in the normalisation, [D].
    """

    names: tuple[str, ...]
    mean: Tensor
    std: Tensor

    @cached_property
    def triples(self) -> tuple[tuple[int, int, int], ...]:
        """The channel numbers of each x-y-z triple."""
        return xyz_triples(self.names)

    @cached_property
    def sensors(self) -> dict[str, tuple[int, ...]]:
        """The channel numbers of each sensor."""
        return sensor_groups(self.names)

    @cached_property
    def sensor(self) -> Tensor:
        """The number of each channel's sensor, [D]."""
        number = {channel: i for i, channels in enumerate(self.sensors.values()) for channel in channels}
        return torch.tensor([number[channel] for channel in range(len(self.names))])

    def fitting(self, patterns: Sequence[str]) -> Tensor:
        """Whether each channel, by its name or its sensor's, fits one of the patterns, [D] of bool.

        Raises:
            TrainingError: no channel fits one of them.
        """
        fits = torch.zeros(len(self.names), dtype=torch.bool)
        for pattern in patterns:
            own = [
                channel
                for sensor, channels in self.sensors.items()
                for channel in channels
                if any(name == pattern or fnmatchcase(name, pattern) for name in (self.names[channel], sensor))
            ]
            if not own:
                raise TrainingError(
                    f"the augmentation is for {pattern!r} only, which fits no channel; there are "
                    f"{', '.join(self.names) or 'none with a name'}"
                )
            fits[own] = True
        return fits


@dataclass(frozen=True)
class Augmentation:
    """What is done to each window of a batch, anew every time it is seen: turn, warp, shift, scale, noise, gaps.

    A sensor is a group of channels, found by name (:func:`sensor_groups`): ``acc_x [g]``, ``acc_y [g]``, or ``mel_0``,
    ``mel_1``. What is dropped or masked takes the mean of the normalisation, so that the network sees zeros.

    Args:
        rotate: standard deviation, in radians, of the angle by which the device is turned about a random axis. All
            x-y-z triples of one window turn together, as they do when a phone sits askew in a pocket.
        scale: standard deviation of a factor around 1, one per window.
        noise: standard deviation of white noise, as a share of each channel's scale in the normalisation.
        time_shift: the largest shift, earlier or later by whole samples, as a share of the window; all are equally
            likely. The gap repeats the sample at the edge.
        time_warp: standard deviation, 0 to 1, of the logarithm of the speed at which the window plays, a smooth random
            curve; between samples lies a straight line. The first and the last sample stay.
        drop: probability that a sensor is missing in a window, all its channels together; it can happen to all sensors.
        time_masks: how many stretches of a window are masked, each of a random width from 0 up (SpecAugment, Park et
            al. 2019); they may overlap.
        time_mask_width: the largest width, as a share of the window.
        frequency_masks: how many runs of neighbouring channels are masked in every sensor of several channels, such as
            the bands of a spectrogram.
        frequency_mask_width: the largest width, in channels.
        frequency_warp: standard deviation, 0 to 1, of the logarithm of a factor, one per window, by which the channels
            of every sensor of several are stretched from its lowest, as a shorter or longer vocal tract does to a
            spectrogram (VTLP, Jaitly and Hinton 2013); between channels lies a straight line.
        only: patterns of the channels, or sensors, that are turned, stretched, scaled, noisy, dropped and masked:
            ``("mel_*", "gyro")``; () = all. Where sensors on several limbs sit askew each in its own way, give one
            augmentation for each. A shift or warp is one of the whole window.

    Raises:
        ValueError: a value has the wrong type or is out of range, all of them in one message.
    """

    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    time_shift: float = 0.0
    time_warp: float = 0.0
    drop: float = 0.0
    time_masks: int = 0
    time_mask_width: float = 0.1
    frequency_masks: int = 0
    frequency_mask_width: int = 4
    frequency_warp: float = 0.0
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        listed = isinstance(self.only, list | tuple) and all(isinstance(pattern, str) for pattern in self.only)
        faults = [
            f"{name} must be {wanted}, not {getattr(self, name)!r}"
            for name, good, wanted in (
                ("rotate", is_number(self.rotate, 0), "a number of at least 0"),
                ("scale", is_number(self.scale, 0), "a number of at least 0"),
                ("noise", is_number(self.noise, 0), "a number of at least 0"),
                ("time_shift", is_number(self.time_shift, 0, 1), "a share of the window, 0 to 1"),
                ("time_warp", is_number(self.time_warp, 0, 1), "a number from 0 to 1"),
                ("drop", is_number(self.drop, 0, 1), "a probability, 0 to 1"),
                ("time_masks", is_whole(self.time_masks, 0, MOST_MASKS), f"a whole number from 0 to {MOST_MASKS}"),
                ("time_mask_width", is_number(self.time_mask_width, 0, 1), "a share of the window, 0 to 1"),
                (
                    "frequency_masks",
                    is_whole(self.frequency_masks, 0, MOST_MASKS),
                    f"a whole number from 0 to {MOST_MASKS}",
                ),
                ("frequency_mask_width", is_whole(self.frequency_mask_width, 0), "a whole number of channels"),
                ("frequency_warp", is_number(self.frequency_warp, 0, 1), "a number from 0 to 1"),
                ("only", listed, 'a list of patterns such as ["acc_*"]'),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(faults))
        object.__setattr__(self, "only", tuple(self.only))

    def __call__(self, x: Tensor, channels: Channels, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            x: [N, T, D]; not changed.
            channels: what the D channels are.
            generator: the source of all randomness.

        Returns:
            The changed windows, [N, T, D].

        Raises:
            TrainingError: a pattern of ``only`` fits no channel.
        """
        dtype = x.dtype
        fitting = channels.fitting(self.only) if self.only else None  # [D]
        if self.rotate and channels.triples:
            turn = random_rotations(len(x), self.rotate, generator).to(x.dtype)  # [N, 3, 3]
            x = x.clone()
            for triple in channels.triples:
                if fitting is not None and not all(fitting[axis] for axis in triple):
                    continue
                first = triple[0]  # neighbours as a slice: the same bits several times faster
                axes = slice(first, first + 3) if triple == (first, first + 1, first + 2) else list(triple)
                x[..., axes] = x[..., axes] @ turn
        if self.time_warp:
            x = _played(x, random_warps(len(x), x.shape[1], self.time_warp, generator))
        if self.time_shift:
            x = _shifted(x, round(self.time_shift * x.shape[1]), generator)
        if self.frequency_warp:
            factor = (self.frequency_warp * torch.randn(len(x), 1, generator=generator, dtype=torch.float64)).exp()
            for bands in channels.sensors.values():
                if len(bands) > 1 and (fitting is None or all(fitting[band] for band in bands)):
                    x = _stretched(x, bands, factor)
        if self.scale:
            factor = 1 + self.scale * torch.randn(len(x), 1, 1, generator=generator)
            x = x * (factor if fitting is None else torch.where(fitting, factor, 1.0))
        if self.noise:
            std = channels.std if fitting is None else channels.std * fitting
            x = x + self.noise * std * torch.randn(x.shape, generator=generator)
        if self.drop or self.time_masks or self.frequency_masks:
            missing = self._missing(x, channels, fitting, generator)
            x = torch.where(missing, channels.mean.to(x.dtype), x)
        return x.to(dtype)

    def _missing(self, x: Tensor, channels: Channels, fitting: Tensor | None, generator: torch.Generator) -> Tensor:
        """Which samples are dropped or masked, [N, T, D] of bool, or [N, 1, D]."""
        missing = torch.zeros(len(x), 1, x.shape[2], dtype=torch.bool)
        if self.drop:
            dropped = torch.rand(len(x), len(channels.sensors), generator=generator) < self.drop
            missing |= dropped[:, channels.sensor][:, None]
        if self.frequency_masks:
            for bands in channels.sensors.values():
                if len(bands) > 1:
                    masks = random_masks(len(x), len(bands), self.frequency_masks, self.frequency_mask_width, generator)
                    missing[:, 0, list(bands)] |= masks
        if self.time_masks:
            widest = round(self.time_mask_width * x.shape[1])
            missing = missing | random_masks(len(x), x.shape[1], self.time_masks, widest, generator)[..., None]
        return missing if fitting is None else missing & fitting


def random_rotations(n: int, angle_std: float, generator: torch.Generator) -> Tensor:
    """``n`` rotation matrices about uniformly random axes by angles from N(0, ``angle_std``) radians, [n, 3, 3]."""
    axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=1)
    x, y, z = (axis * torch.randn(n, 1, generator=generator, dtype=torch.float64) * angle_std).unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(n, 3, 3)
    rotation: Tensor = torch.linalg.matrix_exp(skew)
    return rotation


def random_warps(n: int, steps: int, std: float, generator: torch.Generator) -> Tensor:
    """When each of ``steps`` samples is read, in samples: rising from 0 to ``steps`` - 1 at a changing speed.

    The logarithm of the speed is a sum of sines and cosines with random normal amplitudes, N(0, ``std``) at every time.

    Returns:
        [n, steps] in float64.
    """
    gaps = steps - 1
    if gaps < 1:
        return torch.zeros(n, steps, dtype=torch.float64)
    angle = 2 * math.pi * (torch.arange(gaps, dtype=torch.float64) + 0.5) / gaps
    angle = angle * torch.arange(1, WAVES + 1)[:, None]
    waves = torch.cat([angle.sin(), angle.cos()]) / WAVES**0.5  # [2 WAVES, T - 1]; sin^2 + cos^2 = 1
    speed = (std * torch.randn(n, 2 * WAVES, generator=generator, dtype=torch.float64) @ waves).exp()
    passed = speed.cumsum(dim=1)
    return torch.nn.functional.pad(passed / passed[:, -1:] * gaps, (1, 0))


def random_masks(n: int, size: int, count: int, widest: int, generator: torch.Generator) -> Tensor:
    """Which of ``size`` places lie in ``count`` stretches of random widths up to ``widest``, [n, size] of bool."""
    width = torch.randint(0, min(widest, size) + 1, (n, count, 1), generator=generator)
    start = (torch.rand(n, count, 1, generator=generator, dtype=torch.float64) * (size - width + 1)).long()
    place = torch.arange(size)
    return ((place >= start) & (place < start + width)).any(dim=1)


def _played(x: Tensor, when: Tensor) -> Tensor:
    """The samples of ``x [N, T, D]`` at the times ``when [N, T]``, between samples on a straight line."""
    if x.shape[1] < 2:
        return x
    before = when.long().clamp_(max=x.shape[1] - 2)
    share = (when - before).to(x.dtype)[..., None]
    return torch.lerp(_taken(x, before), _taken(x, before + 1), share)


def _stretched(x: Tensor, bands: Sequence[int], factor: Tensor) -> Tensor:
    """``x [N, T, D]`` whose ``bands``, lowest first, are read at their number times ``factor [N, 1]``."""
    number = torch.arange(len(bands))
    where = (number * factor).clamp_(max=len(bands) - 1)  # [N, bands]
    shares = (1 - (where[..., None] - number).abs()).clamp_(min=0).to(x.dtype)  # [N, bands, bands it is read from]
    x = x.clone()
    x[..., list(bands)] = x[..., list(bands)] @ shares.mT
    return x


def _shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each window later by its own number of samples, from -``most`` to ``most``."""
    later = torch.randint(-most, most + 1, (len(x), 1), generator=generator)
    steps = x.shape[1]
    return _taken(x, (torch.arange(steps) - later).clamp_(0, steps - 1))


def _taken(x: Tensor, steps: Tensor) -> Tensor:
    """The samples of ``x [N, T, D]`` at ``steps [N, T]``."""
    rows = steps + x.shape[1] * torch.arange(len(x))[:, None]
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(x.shape)


def sensor_groups(channels: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Channel numbers of each sensor, found by name, in the order of its axes or numbers.

    ``acc_x [g]``, ``acc_y [g]`` are of the sensor ``acc``; ``mel_0``, ``mel_1``, or ``band 0``, ``band 1``, of ``mel``
    and ``band``. Any other name is the sensor's.
    """
    found: dict[str, list[tuple[int, int]]] = {}  # order in the sensor, channel
    for i, name in enumerate(channels):
        bare = re.sub(r"\s*\[[^\]]*\]\s*$", "", name)
        match = re.fullmatch(r"(.+)[_. -](?:([wxyz])|([0-9]+))", bare)
        sensor, axis, number = match.groups() if match else (bare, None, None)
        found.setdefault(sensor, []).append((int(number) if number else "wxyz".find(axis or "w"), i))
    return {sensor: tuple(i for _, i in sorted(places)) for sensor, places in found.items()}


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
