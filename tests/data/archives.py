"""Small files in the original formats of the data sets that are downloaded."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import wave
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import savemat

from fastzoo.data import cinc2017, dsa19, kws12, ucihar

from . import hapt_zip

Floats = npt.NDArray[np.float64]


def zipped(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def table(values: npt.NDArray[Any], separator: str = " ", style: str = "%.7e") -> bytes:
    target = io.StringIO()
    np.savetxt(target, values, fmt=style, delimiter=separator)
    return target.getvalue().encode()


def har() -> dict[str, bytes]:
    """What a server has, by name."""
    return {"hapt.zip": zipped(hapt_zip.members(*hapt_zip.small()))}


def ucihar_members(rows: int = 6, seed: int = 0) -> dict[str, bytes]:
    """``rows`` windows of training and of test, one class after the other."""
    rng = np.random.default_rng(seed)
    files = {"README.txt": b"Human Activity Recognition Using Smartphones"}
    for part, subjects in (("train", (1, 3)), ("test", (2, 4))):
        files[f"{part}/y_{part}.txt"] = table(np.arange(rows) % 6 + 1, style="%d")
        files[f"{part}/subject_{part}.txt"] = table(np.repeat(subjects, (rows - rows // 2, rows // 2)), style="%d")
        for signal in ucihar.SIGNALS:
            content = table(rng.normal(size=(rows, 128)), "  ")
            files[f"{part}/Inertial Signals/{signal}_{part}.txt"] = content
    return {f"UCI HAR Dataset/{name}": content for name, content in files.items()}


def ucihar_zip(members: Mapping[str, bytes]) -> bytes:
    """As the UCI archive sends it: a zip beside a description, in a zip."""
    return zipped({"UCI HAR Dataset.names": b"names", "UCI HAR Dataset.zip": zipped(members)})


def ucihar_() -> dict[str, bytes]:
    return {"ucihar.zip": ucihar_zip(ucihar_members())}


def dsa19_members(seed: int = 0) -> dict[str, bytes]:
    """Two segments of each person in the first, second and last activity."""
    rng = np.random.default_rng(seed)
    return {
        f"data/a{activity:02}/p{person}/s{segment:02}.txt": table(rng.normal(size=(125, 45)), ",", "%.5g")
        for activity in (1, 2, 19)
        for person in range(1, 9)
        for segment in (1, 60)
    }


def dsa19_() -> dict[str, bytes]:
    return {"dsa19.zip": zipped(dsa19_members())}


def idx(values: npt.NDArray[np.uint8]) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(head + values.tobytes(), compresslevel=1)


def mnist() -> dict[str, bytes]:
    """Thirty training images, ten of the test."""
    rng = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 30), ("t10k", 10)):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(rng.integers(0, 256, (count, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte.gz"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files


def mat(signal: npt.NDArray[np.int16]) -> bytes:
    """As MATLAB's level 4 has it, written by SciPy."""
    target = io.BytesIO()
    savemat(target, {"val": signal.reshape(1, -1)}, format="4")
    return target.getvalue()


def ecg(samples: int, seed: int = 0) -> npt.NDArray[np.int16]:
    """Something slow in microvolts."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / cinc2017.SOURCE_RATE
    wave = 400 * np.sin(2 * np.pi * rng.uniform(1, 2) * t) + 100 * np.sin(2 * np.pi * 7 * t) + rng.normal(0, 5, samples)
    signal: npt.NDArray[np.int16] = np.rint(wave).astype(np.int16)
    return signal


def cinc2017_members() -> tuple[dict[str, bytes], list[str]]:
    """Twenty records of 9 to 61 seconds, and their labels."""
    lengths = np.linspace(2700, 18300, 20).astype(int)
    records = {f"training2017/A{number:05}.mat": mat(ecg(n, number)) for number, n in enumerate(lengths, 1)}
    return records, [f"A{number:05},{'NAO~'[number % 4]}" for number in range(1, 21)]


def cinc2017_files(members: Mapping[str, bytes], labels: list[str]) -> dict[str, bytes]:
    return {
        "training2017.zip": zipped({**members, "training2017/REFERENCE.csv": b"A00001,O"}),
        "REFERENCE-v3.csv": "".join(line + "\r\n" for line in labels).encode(),
    }


def cinc2017_() -> dict[str, bytes]:
    return cinc2017_files(*cinc2017_members())


def wav(samples: Floats, rate: int = 16000) -> bytes:
    """Sound between -1 and 1 as 16-bit WAV."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return target.getvalue()


def tone(seed: int, seconds: float = 1.0) -> Floats:
    rng = np.random.default_rng(seed)
    t = np.arange(round(16000 * seconds)) / 16000
    return np.asarray(0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * t) + rng.normal(0, 0.01, len(t)))


SPEAKERS = {"0a1b2c3d": "train", "11aa22bb": "validation", "22cc33dd": "testing"}


def kws12_members() -> dict[str, bytes]:
    """A clip of each speaker for each word, one of them short; noise in two files; the lists come first and last."""
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    clips = {}
    for number, word in enumerate((*kws12.WORDS, *kws12.OTHERS)):
        for take, (speaker, part) in enumerate(SPEAKERS.items()):
            name = f"{word}/{speaker}_nohash_0.wav"
            clips[f"./{name}"] = wav(tone(10 * number + take, 0.5 if (word, take) == ("go", 0) else 1.0))
            if part != "train":
                lists[part].append(name)
    noise = {f"./_background_noise_/{name}.wav": wav(tone(7, 3.0)) for name in ("doing_the_dishes", "pink_noise")}
    return {
        "./validation_list.txt": "\n".join(lists["validation"]).encode(),
        "./LICENSE": b"Creative Commons",
        "./_background_noise_/README.md": b"noise",
        **clips,
        **noise,
        "./testing_list.txt": "\n".join(lists["testing"]).encode(),
    }


def kws12_() -> dict[str, bytes]:
    return {"speech_commands.tar.gz": tarred(kws12_members())}


MAKERS = {"har": har, "ucihar": ucihar_, "dsa19": dsa19_, "mnist": mnist, "cinc2017": cinc2017_, "kws12": kws12_}
SHAPES = {"har": (96, 128, 6), "ucihar": (12, 128, 9), "dsa19": (48, 125, 45), "mnist": (40, 784, 1),
          "cinc2017": (20, 3000, 1)}  # fmt: skip
CLASSES = {"ucihar": ucihar.CLASSES, "dsa19": dsa19.CLASSES, "cinc2017": cinc2017.CLASSES, "kws12": kws12.CLASSES}
