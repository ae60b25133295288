"""What the cache holds: bundles, how much of them, when they were used; and how to be rid of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastzoo import _files, bundle
from fastzoo.errors import BundleError
from fastzoo.hub.cache import CacheError, root


@dataclass(frozen=True)
class Cached:
    """A bundle in the cache, as far as it was fetched.

    ``bundle`` is None where its ``bundle.json`` is missing or damaged, ``used`` in seconds since 1970.
    """

    folder: Path
    bundle: bundle.Bundle | None
    files: tuple[str, ...]
    bytes: int
    used: float

    @property
    def models(self) -> tuple[str, ...]:
        """The names of its models."""
        return () if self.bundle is None else tuple(map(self.bundle.model_name, self.bundle.precisions))

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is that of the bundle, of one of its models, or of its folder."""
        return name in (self.bundle.name if self.bundle else "", *self.models, self.folder.name)


def cached() -> list[Cached]:
    """The bundles in the cache, the last used first; nothing is verified."""
    found = []
    for folder in (root() / "bundles").glob("*/"):
        with suppress(FileNotFoundError):  # another process is just deleting it
            found.append(_look(folder))
    return sorted(found, key=lambda one: (-one.used, one.folder.name))


def _look(folder: Path) -> Cached:
    try:
        content = bundle.read(folder)
    except BundleError:
        content = None
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    files = tuple(sorted(name for name in sizes if not name.startswith(".")))
    return Cached(folder, content, files, sum(sizes.values()), folder.stat().st_mtime)


def note_use(folder: Path) -> None:
    """Note that a bundle was used, where that can be written."""
    with suppress(OSError):
        os.utime(folder)


def faults(one: Cached) -> Iterator[str]:
    """Compare the files that are there with their digests."""
    try:
        text = bundle.read_json(one.folder)
        content = bundle.parse(text, one.folder)
    except BundleError as error:
        yield str(error)
        return
    if _files.sha256(text) != one.folder.name:
        yield f"{one.folder / bundle.FILE} is not the one that its folder is named by"
    for record in content.files:
        if record.file in one.files:
            try:
                bundle.read_file(one.folder, record)
            except BundleError as error:
                yield str(error)


def remove(folder: Path) -> None:
    """Delete a bundle, or all the cache's copies of registries.

    Raises:
        CacheError: it cannot be deleted.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CacheError(f"cannot delete {folder}: {error.strerror or error}") from error


def remove_places() -> None:
    """Delete the copies of registries; errors as in :func:`remove`."""
    remove(root() / "places")
