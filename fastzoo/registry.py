"""Registries: which models there are, and where their bundles lie.

The registry that comes with fastzoo, and those of the user: the folders, files and addresses named in
``$FASTZOO_REGISTRY`` (several are separated as in ``$PATH``; the first folder is where :func:`register` writes), else
the user's data folder and what `fastzoo registry add` added. A model of the user's hides one that comes with fastzoo
only if it was registered, in a folder here, with ``force``.
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastzoo import _files, bundle
from fastzoo._order import natural
from fastzoo._registering import Built, build, default_file, register
from fastzoo._registry_file import FILE, SCHEMA, Registry, builtin, read, read_place, render
from fastzoo.entry import entries, index
from fastzoo.errors import BundleError, FastzooError, UnknownModelError
from fastzoo.hub import cache, contents, places, settings
from fastzoo.hub.places import Remote
from fastzoo.records import FileRecord

__all__ = [
    "FILE", "SCHEMA", "Built", "Registry", "Source", "build", "builtin", "default_file", "fastest", "index",
    "is_folder", "locate", "models", "read", "read_place", "register", "render", "source", "user_places",
    "whole_bundle",
]  # fmt: skip

log = logging.getLogger("fastzoo")


@dataclass(frozen=True)
class Source:
    """A model, and where its files come from.

    Args:
        entry: what its registry, or its bundle, says.
        folder: where its files are here, or will be.
        remote: the server's folder that they are fetched from; None = they lie here.
        registry: what registered it; None = nothing did.
    """

    entry: dict[str, Any]
    folder: Path
    remote: Remote | None = None
    registry: str | None = None

    def open(self) -> Path:
        """The folder, with the ``bundle.json`` in it that the entry is of.

        Raises:
            DownloadError: it cannot be had.
            BundleError: it is missing, or was changed after it was registered.
        """
        if self.remote is not None:
            cache.ensure(self.remote, bundle.FILE, self.folder / bundle.FILE, self.entry["bundle_sha256"])
            contents.note_use(self.folder)
        elif _files.sha256(bundle.read_json(self.folder)) != self.entry["bundle_sha256"]:
            raise BundleError(
                f"{self.folder / bundle.FILE} is not the one that {self.registry} registered as {self.entry['name']}; "
                "register the bundle again with --force, or install fastzoo again if the model came with it"
            )
        return self.folder

    def fetch(self, record: FileRecord) -> None:
        """Have one file of the bundle in the folder; nothing to do where the bundle lies here.

        Raises:
            DownloadError: it cannot be had, or is not what was promised.
        """
        if self.remote is not None:
            cache.ensure(self.remote, record.file, self.folder / record.file, record.sha256, record.bytes)


def user_places() -> Iterator[settings.Place]:
    """The user's registries in the order in which they are searched; they need not exist.

    Raises:
        RegistryError: what `fastzoo registry add` noted cannot be read.
    """
    yield from settings.named()
    yield from settings.added()


class _Registries:
    """The user's registries; one that cannot be read is passed over, with a warning in the log."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def read(self, servers: bool = True) -> Iterator[Registry]:
        """One after the other, each only when it is asked for.

        Args:
            servers: those on servers too.
        """
        known = user_places()
        while True:
            try:
                place = next(known)
                if servers or not place.is_remote:
                    yield read_place(place.place)
            except StopIteration:
                return
            except FastzooError as error:
                self.faults.append(str(error))
                log.warning("a registry is passed over: %s", error)


def _known() -> dict[str, dict[str, Any]]:
    """The entry of every model that can be loaded by name."""
    known: dict[str, dict[str, Any]] = {}
    shipped = builtin().models
    for registry in _Registries().read():
        for name, entry in registry.models.items():
            if name not in shipped or _replaces(registry, entry):
                known.setdefault(name, entry)
    return {**shipped, **known}


def _replaces(registry: Registry, entry: Mapping[str, Any]) -> bool:
    """Whether an entry may hide a model that comes with fastzoo; a server cannot decide that."""
    return registry.remote is None and bool(entry.get("replaces_builtin"))


def models(
    pattern: str = "*",
    *,
    dataset: str | None = None,
    cell: str | None = None,
    precision: str | None = None,
    max_bytes: int | None = None,
) -> list[dict[str, Any]]:
    """The entries that fit, in natural order of their names. A registry that cannot be read is a warning in the log.

    Args:
        pattern: a name with ``*``, ``?`` and ``[...]`` as in file names.
        dataset: id of the data set it was trained on, ``"har"``.
        cell: type of its cell, ``"fastgrnn"``.
        precision: ``"fp32"`` or ``"int8"``.
        max_bytes: the most that its weights may take.

    Raises:
        RegistryError: the registry that comes with fastzoo is missing or damaged.
    """

    def fits(entry: dict[str, Any]) -> bool:
        return (
            fnmatch.fnmatchcase(entry["name"], pattern)
            and dataset in (None, entry.get("dataset", {}).get("id"))
            and cell in (None, entry["cell"].get("type"))
            and precision in (None, entry["precision"])
            and (max_bytes is None or entry["weights_bytes"] <= max_bytes)
        )

    found = [entry for entry in _known().values() if fits(entry)]
    return sorted(found, key=lambda entry: natural(entry["name"]))


