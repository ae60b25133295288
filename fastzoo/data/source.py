"""Where the registered data sets come from: download the files of a source, make the windows, check them, write them.

Every data set with a download is a :class:`Source`; ``$FASTZOO_<ID>_URL`` names another address for any of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastzoo._files import locked
from fastzoo.data.download import local_copy
from fastzoo.data.prepared import SPLITS, Dataset, data_folder, read
from fastzoo.errors import DataError

__all__ = ["Facts", "File", "Source", "fetch"]


@dataclass(frozen=True)
class File:
    """One file of a source, and the largest size accepted, in bytes."""

    name: str
    limit: int


@dataclass(frozen=True)
class Facts:
    """What is known of the windows where their digest is not, for example since copies round differently.

    Args:
        windows: by class, the windows of the splits train, validation, test; classes that may vary are left out.
        mean: the mean of every channel.
        deviation: the standard deviation of every channel.
        tolerance: by how much of a channel's deviation either may be wrong.
    """

    windows: Mapping[str, Sequence[int]]
    mean: Sequence[float] = ()
    deviation: Sequence[float] = ()
    tolerance: float = 0.0

    def faults(self, data: Dataset) -> Iterator[str]:
        """Where the windows are not what is known of them."""
        if unknown := [label for label in self.windows if label not in data.classes]:
            yield f"there is no class {', '.join(unknown)}"
            return
        for label, expected in self.windows.items():
            of_class = data.y == data.classes.index(label)
            found = [int((of_class & (data.split == split)).sum()) for split in range(len(SPLITS))]
            if found != list(expected):
                yield f"{label} has {found} {', '.join(SPLITS)} windows, expected {list(expected)}"
        if self.mean and len(self.mean) != len(data.channels):
            yield f"there are {len(data.channels)} channels, expected {len(self.mean)}"
            return
        for position, channel in enumerate(data.channels if self.mean else ()):
            values = data.x[:, :, position].astype(np.float64)
            mean, deviation = self.mean[position], self.deviation[position]
            off = max(abs(values.mean() - mean), abs(values.std() - deviation))
            if off > self.tolerance * deviation:
                yield (
                    f"{channel} has mean {values.mean():.4g} and standard deviation {values.std():.4g}, expected "
                    f"{mean:.4g} and {deviation:.4g}"
                )


@dataclass(frozen=True)
class Source:
    """Files on a server, and how they become a data set.

    Args:
        id: of the data set.
        what: the files in words, for errors: "the zip of UCI data set 341".
        urls: addresses to try in turn: of the file, or, ending in ``/``, of the folder that holds several.
        files: what is downloaded.
        make: the data set out of the downloaded files by name, where they came from, and whether to show progress.
        sha256: digest of the windows, where it is known.
        facts: what else is known of them.
        former: an older name of the variable that names another address.
        keep: keep a part of the download, and go on from there the next time: for large files.
    """

    id: str
    what: str
    urls: tuple[str, ...]
    files: tuple[File, ...]
    make: Callable[[Mapping[str, Path], str, bool], Dataset]
    sha256: str | None = None
    facts: Facts | None = None
    former: str | None = None
    keep: bool = False

    @property
    def variable(self) -> str:
        """The variable of the environment that names another address."""
        return variable(self.id)

    @property
    def remedy(self) -> str:
        """The last sentence of every error: what the user should do."""
        return remedy(self.id, self.what, several=len(self.files) > 1)

    def addresses(self) -> tuple[str, ...]:
        """Those in the environment, else the official ones."""
        for name in filter(None, (self.variable, self.former)):
            if url := os.environ.get(name):
                return (url,)
        return self.urls

    def faults(self, data: Dataset) -> list[str]:
        """What tells that the windows are not the known ones."""
        if self.sha256 is not None and data.sha256 != self.sha256:
            return [f"they have the digest {data.sha256}, expected {self.sha256}"]
        return [] if self.facts is None else list(self.facts.faults(data))


def variable(id: str) -> str:
    """The variable of the environment that names another address of a data set's source."""
    return f"FASTZOO_{id.upper()}_URL"


