"""Read WAV files in NumPy alone.

The standard library's ``wave`` reads neither float samples nor, before Python 3.12, the extensible header that most
24-bit files have, and it takes a truncated file for a short one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
WIDTHS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}  # bits
OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x55: "MP3"}
OPEN_END = 0xFFFFFFFF  # the size in a header that was written before the end was known


@dataclass(frozen=True)
class Wav:
    """The header of a file; :meth:`read` reads its samples."""

    path: Path
    rate: int
    channels: int
    frames: int  # samples of each channel
    code: int
    bits: int
    offset: int  # bytes before the first sample

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.rate

    def read(self, seconds: float | None = None) -> npt.NDArray[Any]:
        """Samples [n], or [n, channels] of more than one: int16 of a 16-bit file, else float32 between -1 and 1.

        Args:
            seconds: read no more than the first ones.

        Raises:
            InputError: the file cannot be read.
        """
        frames = self.frames if seconds is None else min(self.frames, ceil(seconds * self.rate))
        wanted = frames * self.channels * self.bits // 8
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(wanted)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error
        if len(data) < wanted:
            raise InputError(f"{self.path} became shorter while it was read")
        samples = _samples(data, self.code, self.bits)
        return samples if self.channels == 1 else samples.reshape(-1, self.channels)

    def pieces(self, frames: int) -> Iterator[npt.NDArray[Any]]:
        """The samples as :meth:`read` gives them, ``frames`` of each channel at a time."""
        for first in range(0, self.frames, frames):
            offset = self.offset + first * self.channels * self.bits // 8
            yield replace(self, offset=offset, frames=min(frames, self.frames - first)).read()


def open(path: str | os.PathLike[str]) -> Wav:  # noqa: A001 - as in wave and gzip
    """Read the header of a WAV file: PCM with 8, 16, 24 or 32 bits, or floats.

    Raises:
        InputError: there is no such file, it is not WAV, is compressed, truncated or damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _header(path, file)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def decode(content: bytes, name: str) -> tuple[int, npt.NDArray[Any]]:
    """Samples per second and samples, as :meth:`Wav.read` gives them, of a WAV file in memory.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        InputError: it is not WAV, is compressed, truncated or damaged.
    """
    head = _header(Path(name), BytesIO(content))
    end = head.offset + head.frames * head.channels * head.bits // 8
    samples = _samples(content[head.offset : end], head.code, head.bits)
    return head.rate, samples if head.channels == 1 else samples.reshape(-1, head.channels)


def _header(path: Path, file: IO[bytes]) -> Wav:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        what = "it does not begin with RIFF and WAVE" if start else "it is empty"
        raise InputError(f"{path} is not a WAV file: {what}")
    form: tuple[int, int, int, int] | None = None
    while len(head := file.read(8)) == 8:
        name, length = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data":
            if form is None:
                break
            return _checked(path, form, file.tell(), length, size)
        end = file.tell() + length + length % 2
        if name == b"fmt ":
            form = _format(path, file.read(min(length, 40)))
        file.seek(end)
    raise InputError(f"{path} is a damaged or truncated WAV file: its {'data' if form else 'format'} is missing")


def _format(path: Path, data: bytes) -> tuple[int, int, int, int]:
    """Code, channels, rate and bits per sample."""
    if len(data) < 16:
        raise InputError(f"{path} is a damaged WAV file: its format is cut off")
    code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", data[:16])
    if code == EXTENSIBLE and len(data) >= 26:
        code = struct.unpack("<H", data[24:26])[0]
    if bits not in WIDTHS.get(code, ()):
        name = {PCM: f"{bits}-bit PCM", FLOAT: f"{bits}-bit floats", **OTHERS}.get(code, f"code {code}")
        raise InputError(
            f"{path} holds {name}; PCM with 8, 16, 24 or 32 bits, or 32- or 64-bit floats are expected: convert it, "
            f"for example with `ffmpeg -i {path.name} -c:a pcm_s16le out.wav`"
        )
    if not (channels and rate):
        raise InputError(f"{path} is a damaged WAV file: {channels} channel(s), {rate} samples/s")
    return code, channels, rate, bits


def _checked(path: Path, form: tuple[int, int, int, int], offset: int, length: int, size: int) -> Wav:
    code, channels, rate, bits = form
    if length == OPEN_END:
        length = size - offset
    if offset + length > size:
        raise InputError(f"{path} is truncated: it should hold {length} bytes of samples, and holds {size - offset}")
    return Wav(path, rate, channels, length // (channels * bits // 8), code, bits, offset)


def _samples(data: bytes, code: int, bits: int) -> npt.NDArray[Any]:
    if code == FLOAT:
        with np.errstate(over="ignore"):  # infinity is found where it is used
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    if bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if bits == 16:
        return np.frombuffer(data, "<i2").astype(np.int16)
    if bits == 24:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0].astype(np.float32) / 2**31
    return np.frombuffer(data, "<i4").astype(np.float32) / 2**31
