"""Seeded sensor signals for demonstrations, golden inputs and tests: no recording is needed, none is contained.

:func:`motion` imitates a phone worn at the waist, in the channels, units and classes of the ``har`` data set.
:func:`windows` makes smooth random windows inside given ranges, for models on any other data.

A window depends on the seed and its own row only: more windows never change the earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastzoo.data.hapt import CHANNELS, CLASSES
from fastzoo.errors import DataError

Float = npt.NDArray[np.float64]

# An accelerometer at rest reads a little over 1 g in the HAPT recordings (calibration of that phone).
GRAVITY = 1.02
SENSOR_NOISE = np.array([0.003, 0.003, 0.004, 0.005, 0.005, 0.005])  # g, rad/s
GYRO_OFFSET = 0.008  # rad/s


@dataclass(frozen=True)
class _Posture:
    """How the phone hangs, and how far a body at rest sways."""

    gravity: tuple[float, float, float]  # mean direction
    tilt: tuple[float, float, float]  # spread of the direction between people
    sway: float = 0.012  # rad/s; the accelerometer sees a fifth of it, in g


@dataclass(frozen=True)
class _Gait:
    """Periodic motion; a stride is two steps, so the even harmonics of the stride belong to the step."""

    cadence: float  # steps per second
    spread: float
    turn: tuple[float, float]  # yaw rate in rad/s, mean and spread: staircases turn
    lag: tuple[float, float, float]  # phase of the step in acc_x, acc_y, acc_z, as a fraction of pi
    harmonics: tuple[tuple[float, ...], ...]  # [6 channels, harmonics 1.. of the stride], g and rad/s
    rough: tuple[float, ...]  # [6], what is not periodic


# Medians over the HAPT windows, rounded.
_POSTURES = {
    "walking": _Posture((1.00, -0.18, -0.06), (0.03, 0.10, 0.15)),
    "walking_upstairs": _Posture((0.95, -0.27, -0.15), (0.05, 0.12, 0.19)),
    "walking_downstairs": _Posture((1.00, -0.15, -0.05), (0.03, 0.10, 0.15)),
    "sitting": _Posture((0.95, 0.13, 0.15), (0.08, 0.20, 0.20), sway=0.007),
    "standing": _Posture((1.00, -0.17, -0.02), (0.02, 0.11, 0.15), sway=0.018),
    "laying": _Posture((0.07, 0.64, 0.54), (0.13, 0.38, 0.39), sway=0.010),
}
_GAITS = {
    "walking": _Gait(
        cadence=1.76,
        spread=0.11,
        turn=(0.0, 0.05),
        lag=(0.0, 0.65, 0.52),
        harmonics=(
            (0.03, 0.22, 0.09, 0.08, 0.04, 0.10, 0.04, 0.07),
            (0.06, 0.13, 0.04, 0.06, 0.07, 0.05, 0.06, 0.05),
            (0.07, 0.10, 0.02, 0.05, 0.02, 0.04, 0.03, 0.04),
            (0.38, 0.09, 0.16, 0.07, 0.21, 0.07, 0.12, 0.06),
            (0.26, 0.14, 0.30, 0.09, 0.13, 0.09, 0.13, 0.11),
            (0.17, 0.15, 0.29, 0.06, 0.06, 0.08, 0.06, 0.07),
        ),
        rough=(0.08, 0.08, 0.07, 0.20, 0.25, 0.13),
    ),
    "walking_upstairs": _Gait(
        cadence=1.62,
        spread=0.14,
        turn=(0.28, 0.20),
        lag=(0.0, 0.72, 0.53),
        harmonics=(
            (0.05, 0.27, 0.04, 0.08, 0.03, 0.07, 0.03, 0.04),
            (0.09, 0.15, 0.03, 0.06, 0.04, 0.03, 0.04, 0.03),
            (0.11, 0.09, 0.03, 0.04, 0.02, 0.02, 0.02, 0.02),
            (0.27, 0.14, 0.12, 0.07, 0.09, 0.07, 0.09, 0.05),
            (0.38, 0.16, 0.13, 0.08, 0.08, 0.08, 0.08, 0.07),
            (0.30, 0.16, 0.08, 0.09, 0.05, 0.06, 0.05, 0.05),
        ),
        rough=(0.10, 0.08, 0.07, 0.28, 0.25, 0.18),
    ),
    "walking_downstairs": _Gait(
        cadence=1.72,
        spread=0.16,
        turn=(-0.30, 0.22),
        lag=(0.0, -0.91, -0.77),
        harmonics=(
            (0.03, 0.37, 0.09, 0.15, 0.06, 0.08, 0.05, 0.05),
            (0.06, 0.10, 0.06, 0.07, 0.05, 0.06, 0.04, 0.04),
            (0.07, 0.06, 0.03, 0.05, 0.03, 0.04, 0.03, 0.03),
            (0.28, 0.13, 0.21, 0.11, 0.12, 0.08, 0.10, 0.07),
            (0.18, 0.15, 0.22, 0.16, 0.12, 0.10, 0.12, 0.11),
            (0.12, 0.15, 0.16, 0.13, 0.08, 0.08, 0.08, 0.07),
        ),
        rough=(0.15, 0.11, 0.11, 0.38, 0.38, 0.22),
    ),
}


def motion(labels: Sequence[str], steps: int = 128, rate: float = 50.0, seed: int = 0) -> npt.NDArray[np.float32]:
    """Plausible smartphone motion, one window per label, in the raw units of ``har``.

    Args:
        labels: class names of ``har``: ``walking``, ``walking_upstairs``, ``walking_downstairs``, ``sitting``,
            ``standing``, ``laying``.
        steps: T, samples per window.
        rate: samples per second.
        seed: the same seed gives the same windows.

    Returns:
        [N, T, 6], accelerometer x, y, z in g (with gravity) and gyroscope x, y, z in rad/s.

    Raises:
        DataError: a label is not one of ``har``'s classes, or ``steps`` or ``rate`` is not positive.
    """
    _check(steps, rate)
    if unknown := sorted(set(labels) - set(CLASSES)):
        raise DataError(f"no motion for {', '.join(map(repr, unknown))}: labels are a list of {', '.join(CLASSES)}")
    x = np.empty((len(labels), steps, len(CHANNELS)), np.float32)
    for row, label in enumerate(labels):
        x[row] = _motion(label, steps, rate, np.random.default_rng([seed, row]))
    return x


def _motion(label: str, steps: int, rate: float, rng: np.random.Generator) -> Float:  # [T, 6]
    posture = _POSTURES[label]
    direction = np.array(posture.gravity) + rng.normal(size=3) * posture.tilt
    x = np.zeros((steps, len(CHANNELS)))
    x[:, :3] = GRAVITY * direction / np.linalg.norm(direction)
    x[:, 3:] = rng.normal(scale=GYRO_OFFSET, size=3)
    sway = posture.sway * rng.lognormal(sigma=0.7)
    x += _smooth_noise(steps, rate, 0.5, rng) * np.repeat([sway / 5, sway], 3)
    x += rng.normal(size=x.shape) * SENSOR_NOISE
    if gait := _GAITS.get(label):
        x += _stride(gait, steps, rate, rng)
    return x


def _stride(gait: _Gait, steps: int, rate: float, rng: np.random.Generator) -> Float:  # [T, 6]
    """Harmonics of one walker's stride; the accelerations keep step, everything else has a phase of its own."""
    amplitudes = np.array(gait.harmonics)  # [6, K]
    order = np.arange(1, amplitudes.shape[1] + 1)
    phases = rng.uniform(0, 2 * math.pi, amplitudes.shape)
    phases[:3, 1::2] = math.pi * np.array(gait.lag)[:, None] + rng.normal(scale=0.4, size=phases[:3, 1::2].shape)
    amplitudes = amplitudes * rng.lognormal(sigma=0.2) * rng.lognormal(sigma=0.25, size=amplitudes.shape)
    stride = rng.normal(gait.cadence, gait.spread) / 2  # Hz
    angle = 2 * math.pi * (stride * np.arange(steps) / rate + rng.uniform())  # [T]
    x: Float = np.einsum("ck,tck->tc", amplitudes, np.cos(order * angle[:, None, None] - phases))
    x[:, 3] += rng.normal(*gait.turn)
    x += _smooth_noise(steps, rate, 0.05, rng) * gait.rough
    return x


