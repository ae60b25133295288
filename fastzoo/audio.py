"""From sound to the samples of a window, in NumPy alone: the same code in training, on a board, and over a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo import frontend
from fastzoo.errors import DataError, InputError
from fastzoo.frontend import FrontEnd

__all__ = ["FrameStream", "LogMel"]

FULL_SCALE = 32768
LOUDEST = 2.0  # resampled sound overshoots 1 a little; beyond this it is no sound between -1 and 1
MOST_CHANNELS = 32
AT_ONCE = 512  # frames, so that memory stays flat however long the sound

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


class LogMel(FrontEnd):
    """The log-mel front end, ready to compute; the arguments are those of :class:`fastzoo.frontend.FrontEnd`.

    ``LogMel(rate=16000)(audio, 16000)`` gives a window [T, D] for the model. The same sound gives the same bits,
    whether as a clip or in pieces of any length through :meth:`stream`.

    Raises:
        DataError: parameters have the wrong type, are out of range or contradict each other; all in one message.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if found := frontend.faults(self):
            raise DataError("no such front end: " + "; ".join(found))

    @classmethod
    def kws12(cls, rate: int = 16000, scale: str = "levels") -> LogMel:
        """The front end behind the published 12-word maps of Speech Commands: 98 frames x 40 bands, 0 to 255.

        Args:
            rate: 16000, or 8000, which gives nearly the same maps, since they end at 4 kHz.
            scale: see :class:`fastzoo.frontend.FrontEnd`; the published maps are bytes.
        """
        offsets = {16000: -60.42, 8000: -46.76}  # fitted on pairs of sound and published map
        if rate not in offsets:
            raise DataError(f"the kws12 front end exists for 16000 and 8000 samples/s, not for {rate}")
        return cls(
            rate, window_ms=32, low_hz=0, high_hz=4000, floor=1e-6, scale=scale, span_db=112, offset=offsets[rate],
            pad_ms=1, place="centre",
        )  # fmt: skip

    @classmethod
    def of(cls, parameters: FrontEnd | Mapping[str, Any]) -> LogMel:
        """The front end that a bundle, checkpoint or data set describes.

        Raises:
            DataError: the parameters are faulty.
        """
        if isinstance(parameters, FrontEnd):
            return cls(**{field.name: getattr(parameters, field.name) for field in fields(parameters)})
        names = [field.name for field in fields(cls)]
        if unknown := [str(name) for name in parameters if name not in names]:
            raise DataError(f"a front end has no {', '.join(unknown)}; it has {', '.join(names)}")
        if "rate" not in parameters:
            raise DataError("a front end needs a rate, in samples per second")
        return cls(**parameters)

    def __call__(self, audio: npt.ArrayLike, rate: float) -> Floats:
        """A window [T, D], float32.

        Args:
            audio: [n] or [n, channels], int16, or floats between -1 and 1; channels are averaged. What is longer than
                ``clip_s`` is cut off; what is shorter lies at ``place``, and the rest is silence.
            rate: samples per second of ``audio``; must be that of the front end.

        Raises:
            InputError: another rate, not sound, NaN or infinity, or less than one frame.
        """
        self._check_rate(rate)
        sound = mono(audio)[: self.clip]
        count = self.count(len(sound))
        if count < 1:
            raise InputError(
                f"the sound has {len(sound)} sample(s), too few for a frame of {self.window} ({self.window_ms:g} ms)"
            )
        left = (self.steps - count) // 2 if self.place == "centre" else 0
        made: Floats = np.tile(self.silence, (self.steps, 1))
        made[left : left + count] = self._frames(np.pad(sound, self.pad), count)
        return made

    @cached_property
    def silence(self) -> Floats:
        """A frame [D] of digital silence."""
        quiet: Floats = self._scaled(np.zeros((1, self.bands)))[0]
        return quiet

    def stream(self, rate: float) -> FrameStream:
        """Frames of an endless sound of so many samples per second.

        Raises:
            InputError: the front end has another rate.
        """
        self._check_rate(rate)
        return FrameStream(self)

    def _check_rate(self, rate: float) -> None:
        try:
            found = float(rate)
        except (TypeError, ValueError):
            found = np.nan
        if found == self.rate:
            return
        if not (np.isfinite(found) and found > 0):
            raise InputError(f"the sound's rate must be a positive number of samples per second, not {rate!r}")
        from fractions import Fraction

        ratio = Fraction(self.rate / found).limit_denominator(1000)
        raise InputError(
            f"the sound has {found:g} samples/s, the front end takes {self.rate}: resample it before, for example with "
            f"scipy.signal.resample_poly(audio, {ratio.numerator}, {ratio.denominator})"
        )

    def _frames(self, sound: Doubles, count: int) -> Floats:
        """The first ``count`` frames [count, D] of ``sound`` [n]."""
        views = np.lib.stride_tricks.sliding_window_view(sound, self.window)[:: self.hop]
        made = np.empty((count, self.bands), np.float32)
        for first in range(0, count, AT_ONCE):
            last = min(first + AT_ONCE, count)
            spectrum = np.fft.rfft(views[first:last] * self._hann, self.fft)  # [k, fft / 2 + 1]
            power = spectrum.real**2 + spectrum.imag**2
            made[first:last] = self._scaled(self._bands(power))
        return made

    def _bands(self, power: Doubles) -> Doubles:
        """``power`` [k, bins] under each triangle, [k, D].

        Summed row by row: a matrix product may round a frame differently among others than alone.
        """
        bins, weights, starts = self._triangles
        under: Doubles = np.add.reduceat(np.take(power, bins, axis=1) * weights, starts, axis=1)
        return under

    def _scaled(self, power: Doubles) -> Floats:
        values = 10 * np.log10(power + self.floor)
        if self.scale != "db":
            values = np.clip(255 / self.span_db * values + self.offset, 0, 255)
        return (np.rint(values) if self.scale == "bytes" else values).astype(np.float32)

    @cached_property
    def _hann(self) -> Doubles:
        hann: Doubles = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        return hann

    @cached_property
    def _triangles(self) -> tuple[npt.NDArray[np.intp], Doubles, npt.NDArray[np.intp]]:
        """Bins and weights of all bands one after the other, and where each band begins."""
        bands = self.triangles()
        bins = np.array([index for band in bands for index in band], np.intp)
        weights = np.array([weight for band in bands for weight in band.values()])
        lengths = [len(band) for band in bands]
        return bins, weights, np.cumsum([0, *lengths[:-1]])


