"""Sound: a folder of WAV files per class, each made a window by a log-mel front end."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastzoo import wav
from fastzoo._json import listing
from fastzoo._order import natural
from fastzoo.audio import FULL_SCALE, LogMel, mono
from fastzoo.data.cut import Cut
from fastzoo.data.prepared import SPLITS, TEST, TRAIN, VALIDATION, Dataset
from fastzoo.data.progress import shown
from fastzoo.data.windows import resampled
from fastzoo.errors import DataError, InputError
from fastzoo.wav import Wav

OPTIONS = ("rate", "resample", "window")
SPLIT_FOLDERS = {
    "train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "dev": VALIDATION, "test": TEST, "testing": TEST,
}  # fmt: skip
LISTS = {"validation_list.txt": VALIDATION, "testing_list.txt": TEST}
SPEAKER = re.compile(r"(.+?)_nohash_")  # Speech Commands: speaker_nohash_take.wav
OTHER_SOUND = (".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus")

Given: TypeAlias = LogMel | Mapping[str, Any] | str | None


@dataclass(frozen=True)
class Clip:
    """One file."""

    name: str  # below the folder, with forward slashes
    label: str
    group: str
    split: int


def is_folder(path: Path) -> bool:
    """Whether a folder has WAV files in a folder per class, or in one per class and split."""
    return any(
        _is_wav(file) for folder in _folders(path) for inner in (folder, *_folders(folder)) for file in inner.iterdir()
    )


def load_folder(
    path: str | os.PathLike[str],
    cut: Cut | None = None,
    frontend: Given = None,
    progress: bool = True,
) -> Dataset:
    """One window per WAV file; the classes are the folders' names.

    Who speaks is known by Speech Commands' names, ``speaker_nohash_take.wav``, or by folders inside those of the
    classes; otherwise each file is a group. The split is told by, in this order: folders ``train``, ``validation`` and
    ``test`` above those of the classes; ``validation_list.txt`` and ``testing_list.txt``; the rule of Speech Commands
    (a tenth of the speakers each, by a hash of the name) where names are like its own; else all is for training.

    Args:
        path: the folder. Folders inside that begin with ``_`` or ``.`` are left out.
        cut: ``rate`` of the files, ``resample`` to bring all files to one rate, ``window``: samples of a clip.
        frontend: the front end; or some of its fields, as a mapping or as text, ``"bands=32, clip_s=1.5"``, the others
            having their defaults and ``rate`` being that of the files; or ``"kws12"``, see
            :meth:`fastzoo.audio.LogMel.kws12`.
        progress: show a bar on stderr.

    Raises:
        DataError: there are no such files, files are damaged, too short or of another rate, or a speaker is in two
            splits; files are named.
        MissingExtraError: SciPy, which resamples, is not installed.
    """
    path, cut = Path(path), cut or Cut()
    cut.only(*OPTIONS, source=f"{path}, a folder of WAV files,")
    clips, notes = _find(path)
    sounds = _open(path, clips, progress)
    made = _frontend(_rate(path, clips, sounds, cut, frontend), cut, frontend)
    x, more = _windows(clips, sounds, made, progress)
    classes = sorted({clip.label for clip in clips}, key=natural)
    groups = {name: code for code, name in enumerate(sorted({clip.group for clip in clips}, key=natural))}
    return Dataset(
        id=path.resolve().name,
        x=x,
        y=np.array([classes.index(clip.label) for clip in clips], np.int64),
        group=np.array([groups[clip.group] for clip in clips], np.int64),
        split=np.array([clip.split for clip in clips], np.uint8),
        classes=tuple(classes),
        channels=made.channels,
        rate=made.frame_rate,
        notes=(f"front end: {made}", *notes, *more),
        frontend=made,
    )


def _is_wav(file: Path) -> bool:
    return file.suffix.lower() == ".wav" and not file.name.startswith(".") and file.is_file()


def _folders(path: Path) -> list[Path]:
    found = (folder for folder in path.iterdir() if folder.is_dir() and folder.name[0] not in "._")
    return sorted(found, key=lambda folder: natural(folder.name))


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in SPLIT_FOLDERS and not any(map(_is_wav, folder.iterdir()))


def _find(path: Path) -> tuple[list[Clip], list[str]]:
    """All clips, and what is worth saying about them."""
    try:
        top = _folders(path)
        if top and all(map(_is_split, top)):
            clips = [c for f in top for c in _in_folders(path, _folders(f), SPLIT_FOLDERS[f.name.lower()])]
            how = "by folders"
        else:
            clips, how = _split(path, list(_in_folders(path, top, TRAIN)))
        others = sum(file.suffix.lower() in OTHER_SOUND for folder in top for file in folder.rglob("*"))
        left_out = [f.name for f in path.iterdir() if f.is_dir() and f.name.startswith("_") and any(f.glob("*.wav"))]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not clips:
        raise DataError(f"{path} has no folders with WAV files, one folder per class")
    _check_groups(clips)
    notes = [f"split {how}"]
    if others:
        notes.append(f"{others} sound file(s) that are not WAV were left out: convert them")
    if left_out:
        notes.append(f"left out, since the name begins with _: {', '.join(sorted(left_out))}")
    return clips, notes


def _in_folders(path: Path, folders: Iterable[Path], split: int) -> Iterator[Clip]:
    for folder in folders:
        files = [file for file in folder.rglob("*") if _is_wav(file)]
        for file in sorted(files, key=lambda file: natural(file.as_posix())):
            name, inner = file.relative_to(path).as_posix(), file.relative_to(folder).parts[:-1]
            speaker = SPEAKER.match(file.name)
            yield Clip(name, folder.name, speaker[1] if speaker else "/".join(inner) or name, split)


def _split(path: Path, clips: list[Clip]) -> tuple[list[Clip], str]:
    """The clips with the split that lists or names tell, and how it was told."""
    lists = {name: _listed(path / name) for name in LISTS if (path / name).is_file()}
    if lists:
        told = {clip: LISTS[name] for name, listed in lists.items() for clip in listed}
        if clips and not told.keys() & {clip.name for clip in clips}:
            raise DataError(
                f"{' and '.join(lists)} in {path} name none of its WAV files: lines like {clips[0].name} are expected"
            )
        how = f"by {' and '.join(lists)}"
    elif any(SPEAKER.match(Path(clip.name).name) for clip in clips):
        told = {clip.name: _hashed(clip.group) for clip in clips}
        how = "by the rule of Speech Commands: a tenth of the speakers each for validation and test"
    else:
        return clips, "not told: all is for training"
    return [Clip(clip.name, clip.label, clip.group, told.get(clip.name, TRAIN)) for clip in clips], how


def _listed(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}") from error
    return {line.strip().replace("\\", "/").removeprefix("./") for line in lines if line.strip()}


def _hashed(speaker: str) -> int:
    """The split that Speech Commands' own rule gives to a speaker."""
    percent = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1)
    return VALIDATION if percent < 10 else TEST if percent < 20 else TRAIN


