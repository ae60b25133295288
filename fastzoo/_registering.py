"""Registries that grow: one bundle is registered, or all in a folder are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastzoo import _files, _json, bundle
from fastzoo._order import natural
from fastzoo._registry_file import FILE, builtin, read, render
from fastzoo.entry import entries, index
from fastzoo.errors import BundleError, RegistryError
from fastzoo.hub import places, settings


def register(
    folder: str | os.PathLike[str], registry: str | os.PathLike[str] | None = None, force: bool = False
) -> list[str]:
    """Copy a bundle into a registry of the user's, so that it loads by name from anywhere.

    Args:
        folder: the bundle, of which every file is checked first.
        registry: a registry's file or folder; default the first of the user's that is here and not on a server.
        force: replace other content of the same name, or take the name of a model that comes with fastzoo.

    Returns:
        The names under which its precisions can be loaded. Registering the same content again changes nothing.

    Raises:
        BundleError: the bundle is incomplete or damaged.
        RegistryError: the name is taken, or the registry cannot be read or written.
    """
    path = default_file() if registry is None else _writable(registry)
    text = bundle.read_json(folder)
    content = bundle.parse(text, folder)
    bundle.check(content, folder)
    files = {record.file: bundle.read_file(folder, record) for record in content.files} | {bundle.FILE: text}
    recorded = f"models/{content.name}"
    new = entries(Path(folder), recorded)
    names = sorted(new, key=natural)
    shipped = {name: entry for name, entry in builtin().models.items() if name in new}
    if _digests(shipped) == _digests(new):
        return names
    for name in shipped:
        new[name]["replaces_builtin"] = True
    try:
        with _files.locked(path):
            before = read(path)
            known = dict(before.models)
            destination = path.parent / recorded
            intact = _holds(destination, files)
            if intact and new.items() <= known.items():
                return names
            if not force:
                _refuse_taken(new, shipped, known, path)
                if destination.exists() and not intact:
                    raise RegistryError(f"{destination} already exists. Use --force (force=True) to replace it.")
            kept = {name: entry for name, entry in known.items() if entry["bundle"] != recorded}
            with _files.replaced_folder(destination, files):
                _files.write(path, render({**kept, **new}, before.others))
    except OSError as error:
        raise RegistryError(
            f"cannot write the registry {path}: {error}. Choose another with FASTZOO_REGISTRY or --registry."
        ) from error
    return names


def default_file() -> Path:
    """The registry file that :func:`register` writes by default; it need not exist yet.

    Raises:
        RegistryError: the user has registries on servers only.
    """
    for known in settings.named():
        if not known.is_remote:
            return places.local_file(known.place)
    raise RegistryError(f"{settings.VARIABLE} names servers only; name a folder to register into with --registry")


def _writable(registry: str | os.PathLike[str]) -> Path:
    if places.is_address(registry):
        raise RegistryError(f"{registry} is on a server: register into the folder that it serves")
    return places.local_file(registry)


def _digests(models: Mapping[str, Any]) -> dict[str, str]:
    return {name: entry["bundle_sha256"] for name, entry in models.items()}


def _refuse_taken(new: Mapping[str, Any], shipped: Mapping[str, Any], known: Mapping[str, Any], path: Path) -> None:
    advice = "Export yours under another name, or register it with --force (force=True) to"
    if shipped:
        raise RegistryError(f"{', '.join(shipped)} comes with fastzoo. {advice} use it instead.")
    others = known.keys() - {name for name, digest in _digests(new).items() if _digests(known).get(name) == digest}
    if taken := sorted(new.keys() & others):
        raise RegistryError(f"{path} already has another {', '.join(taken)}. {advice} replace it.")


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether ``folder`` has these files with this content."""
    return all((folder / name).is_file() and (folder / name).read_bytes() == data for name, data in files.items())


@dataclass(frozen=True)
class Built:
    """A registry made of the bundles below its folder, and how it differs from the one that is there.

    ``new``, ``changed`` and ``gone`` are names of models.
    """

    path: Path
    models: Mapping[str, dict[str, Any]]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Whether the registry that is there says the same."""
        return not (self.new or self.changed or self.gone)


def build(folder: str | os.PathLike[str], write: bool = True) -> Built:
    """Make the registry of the bundles below a folder, so that the folder can be served.

    Args:
        folder: hidden folders in it are left out. Reports of boards in its registry are kept.
        write: False only compares.

    Raises:
        BundleError: bundles are incomplete or damaged; all of them in one message.
        RegistryError: no such folder, no bundles in it, two models of one name, or the registry cannot be read or
            written.
    """
    top = Path(folder)
    path = top / FILE
    if not top.is_dir():
        raise RegistryError(f"{top} is no folder; give the one that holds the bundles")
    models = index(_bundles_below(top), top)
    if not write:
        return _compared(path, models)
    try:
        with _files.locked(path):
            built = _compared(path, models)
            if not built.is_current or not path.exists():
                _files.write(path, render(built.models, read(path).others))
    except OSError as error:
        raise RegistryError(f"cannot write {path}: {error.strerror or error}. Choose a folder of yours") from error
    return built


def _bundles_below(top: Path) -> list[Path]:
    """The folders of bundles, every file of which was compared with its digest."""
    found, faults = [], []
    for path in sorted(top.rglob(bundle.FILE)):
        if any(part.startswith(".") for part in path.relative_to(top).parts):
            continue
        try:
            if path.parent == top:
                raise BundleError(f"{path} lies beside the registry; move the bundle into a folder below {top}")
            bundle.check(bundle.read(path.parent), path.parent)
            found.append(path.parent)
        except BundleError as error:
            faults.append(str(error))
    if faults:
        raise BundleError(_json.listing(faults))
    if not found:
        raise RegistryError(f"no bundle lies below {top}; a bundle is the folder that `fastzoo export` wrote")
    return found


def _compared(path: Path, models: Mapping[str, dict[str, Any]]) -> Built:
    before = read(path).models
    for name, entry in models.items():
        if before.get(name, {}).get("replaces_builtin"):
            entry["replaces_builtin"] = True
    new, gone = models.keys() - before.keys(), before.keys() - models.keys()
    changed = [name for name in models.keys() & before.keys() if models[name] != before[name]]
    return Built(path, models, *(tuple(sorted(names, key=natural)) for names in (new, changed, gone)))