def remedy(id: str, what: str, several: bool = False) -> str:
    """What the user should do about a download, or a file, that is of no use."""
    address = "the address of their folder, ending in /" if several else "its address"
    return (
        f"Try again later, or download {what} another way and set {variable(id)} to {address} (a file:// address is "
        "allowed)"
    )


def fetch(source: Source, url: str | None = None, verify: bool = True, progress: bool = True) -> Path:
    """Download a source, make the windows and write ``<id>.npz`` into the data folder; nothing to do if it is there.

    Args:
        source: which one.
        url: another address, ``http(s)://`` or ``file://``.
        verify: refuse windows that are not the known ones.
        progress: show a progress bar on stderr.

    Returns:
        The path of the prepared file.

    Raises:
        DataError: the download fails, is not what it should be, or the file cannot be written.
        MissingExtraError: a package that the source needs is not installed.
    """
    folder = data_folder()
    if _is_prepared(source, folder / f"{source.id}.npz", verify):
        return folder / f"{source.id}.npz"
    urls = (url,) if url else source.addresses()
    for mirror in urls[:-1]:
        try:
            return _fetch(source, mirror, folder, verify, progress)
        except DataError:
            continue  # the last one has the last word
    return _fetch(source, urls[-1], folder, verify, progress)


def _fetch(source: Source, url: str, folder: Path, verify: bool, progress: bool) -> Path:
    with _scratch(source, folder, url) as scratch:
        made = folder / f"{source.id}.npz"
        if not (source.keep and _is_prepared(source, made, verify)):  # by another process, for which this one waited
            made = _make(source, url, scratch, folder, verify, progress)
    if source.keep:
        shutil.rmtree(_kept(source, folder), ignore_errors=True)
    return made


def _make(source: Source, url: str, scratch: Path, folder: Path, verify: bool, progress: bool) -> Path:
    files = _download(source, url, scratch, progress)
    try:
        data = source.make(files, url, progress)
    except DataError:
        for path in scratch.iterdir():
            path.unlink()  # of no use: begin anew the next time
        raise
    if verify and (faults := source.faults(data)):
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        kept = f". The download is kept in {scratch}: delete it to begin anew" if source.keep else ""
        raise DataError(
            f"the windows made from {url} are not those that this version of fastzoo knows: "
            f"{'; '.join(faults[:3])}{more}. To use them nevertheless pass verify=False (--no-verify on the command "
            f"line){kept}"
        )
    return data.save(folder)


def _is_prepared(source: Source, path: Path, verify: bool) -> bool:
    if not path.exists():
        return False
    try:
        data = read(path)
    except DataError:
        return False  # damaged: fetch it again
    return not (verify and source.faults(data))


@contextmanager
def _scratch(source: Source, folder: Path, url: str) -> Iterator[Path]:
    """A hidden folder for the download, which is empty in the end unless a part of the file is to be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not source.keep:
            temporary = tempfile.TemporaryDirectory(prefix=f".{source.id}-", dir=folder)
        else:
            kept = _kept(source, folder) / hashlib.sha256(url.encode()).hexdigest()[:8]
            kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write to {folder}: {error.strerror}. Set FASTZOO_DATA to a folder with space and write permission"
        ) from error
    if source.keep:
        with locked(kept):  # two processes must not append to the same file
            yield kept
    else:
        with temporary as name:
            yield Path(name)


def _kept(source: Source, folder: Path) -> Path:
    return folder / f".{source.id}-download"


def _download(source: Source, url: str, scratch: Path, progress: bool) -> Mapping[str, Path]:
    """The files by name; those behind a ``file://`` address stay where they are."""
    if len(source.files) > 1 and not url.endswith("/"):
        raise DataError(
            f"{url!r} must end in /: it is the folder of {', '.join(file.name for file in source.files)}. "
            f"{source.remedy}"
        )
    found = {}
    for file in source.files:
        address = url + file.name if len(source.files) > 1 else url
        path, whole = scratch / f"{file.name}.part", scratch / file.name
        if not whole.exists():
            copy = local_copy(address, path, file.limit, source.remedy, progress, resume=source.keep)
            if copy != path:
                whole = copy  # a file:// address
            else:
                path.replace(whole)
        found[file.name] = whole
    return found
