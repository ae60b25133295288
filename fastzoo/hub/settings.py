"""Which registries the user has: ``$FASTZOO_REGISTRY``, else the data folder and those added by `fastzoo registry`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastzoo import _files, _json
from fastzoo.errors import RegistryError
from fastzoo.hub import places

VARIABLE = "FASTZOO_REGISTRY"
SCHEMA = 1


@dataclass(frozen=True)
class Place:
    """A registry of the user's: a path or an address, and who named it."""

    place: str
    origin: str

    @property
    def is_remote(self) -> bool:
        """Whether it lies on a server."""
        return places.is_address(self.place)


def config_file() -> Path:
    """Where added registries are noted."""
    import platformdirs  # here, so that importing this module stays cheap

    return platformdirs.user_config_path("fastzoo") / "registries.json"


def named() -> list[Place]:
    """The user's registries that need no settings file, in the order in which they are searched."""
    if given := places.split(os.environ.get(VARIABLE, "")):
        return [Place(part, VARIABLE) for part in given]
    import platformdirs

    return [Place(str(platformdirs.user_data_path("fastzoo")), "data folder")]


def added() -> list[Place]:
    """Those that :func:`add` noted, unless ``$FASTZOO_REGISTRY`` takes their place.

    Raises:
        RegistryError: the settings file is damaged.
    """
    if places.split(os.environ.get(VARIABLE, "")):
        return []
    return [Place(part, "added") for part in _read(config_file())]


def add(place: str) -> bool:
    """Note a registry; False if it was noted before.

    Raises:
        RegistryError: the settings cannot be read or written.
    """

    def more(known: list[str]) -> list[str]:
        return known if place in known else [*known, place]

    return _change(more)


def remove(place: str) -> None:
    """Forget a registry; its files stay.

    Raises:
        RegistryError: it was never added, or the settings cannot be read or written.
    """

    def fewer(known: list[str]) -> list[str]:
        if place not in known:
            there = f"added are only {', '.join(known)}" if known else "none was added"
            raise RegistryError(f"{place} was not added with `fastzoo registry add`; {there}")
        return [other for other in known if other != place]

    _change(fewer)


def _change(edit: Callable[[list[str]], list[str]]) -> bool:
    path = config_file()
    try:
        with _files.locked(path):
            before = _read(path)
            after = edit(before)
            if after != before:
                _files.write(path, _json.render({"schema": SCHEMA, "registries": after}).encode() + b"\n")
            return after != before
    except OSError as error:
        raise RegistryError(f"cannot write {path}: {error.strerror}. Name registries in {VARIABLE} instead") from error


def _read(path: Path) -> list[str]:
    remedy = "repair it, or delete it and add your registries again"
    try:
        document = _json.parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise RegistryError(f"cannot read {path} ({error}); {remedy}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise RegistryError(f"{path} is not a list of registries of schema {SCHEMA}; update fastzoo, or {remedy}")
    registries = document.get("registries")
    if not isinstance(registries, list) or not all(isinstance(one, str) for one in registries):
        raise RegistryError(f"{path}: registries must be a list of paths and addresses; {remedy}")
    return list(map(str, registries))
