"""What turns sound into the samples of a window: the parameters, which data sets, checkpoints and bundles keep.

:class:`fastzoo.audio.LogMel` computes. Here is what needs no NumPy, which reading a registry does not import.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from fastzoo._values import is_number, is_whole

__all__ = ["FrontEnd"]

KIND = "log-mel"  # readers ignore fields they do not know: one that changes the numbers needs another kind
PLACES = ("start", "centre")
SCALES = ("bytes", "levels", "db")


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """A log-mel front end. One frame, every ``hop_ms``:

        s = samples in 16-bit units, -32768 to 32767;  w = periodic Hann window
        P = |FFT(w s)|^2;  db = 10 log10(M P + floor);  level = clip(255 / span_db * db + offset, 0, 255)

    with ``bands`` triangles M, their corners at equal distances on HTK's mel scale, 1127 ln(1 + f / 700).

    Args:
        rate: samples per second of the sound.
        window_ms: length of a frame, rounded to samples.
        hop_ms: from the start of a frame to the start of the next, rounded to samples.
        fft: points of the FFT, at least the samples of a frame; 0 = the next power of two.
        bands: number of triangles, the channels of a window.
        low_hz: where the first triangle begins.
        high_hz: where the last one ends; 0 = half the rate.
        floor: added to the power, so that silence has a logarithm.
        scale: ``"levels"`` as above, ``"bytes"`` the same rounded to whole numbers, ``"db"`` decibels as they are.
        span_db: decibels from level 0 to level 255.
        offset: the level of 0 dB.
        clip_s: seconds that make a window; what a clip has beyond is cut off.
        pad_ms: zeros before and after a clip.
        place: where the frames of a clip that is shorter lie: ``"start"`` or ``"centre"``; the rest is silence.
        kind: of front end; there is one.

    Numbers keep six digits, as ``bundle.json`` does: what was trained with is what runs.
    """

    rate: int
    window_ms: float = 25.0
    hop_ms: float = 10.0
    fft: int = 0
    bands: int = 40
    low_hz: float = 20.0
    high_hz: float = 0.0
    floor: float = 1.0  # 0 dB; the rounding of 16-bit samples alone gives 15 dB and more
    scale: str = "bytes"
    span_db: float = 112.0
    offset: float = -50.0  # level 0 is 22 dB, level 255 is 134 dB: a tone at full scale
    clip_s: float = 1.0
    pad_ms: float = 0.0
    place: str = "start"
    kind: str = KIND

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and is_number(value):
                object.__setattr__(self, field.name, float(f"{value:.6g}"))
        if self.high_hz == 0 and is_number(self.rate):
            object.__setattr__(self, "high_hz", float(f"{self.rate / 2:.6g}"))
        if self.fft == 0 and is_number(self.rate, 0, 1e9) and is_number(self.window_ms, 0, 1e9):
            object.__setattr__(self, "fft", 1 << max(self.window - 1, 1).bit_length())

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return self._samples(self.window_ms)

    @property
    def hop(self) -> int:
        """Samples from a frame to the next."""
        return self._samples(self.hop_ms)

    @property
    def pad(self) -> int:
        """Zeros before and after a clip."""
        return self._samples(self.pad_ms)

    @property
    def clip(self) -> int:
        """Samples of a clip."""
        return self._samples(1000 * self.clip_s)

    @property
    def steps(self) -> int:
        """Frames of a clip: the steps T of a window."""
        return self.count(self.clip)

    @property
    def frame_rate(self) -> float:
        """Frames per second: the rate of a window."""
        return self.rate / self.hop

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the bands."""
        unit = "dB" if self.scale == "db" else f"{self.span_db / 255:.3g} dB"
        return tuple(f"mel_{band} [{unit}]" for band in range(self.bands))

    def count(self, samples: int) -> int:
        """How many frames a clip of so many samples has."""
        return max(0, (samples + 2 * self.pad - self.window) // self.hop + 1)

    def triangles(self) -> list[dict[int, float]]:
        """The weights of each band by bin of the FFT, those that are not zero; bin 0 has none."""
        low, high = _mel(self.low_hz), _mel(self.high_hz)
        found: list[dict[int, float]] = [{} for _ in range(self.bands)]
        for index in range(1, self.fft // 2 + 1):
            position = (_mel(index * self.rate / self.fft) - low) / (high - low) * (self.bands + 1)  # corners are whole
            left = math.floor(position)
            for band, weight in ((left - 1, left + 1 - position), (left, position - left)):
                if 0 <= band < self.bands and weight > 0:
                    found[band][index] = weight
        return found

    def __eq__(self, other: object) -> bool:
        """Equal parameters, whether the other one computes (:class:`fastzoo.audio.LogMel`) or not."""
        return isinstance(other, FrontEnd) and astuple(self) == astuple(other)

    def __hash__(self) -> int:
        return hash(astuple(self))

    def __str__(self) -> str:
        return (
            f"{self.kind}, {self.bands} bands from {self.low_hz:g} to {self.high_hz:g} Hz, {self.window_ms:g} ms every "
            f"{self.hop_ms:g} ms, {self.clip_s:g} s at {self.rate} samples/s"
        )

    def _samples(self, milliseconds: float) -> int:
        return round(self.rate * milliseconds / 1000)


def faults(of: FrontEnd) -> list[str]:
    """What is wrong with the parameters; every fault on its own."""
    if of.kind != KIND:
        return [f"kind must be {KIND!r}, not {of.kind!r}: a newer fastzoo may know it"]
    found = [f"{name} must be {wanted}, not {getattr(of, name)!r}" for name, good, wanted in _checks(of) if not good]
    return found or list(_contradictions(of))


def misfits(of: FrontEnd, steps: int, channels: int, rate: float) -> list[str]:
    """Where windows [steps, channels] of ``rate`` are not what the front end gives."""
    pairs = (("steps", steps, of.steps), ("channels", channels, of.bands))
    found = [f"it gives {gives} {what}, the windows have {has}" for what, has, gives in pairs if has != gives]
    if not math.isclose(rate, of.frame_rate, rel_tol=1e-5):
        found.append(f"it gives {of.frame_rate:g} frames/s, the windows have the rate {rate:g}")
    return found


def _checks(of: FrontEnd) -> Iterator[tuple[str, bool, str]]:
    yield "rate", is_whole(of.rate, 2000, 192_000), "a whole number of samples per second, 2000 to 192000"
    yield "window_ms", is_number(of.window_ms, 1, 1000), "1 to 1000 milliseconds"
    yield "hop_ms", is_number(of.hop_ms, 1, 1000), "1 to 1000 milliseconds"
    yield "fft", is_whole(of.fft, 2, 2**18), "a whole number, at most 262144"
    yield "bands", is_whole(of.bands, 1, 256), "a whole number, 1 to 256"
    yield "low_hz", is_number(of.low_hz, 0), "a number of at least 0"
    yield "high_hz", is_number(of.high_hz, 0), "a number of at least 0"
    yield "floor", is_number(of.floor, 1e-12, 1e12), "a number from 1e-12 to 1e12"
    yield "scale", of.scale in SCALES, " or ".join(map(repr, SCALES))
    yield "span_db", is_number(of.span_db, 1, 1000), "1 to 1000 decibels"
    yield "offset", is_number(of.offset, -1e6, 1e6), "a number from -1e6 to 1e6"
    yield "clip_s", is_number(of.clip_s, 0.01, 60), "0.01 to 60 seconds"
    yield "pad_ms", is_number(of.pad_ms, 0, 1000), "0 to 1000 milliseconds"
    yield "place", of.place in PLACES, " or ".join(map(repr, PLACES))


def _contradictions(of: FrontEnd) -> Iterator[str]:
    if of.hop_ms > of.window_ms:
        yield f"hop_ms {of.hop_ms:g} is longer than window_ms {of.window_ms:g}: sound in between would be lost"
    if of.fft < of.window:
        yield f"fft {of.fft} is less than the {of.window} samples of a frame"
    if of.count(of.clip) < 1:
        yield f"clip_s {of.clip_s:g} is too short for one frame of {of.window_ms:g} ms"
    if not of.low_hz < of.high_hz <= of.rate / 2:
        yield (
            f"the bands reach from {of.low_hz:g} to {of.high_hz:g} Hz; low_hz must be less than high_hz, and that at "
            f"most half the rate, {of.rate / 2:g} Hz"
        )
    elif empty := [band for band, weights in enumerate(of.triangles()) if not weights]:
        yield (
            f"{len(empty)} of the {of.bands} bands, the first number {empty[0]}, lie between two bins of the FFT, "
            f"{of.rate / of.fft:g} Hz apart: take fewer bands, or fft={2 * of.fft}"
        )


def _mel(hertz: float) -> float:
    return 1127 * math.log1p(hertz / 700)