def _find(name: str) -> tuple[Registry, dict[str, Any]]:
    """The first registry that has a model, and its entry; servers are asked only where nothing here has it.

    Raises:
        UnknownModelError: no model has this name.
        RegistryError: the registry that comes with fastzoo is missing or damaged.
    """
    shipped, registries = builtin([name]), _Registries()
    if name in shipped.models:
        for registry in registries.read(servers=False):
            if name in registry.models and _replaces(registry, registry.models[name]):
                return registry, registry.models[name]
        return shipped, shipped.models[name]
    known = set(shipped.models)
    for registry in registries.read():
        if name in registry.models:
            return registry, registry.models[name]
        known.update(registry.models)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    unread = f" Not all registries could be read: {'; '.join(registries.faults)}" if registries.faults else ""
    raise UnknownModelError(
        f"no model {name!r} is registered. {hint}`fastzoo list` shows all {len(known)}; "
        f"a bundle's folder can be given instead, with a slash in it (./my-model), or its address.{unread}"
    )


def fastest(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Of an entry's layouts the one that ``layout="auto"`` opens, else the first: its file, bytes, latency."""
    layouts: Mapping[str, dict[str, Any]] = entry["layouts"]
    return layouts[entry.get("fastest", next(iter(layouts)))]


def is_folder(name: str | os.PathLike[str]) -> bool:
    """Whether a bundle's folder is meant, not a registered name: a path, or the name of a folder with a bundle."""
    if not isinstance(name, str):
        return True
    return "/" in name or os.sep in name or name in (".", "..") or (Path(name) / bundle.FILE).is_file()


def source(name: str | os.PathLike[str], precision: str = "auto") -> Source:
    """The model of a registered name, of a bundle's folder, or of a bundle's address.

    Of a registered model no file is asked for yet: see :meth:`Source.open`.

    Args:
        name: the name, folder or address; an address may end in ``#sha256=`` and the digest of its ``bundle.json``.
        precision: ``"auto"``: int8 if a folder or an address has it; a registered name says its own.

    Raises:
        UnknownModelError: no model has this name, or the model of this name has another precision.
        RegistryError: the registry that comes with fastzoo is damaged, or an address is none.
        BundleError: the bundle is missing, faulty, or lacks the precision.
        DownloadError: the bundle cannot be had from its address.
        MissingExtraError: the library for Hugging Face is not installed.
    """
    if places.is_address(name):
        remote, pin = places.bundle_at(str(name))
        folder = _described_at(remote, pin)
        return Source(_preferred(folder, str(name), precision), folder, remote)
    if is_folder(name):
        return Source(_preferred(Path(name), Path(name).as_posix(), precision), Path(name))
    registry, entry = _find(str(name))
    if precision not in ("auto", entry["precision"]):
        raise UnknownModelError(
            f"{name} is a model in {entry['precision']}; load the name that ends in {precision!r} instead"
        )
    below = registry.remote.below(entry["bundle"]) if registry.remote else None
    return Source(entry, registry.folder(entry), below, registry.place)


def _described_at(remote: Remote, pin: str | None) -> Path:
    """The folder in the cache of the bundle at an address, with its ``bundle.json``."""
    if pin is None:
        return _newest(remote)
    folder = cache.bundle_folder(pin)
    cache.ensure(remote, bundle.FILE, folder / bundle.FILE, pin)
    return folder


def _newest(remote: Remote) -> Path:
    def read_bundle(text: bytes) -> bytes:
        if cache.looks_like_a_page(text):
            raise BundleError(f"{remote.base}/{bundle.FILE} is a web page, not a bundle's; check the address")
        bundle.parse(text, remote.base)
        return text

    text, _ = cache.index(remote, bundle.FILE, cache.LARGEST_BUNDLE_JSON, read_bundle)
    folder = cache.bundle_folder(_files.sha256(text))
    cache.keep(folder / bundle.FILE, text)
    return folder


def _preferred(folder: Path, recorded: str, precision: str) -> dict[str, Any]:
    """The entry of a bundle in one precision."""
    by_precision = {entry["precision"]: entry for entry in entries(folder, recorded).values()}
    if precision == "auto":
        precision = next((known for known in ("int8", "fp32") if known in by_precision), next(iter(by_precision)))
    if precision not in by_precision:
        raise BundleError(f"{recorded} has no precision {precision!r}, only {', '.join(by_precision)}")
    return by_precision[precision]


def whole_bundle(name: str | os.PathLike[str]) -> Path:
    """The folder of a bundle with all its files: of a bundle's or a model's name, a folder, or an address.

    Raises:
        BundleError: a file is missing or differs from what ``bundle.json`` says; else as :func:`source` does.
    """
    try:
        found = source(name)
    except UnknownModelError:
        known = {entry["name"] for entry in models()}
        named = [f"{name}-{precision}" for precision in bundle.PRECISIONS if f"{name}-{precision}" in known]
        if not named:
            raise
        found = source(named[0])
    folder = found.open()
    content = bundle.read(folder)
    for record in content.files:
        found.fetch(record)
    bundle.check(content, folder)
    return folder


def locate(name: str | os.PathLike[str], precision: str = "auto") -> tuple[dict[str, Any], Path]:
    """The entry and the folder of a model, with its ``bundle.json`` in it; see :func:`source`, and its errors.

    Files of a model on a server are in the folder only once :meth:`Source.fetch` brought them.
    """
    found = source(name, precision)
    return found.entry, found.open()