def _check_groups(clips: Sequence[Clip]) -> None:
    first: dict[str, Clip] = {}
    for clip in clips:
        other = first.setdefault(clip.group, clip)
        if other.split != clip.split:
            raise DataError(
                f"the speaker {clip.group!r} is in two splits: {other.name} is for {SPLITS[other.split]}, {clip.name} "
                f"for {SPLITS[clip.split]}. Who was heard in training tests nothing: move all clips of one to one split"
            )


def _open(path: Path, clips: Sequence[Clip], progress: bool) -> list[Wav]:
    """The headers of all files."""
    sounds, faults = [], []
    for clip in shown(clips, "reading headers", progress):
        try:
            sounds.append(wav.open(path / clip.name))
        except InputError as error:
            faults.append(str(error))
        else:
            if not sounds[-1].frames:
                faults.append(f"{sounds[-1].path} holds no samples")
    _refuse(faults, len(clips))
    return sounds


def _refuse(faults: list[str], files: int) -> None:
    if faults:
        raise DataError(
            f"{len(faults)} of {files} WAV file(s) cannot be used: {listing(faults, most=5)}. Mend or delete them"
        )


def _frontend(rate: int, cut: Cut, given: Given) -> LogMel:
    """The front end for sounds of ``rate``."""
    if isinstance(given, LogMel | str) and cut.window is not None:
        raise DataError("the front end says how long a clip is: leave out --window, or give clip_s")
    if isinstance(given, LogMel):
        return given
    if isinstance(given, str):
        return parse_frontend(given, rate)
    length = {} if cut.window is None else {"clip_s": cut.window / rate}
    return LogMel.of({**length, **(given or {}), "rate": rate})


