"""``zoo_registry.json``: read, validated, written; the one that comes with fastzoo, those in folders and at URLs."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fastzoo import _json
from fastzoo._order import natural
from fastzoo.entry import entry_faults
from fastzoo.errors import RegistryError
from fastzoo.hub import cache, places
from fastzoo.hub.places import Remote

SCHEMA = 1
FILE: str = places.REGISTRY_FILE

PACKAGE = Path(__file__).parent

_LARGEST = 16 * 2**20  # bytes: some thousand models


@dataclass(frozen=True)
class Registry:
    """A registry: its entries by model name, and where their bundles lie.

    Args:
        path: its file; of one on a server, the copy of it.
        root: the folder here that the bundles' paths are relative to; of one on a server, that of the copy.
        models: entries by name; all are checked, or those that :func:`read` was asked for.
        others: what else the file says, kept when it is written again.
        remote: the server's folder that the bundles' paths are relative to.
    """

    path: Path
    root: Path
    models: Mapping[str, dict[str, Any]]
    others: Mapping[str, Any] = field(default_factory=dict)
    remote: Remote | None = None

    @property
    def place(self) -> str:
        """What a person calls it."""
        return str(self.path) if self.remote is None else self.remote.base

    @property
    def boards(self) -> Mapping[str, Any]:
        """Reports of boards by their names: ``machine``, and ``models`` -> ``bundle_sha256`` and ``layouts``."""
        boards: Mapping[str, Any] = self.others.get("boards", {})
        return boards

    def folder(self, entry: Mapping[str, Any]) -> Path:
        """Where the bundle of an entry is, or will be once it is fetched."""
        return self.root / entry["bundle"] if self.remote is None else cache.bundle_folder(entry["bundle_sha256"])


def builtin(checked: Collection[str] | None = None) -> Registry:
    """The registry of the models that come with fastzoo; ``checked`` as in :func:`read`.

    Raises:
        RegistryError: the installation lacks it, or it is damaged.
    """
    for path in (PACKAGE / FILE, PACKAGE.parent / FILE):  # in a wheel; in a checkout
        if path.is_file():
            return read(path, PACKAGE, checked)
    raise RegistryError(f"this installation of fastzoo lacks {FILE}; install it again (pip install --force-reinstall)")


def read(path: Path, root: Path | None = None, checked: Collection[str] | None = None) -> Registry:
    """Read and validate a registry file; one that does not exist yet is empty.

    Args:
        path: the file.
        root: the folder that the bundles' paths are relative to; default its own.
        checked: of the models with these names alone the entries are checked: it takes milliseconds each.

    Raises:
        RegistryError: it is damaged, of a newer schema, or its paths lead out of ``root`` (default: its folder).
    """
    try:
        if path.exists() and path.stat().st_size > _LARGEST:
            raise RegistryError(f"{path} is larger than {_LARGEST // 2**20} MiB: not a registry")
        text = path.read_bytes() if path.exists() else render({})
    except OSError as error:
        raise RegistryError(f"cannot read {path}: {error.strerror}") from error
    models, others = _parse(text, str(path), "repair it, or delete it and register its models again", checked)
    return Registry(path, root or path.parent, models, others)


def read_place(place: str | os.PathLike[str], update: bool = False) -> Registry:
    """The registry in a folder or file here, or at an address.

    Args:
        place: a path, or an address as :mod:`fastzoo.hub.places` knows them.
        update: ask a server now, however fresh the copy of its registry is.

    Raises:
        RegistryError: as in :func:`read`; or it is no address.
        DownloadError: it cannot be had, and there is no copy of it.
        MissingExtraError: the library for Hugging Face is not installed.
    """
    if not places.is_address(place):
        return read(places.local_file(place))
    remote, name = places.registry_at(str(place))
    parse = partial(_parse, what=f"{remote.base}/{name}", remedy="tell those who serve it")
    (models, others), path = cache.index(remote, name, _LARGEST, parse, update)
    return Registry(path, path.parent, models, others, remote)


def _parse(
    text: bytes, what: str, remedy: str, checked: Collection[str] | None = None
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The models, and everything else that the file says."""
    try:
        document = _json.parse(text)
    except ValueError as error:
        if cache.looks_like_a_page(text):
            raise RegistryError(f"{what} is a web page, not a registry; check the address") from None
        raise RegistryError(f"{what} is damaged ({error}); {remedy}") from None
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, dict):
        raise RegistryError(f"{what} is not a registry: it has no object `models`; {remedy}")
    schema = document.get("schema")
    if schema != SCHEMA:
        raise RegistryError(
            f"{what} has schema {schema!r}, this fastzoo reads {SCHEMA}: update fastzoo (pip install -U fastzoo)"
        )
    of_interest = models if checked is None else models.keys() & checked
    faults = [fault for name in of_interest for fault in entry_faults(name, models[name])]
    faults += _json.faults(document.get("boards", {}), Mapping[str, Mapping[str, Any]], "boards")
    if faults:
        raise RegistryError(f"{what} is faulty: {_json.listing(faults)}; {remedy}")
    return models, {key: value for key, value in document.items() if key not in ("schema", "models")}


def render(models: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> bytes:
    """The content of a registry file, models in natural order; ``others`` as in :class:`Registry`."""
    ordered = {name: models[name] for name in sorted(models, key=natural)}
    return _json.render({"schema": SCHEMA, "models": ordered, **(others or {})}).encode() + b"\n"