class FrameStream:
    """Frames of a sound that comes in chunks of any length, each as soon as its last sample is there.

    They are the frames that the whole sound would have, to the last bit, and nothing is computed twice. The sound
    begins with the zeros that ``pad_ms`` puts before a clip. Made by :meth:`LogMel.stream`.
    """

    frontend: LogMel
    rest: Doubles  # samples [n] that frames to come still need: all of the stream's state

    def __init__(self, frontend: LogMel) -> None:
        self.frontend = frontend
        self.rest = np.zeros(frontend.pad)

    def push(self, chunk: npt.ArrayLike) -> Floats:
        """The frames [k, D] that ``chunk`` completes, k >= 0.

        Args:
            chunk: [n] or [n, channels], n >= 0, as :meth:`LogMel.__call__` takes it.

        Raises:
            InputError: it is not sound; the stream goes on as if it had not been pushed.
        """
        sound = np.concatenate([self.rest, mono(chunk)])
        count = max(0, (len(sound) - self.frontend.window) // self.frontend.hop + 1)
        frames = self.frontend._frames(sound, count) if count else np.empty((0, self.frontend.bands), np.float32)
        self.rest = sound[count * self.frontend.hop :].copy()
        return frames


def mono(audio: npt.ArrayLike) -> Doubles:
    """Sound [n] in 16-bit units, the mean over channels.

    Args:
        audio: [n] or [n, channels], int16, or floats between -1 and 1.

    Raises:
        InputError: another shape or type, NaN, infinity, or floats far outside -1 to 1.
    """
    wanted = "sound is [n] or [n, channels], int16, or floats between -1 and 1"
    try:
        array = np.asarray(audio)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the sound cannot be made an array ({error}); {wanted}") from None
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS):
        raise InputError(f"the sound has the shape {list(array.shape)}; {wanted}")
    if array.dtype.kind != "f" and array.dtype != np.int16:
        raise InputError(f"the sound holds {array.dtype}; {wanted}")
    sound = array.astype(np.float64)
    if array.dtype.kind == "f":
        if not np.isfinite(sound).all():
            place = int(np.argwhere(~np.isfinite(sound))[0, 0])
            raise InputError(f"the sound holds NaN or infinity, first at sample {place}")
        if sound.size and (loudest := float(np.abs(sound).max())) > LOUDEST:
            raise InputError(f"the sound reaches {loudest:g}; {wanted}: divide 16-bit values by {FULL_SCALE}")
        sound *= FULL_SCALE
    if sound.ndim == 1:
        return sound
    mean: Doubles = sum(sound.T[1:], start=sound.T[0]) / sound.shape[1]  # channel by channel: chunks give the same bits
    return mean
