"""``kws12``: ten words, unknown words and background of Google's Speech Commands v2, as 8-bit log-mel maps.

The archive holds a folder of WAV files per word (``right/00f0204f_nohash_0.wav``: speaker and take, at most a second at
16 kHz), ``_background_noise_`` with a few long files, and ``validation_list.txt`` and ``testing_list.txt``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastzoo import wav
from fastzoo.audio import FULL_SCALE, LogMel, mono
from fastzoo.data.archive import tar_members
from fastzoo.data.prepared import TEST, TRAIN, VALIDATION, Dataset
from fastzoo.data.source import Facts, File, Source, remedy
from fastzoo.errors import DataError, InputError

URL = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
WHAT = "speech_commands_v0.02.tar.gz"
REMEDY = remedy("kws12", WHAT)

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
OTHERS = (
    "backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four", "happy", "house", "learn",
    "marvin", "nine", "one", "seven", "sheila", "six", "three", "tree", "two", "visual", "wow", "zero",
)  # fmt: skip
CLASSES = (*WORDS, "unknown", "background")
NOISE = "_background_noise_"
LISTS = {"validation_list.txt": VALIDATION, "testing_list.txt": TEST}
CLIP = re.compile(r"([a-z]+)/((\w+)_nohash_\d+)\.wav")  # word, name, speaker

RATE = 16000
FRONTEND = LogMel.kws12(RATE, "bytes")
CHANNELS = tuple(f"mel_{band} [0..255]" for band in range(FRONTEND.bands))
ONE_OF = 5  # so many of the other words' clips become "unknown", or the class would have two thirds of all windows
PATCHES = 1000  # of background
PATCH_PARTS = (TRAIN,) * 8 + (VALIDATION, TEST)

MAX_ARCHIVE = 4 << 30  # bytes; the official archive has 2.4 GB, a clip 32 kB, the longest noise 3 MB
MAX_MEMBER = 16 << 20
MAX_CONTENT = 16 << 30


class Window(NamedTuple):
    """One row of the data set."""

    label: int
    word: str
    name: str
    speaker: str
    levels: npt.NDArray[np.uint8]  # [T, D]


def read_tar(path: str | os.PathLike[str], source: str | None = None, progress: bool = False) -> Dataset:
    """The maps of all clips of the ten words, of a fifth of those of other words, and of patches of background.

    Rows stand by class, then by word and name. ``group`` is the speaker, and the split that of the archive's lists. Of
    other words a clip is taken where the SHA-1 digest of ``word/name`` is a multiple of five. Patches are a second
    long, at equal distances in all noise files; they have no official split: of ten in a row eight are for training,
    the next for validation, the next for the test.

    Args:
        path: the ``.tar.gz``.
        source: where it came from, for the errors; default ``path``.
        progress: show a bar on stderr.

    Raises:
        DataError: this is no such archive, it is damaged, or it lacks what is needed.
    """
    source = source or os.fspath(path)
    lists: dict[str, bytes] = {}
    noises: dict[str, npt.NDArray[np.float64]] = {}
    windows: list[Window] = []
    with _bar(Path(path), progress) as on_bytes:
        for name, content in tar_members(
            path, source, REMEDY, limit=MAX_MEMBER, total=MAX_CONTENT, wanted=_is_wanted, on_bytes=on_bytes
        ):
            if name in LISTS:
                lists[name] = content
            elif name.startswith(NOISE):
                noises[name] = _sound(name, content, source)
            else:
                windows.append(_clip(name, content, source))
    missing = [name for name in LISTS if name not in lists]
    if missing or not noises or not windows:
        what = missing or (["background noise"] if windows else ["clips of the known words"])
        raise DataError(f"{source} holds no {', '.join(what)}. {REMEDY}")
    listed = {
        line: LISTS[name] for name, content in lists.items() for line in content.decode("utf-8", "replace").split()
    }
    windows.sort(key=lambda window: window[:3])
    pairs = [(window.label, window.word, window.name) for window in windows]
    if len(set(pairs)) != len(pairs):
        raise DataError(f"{source} holds a clip twice. {REMEDY}")
    split = [listed.get(f"{window.word}/{window.name}.wav", TRAIN) for window in windows]
    patches = list(_patches(noises, source))
    windows += patches
    split += [PATCH_PARTS[number % len(PATCH_PARTS)] for number in range(len(patches))]
    return Dataset(
        id="kws12",
        x=np.stack([window.levels for window in windows]),
        y=np.array([window.label for window in windows], np.int64),
        group=np.array([_group(window.speaker) for window in windows], np.int64),
        split=np.array(split, np.uint8),
        classes=CLASSES,
        channels=CHANNELS,
        rate=FRONTEND.frame_rate,
        frontend=FRONTEND,
    )


def _is_wanted(name: str) -> bool:
    if name in LISTS or (name.startswith(f"{NOISE}/") and name.endswith(".wav")):
        return True
    clip = CLIP.fullmatch(name)
    if clip is None:
        return False
    chosen = int(hashlib.sha1(f"{clip[1]}/{clip[2]}".encode(), usedforsecurity=False).hexdigest(), 16) % ONE_OF == 0
    return clip[1] in WORDS or (clip[1] in OTHERS and chosen)


def _clip(name: str, content: bytes, source: str) -> Window:
    clip = CLIP.fullmatch(name)
    assert clip is not None  # of those that are wanted
    word = clip[1]
    label = WORDS.index(word) if word in WORDS else CLASSES.index("unknown")
    return Window(label, word, clip[2], clip[3], _levels(_sound(name, content, source), name, source))


def _sound(name: str, content: bytes, source: str) -> npt.NDArray[np.float64]:
    """The samples [n] of a WAV file, in 16-bit units."""
    try:
        rate, samples = wav.decode(content, name)
        sound = mono(samples)
    except InputError as error:
        raise DataError(f"{error} (in {source}). {REMEDY}") from error
    if rate != RATE:
        raise DataError(f"{name} in {source} has {rate} samples/s, expected {RATE}. {REMEDY}")
    return sound


def _levels(sound: npt.NDArray[np.float64], name: str, source: str) -> npt.NDArray[np.uint8]:
    """The map [T, D] of at most a second of sound in 16-bit units."""
    try:
        return FRONTEND(sound / FULL_SCALE, RATE).astype(np.uint8)
    except InputError as error:
        raise DataError(f"{name} in {source}: {error}. {REMEDY}") from error


def _patches(noises: dict[str, npt.NDArray[np.float64]], source: str) -> Iterator[Window]:
    """Seconds at equal distances in all noise files, one after the other."""
    names = sorted(noises)
    room = np.array([max(0, len(noises[name]) - RATE + 1) for name in names])  # places where a patch can begin
    if not room.any():
        raise DataError(f"{source} holds no background noise of a second. {REMEDY}")
    ends = np.cumsum(room)
    for number, place in enumerate((np.arange(PATCHES) + 0.5) * ends[-1] / PATCHES):
        which = int(np.searchsorted(ends, place, side="right"))
        name = names[which]
        begin = int(place) - int(ends[which] - room[which])
        patch = f"{number:04}"
        levels = _levels(noises[name][begin : begin + RATE], name, source)
        yield Window(CLASSES.index("background"), NOISE, patch, f"{NOISE}{patch}", levels)


def _group(speaker: str) -> int:
    return int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest()[:15], 16)


@contextmanager
def _bar(path: Path, progress: bool) -> Iterator[Callable[[int], object]]:
    """A bar on stderr for the bytes of ``path`` that are read."""
    if not progress:
        yield lambda position: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("hearing", total=path.stat().st_size)
        yield lambda position: bar.update(task, completed=position)


SOURCE = Source(
    id="kws12",
    what=WHAT,
    urls=(URL,),
    files=(File("speech_commands.tar.gz", MAX_ARCHIVE),),
    make=lambda files, source, progress: read_tar(files["speech_commands.tar.gz"], source, progress),
    facts=Facts(
        {
            "down": (3134, 377, 406),
            "go": (3106, 372, 402),
            "left": (3037, 352, 412),
            "no": (3130, 406, 405),
            "off": (2970, 373, 402),
            "on": (3086, 363, 396),
            "right": (3019, 363, 396),
            "stop": (3111, 350, 411),
            "up": (2948, 350, 425),
            "yes": (3228, 397, 419),
            "background": (800, 100, 100),
        }
    ),
    keep=True,
)