def _smooth_noise(steps: int, rate: float, seconds: float, rng: np.random.Generator) -> Float:  # [T, 6]
    """Noise of unit variance, smooth over the given time."""
    kernel = np.hanning(max(3, round(2 * seconds * rate) | 1))
    white = rng.normal(size=(steps + len(kernel) - 1, len(CHANNELS)))
    kernel /= np.linalg.norm(kernel)
    return np.stack([np.convolve(channel, kernel, mode="valid") for channel in white.T], axis=1)


def windows(
    channels: int,
    steps: int,
    rate: float,
    n: int,
    seed: int,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
) -> npt.NDArray[np.float32]:
    """Smooth random windows inside a range per channel: inputs for models whose data has no generator of its own.

    Every channel is a sum of eight sinusoids, none faster than 5 Hz or a quarter of the sampling rate.

    Args:
        channels: D.
        steps: T, samples per window.
        rate: samples per second.
        n: N, the number of windows.
        seed: the same seed gives the same windows.
        low: [D] or one number, the smallest value of each channel.
        high: [D] or one number, the largest value of each channel.

    Returns:
        [N, T, D].

    Raises:
        DataError: a size or ``rate`` is not positive, or ``low`` and ``high`` are no finite ranges of D channels.
    """
    _check(steps, rate)
    if channels < 1 or n < 0:
        raise DataError(f"at least one channel and no negative number of windows, not {channels} and {n}")
    try:
        below, above = (np.broadcast_to(np.asarray(bound, np.float64), (channels,)) for bound in (low, high))
    except ValueError as error:
        raise DataError(f"low and high must be one number or {channels} numbers, one per channel") from error
    if not (np.isfinite(below).all() and np.isfinite(above).all() and (below <= above).all()):
        raise DataError("low and high must be finite, and no low may exceed its high")
    time = np.arange(steps) / rate
    x = np.empty((n, steps, channels), np.float32)
    for row in range(n):
        rng = np.random.default_rng([seed, row])
        share = rng.dirichlet(np.ones(8), size=channels)  # [D, 8], the amplitudes sum to 1: the range is never left
        frequency = rng.uniform(0, min(5.0, rate / 4), size=(channels, 8))
        phase = rng.uniform(0, 2 * math.pi, size=(channels, 8))
        wave = (share * np.cos(2 * math.pi * frequency * time[:, None, None] + phase)).sum(-1)  # [T, D] in [-1, 1]
        x[row] = below + (above - below) * (1 + wave) / 2
    return np.clip(x, below.astype(np.float32), above.astype(np.float32))


def _check(steps: int, rate: float) -> None:
    if steps < 1 or not (math.isfinite(rate) and rate > 0):
        raise DataError(f"a window needs at least one step and a positive rate, not {steps} steps at {rate} per second")