def parse_frontend(text: str, rate: int = 16000) -> LogMel:
    """A front end out of ``"kws12"`` or ``"bands=32, clip_s=1.5"``.

    Args:
        text: the name of a known one, or fields that differ from the usual ones.
        rate: samples per second of the sound.

    Raises:
        DataError: it is neither.
    """
    return LogMel.kws12(rate, "bytes") if text == "kws12" else LogMel.of({**_parsed(text), "rate": rate})


def _parsed(text: str) -> dict[str, Any]:
    """Fields of a front end out of ``"bands=32, clip_s=1.5"``."""
    kinds = {"int": int, "float": float, "str": str}
    types = {field.name: kinds[str(field.type)] for field in fields(LogMel) if field.name not in ("rate", "kind")}
    found: dict[str, Any] = {}
    for pair in text.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        try:
            found[name] = types[name](value)
        except (KeyError, ValueError):
            raise DataError(
                f"a front end is 'kws12', or fields as in 'bands=32, clip_s=1.5', not {text!r}; fields are "
                f"{', '.join(types)}"
            ) from None
    return found


def _rate(path: Path, clips: Sequence[Clip], sounds: Sequence[Wav], cut: Cut, given: Given) -> int:
    """The rate of the front end, if all files have it or can be brought to it."""
    stated = given.rate if isinstance(given, LogMel) else given.get("rate") if isinstance(given, Mapping) else None
    wanted = {"resample": cut.resample, "rate": cut.rate, "the front end's rate": stated}
    rates = {name: rate for name, rate in wanted.items() if rate is not None}
    if len(set(rates.values())) > 1:
        raise DataError(
            "these name different rates, choose one: " + ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
        )
    found = Counter(sound.rate for sound in sounds)
    rate = next(iter(rates.values()), found.most_common(1)[0][0])
    if cut.resample is None and set(found) != {rate}:
        names: dict[int, str] = {}
        for clip, sound in zip(clips, sounds, strict=True):
            names.setdefault(sound.rate, clip.name)
        each = [f"{other} samples/s in {count} file(s), such as {names[other]}" for other, count in found.most_common()]
        what = f"are to have {rate:g} samples/s, and have" if rates else "have different rates:"
        raise DataError(
            f"the WAV files in {path} {what} {listing(each)}. Bring all to one rate with --resample {rate:g} "
            f"(resample={rate:g})"
        )
    if rate != int(rate):
        raise DataError(f"a front end has a whole number of samples per second, not {rate}")
    return int(rate)


def _windows(
    clips: Sequence[Clip], sounds: Sequence[Wav], frontend: LogMel, progress: bool
) -> tuple[npt.NDArray[Any], list[str]]:
    """All windows [N, T, D], and what was done to make them."""
    dtype = np.uint8 if frontend.scale == "bytes" else np.float32
    x = np.empty((len(sounds), frontend.steps, frontend.bands), dtype)
    faults, silent = [], []
    for row, sound in enumerate(shown(sounds, "hearing", progress)):
        try:
            samples = sound.read(frontend.clip_s if sound.rate == frontend.rate else None)
            if not (samples != samples[:1]).any():
                silent.append(clips[row].name)
            if sound.rate != frontend.rate:
                samples = (mono(samples)[:, np.newaxis] / FULL_SCALE).astype(np.float32)
                samples = resampled(samples, sound.rate, frontend.rate)
            x[row] = frontend(samples, frontend.rate)
        except InputError as error:
            faults.append(f"{sound.path}: {error}")
    _refuse(faults, len(sounds))
    return x, list(_notes(sounds, frontend, silent))


def _notes(sounds: Sequence[Wav], frontend: LogMel, silent: list[str]) -> Iterator[str]:
    lengths = [sound.frames * frontend.rate - frontend.clip * sound.rate for sound in sounds]
    if short := sum(length < 0 for length in lengths):
        where = "at the start" if frontend.place == "start" else "in the middle"
        yield f"{short} clip(s) shorter than {frontend.clip_s:g} s lie {where} of the window, the rest is silence"
    if long := sum(length > 0 for length in lengths):
        yield f"{long} clip(s) longer than {frontend.clip_s:g} s were cut off there"
    for rate, count in sorted(Counter(sound.rate for sound in sounds if sound.rate != frontend.rate).items()):
        empty = f"; above {rate // 2} Hz they are silent" if rate / 2 < frontend.high_hz else ""
        yield f"{count} clip(s) were resampled from {rate} samples/s{empty}"
    if silent:
        yield f"{len(silent)} clip(s) are digital silence: {listing(silent, most=5)}"
