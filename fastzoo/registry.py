"""Registries: which models there are, and in which folders their bundles lie.

The registry that comes with fastzoo, and those of the user: the folders or files named in ``$FASTZOO_REGISTRY``
(several are separated as in ``$PATH``; the first is where :func:`register` writes), else the user's data folder.
A model of the user's hides one that comes with fastzoo only if it was registered with ``force``.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastzoo import _files, _json, bundle
from fastzoo._order import natural
from fastzoo.entry import entries, entry_faults, index
from fastzoo.errors import BundleError, RegistryError, UnknownModelError

__all__ = [
    "Registry", "builtin", "fastest", "find", "index", "is_folder", "locate", "models", "read", "register",
    "render", "user_paths",
]  # fmt: skip

SCHEMA = 1
FILE = "zoo_registry.json"

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Registry:
    """A registry file: its entries by model name, and the folder that their bundles' paths are relative to."""

    path: Path
    root: Path
    models: Mapping[str, dict[str, Any]]


def builtin() -> Registry:
    """The registry of the models that come with fastzoo.

    Raises:
        RegistryError: the installation lacks it, or it is damaged.
    """
    for path in (PACKAGE / FILE, PACKAGE.parent / FILE):  # in a wheel; in a checkout
        if path.is_file():
            return read(path, PACKAGE)
    raise RegistryError(f"this installation of fastzoo lacks {FILE}; install it again (pip install --force-reinstall)")


def user_paths() -> list[Path]:
    """The user's registry files in the order in which they are searched; they need not exist yet."""
    folders = [part for part in os.environ.get("FASTZOO_REGISTRY", "").split(os.pathsep) if part]
    if folders:
        return [_file(folder) for folder in folders]
    import platformdirs  # here, so that importing this module stays cheap

    return [platformdirs.user_data_path("fastzoo") / FILE]


def _file(path: str | os.PathLike[str]) -> Path:
    """A registry is named by its file, or by the folder that has it."""
    path = Path(path)
    return path if path.suffix == ".json" else path / FILE


def read(path: Path, root: Path | None = None) -> Registry:
    """Read and validate a registry file; one that does not exist yet is empty.

    Raises:
        RegistryError: it is damaged, of a newer schema, or its paths lead out of ``root`` (default: its folder).
    """
    remedy = "repair it, or delete it and register its models again"
    try:
        document = _json.parse(path.read_bytes()) if path.exists() else {"schema": SCHEMA, "models": {}}
    except OSError as error:
        raise RegistryError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RegistryError(f"{path} is damaged ({error}); {remedy}") from None
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, dict):
        raise RegistryError(f"{path} is not a registry: it has no object `models`; {remedy}")
    schema = document.get("schema")
    if schema != SCHEMA:
        raise RegistryError(
            f"{path} has schema {schema!r}, this fastzoo reads {SCHEMA}: update fastzoo (pip install -U fastzoo)"
        )
    if faults := [fault for name, entry in models.items() for fault in entry_faults(name, entry)]:
        raise RegistryError(f"{path} is faulty: {_json.listing(faults)}; {remedy}")
    return Registry(path, root or path.parent, models)


def render(models: Mapping[str, Any]) -> bytes:
    """The content of a registry file, models in natural order."""
    ordered = {name: models[name] for name in sorted(models, key=natural)}
    return _json.render({"schema": SCHEMA, "models": ordered}).encode() + b"\n"


def _known() -> dict[str, tuple[Registry, dict[str, Any]]]:
    """Every model that can be loaded by name."""
    known: dict[str, tuple[Registry, dict[str, Any]]] = {}
    for registry in map(read, user_paths()):
        for name, entry in registry.models.items():
            known.setdefault(name, (registry, entry))
    shipped = builtin()
    for name, entry in shipped.models.items():
        if name not in known or not known[name][1].get("replaces_builtin"):
            known[name] = (shipped, entry)
    return known


def models(
    pattern: str = "*",
    *,
    dataset: str | None = None,
    cell: str | None = None,
    precision: str | None = None,
    max_bytes: int | None = None,
) -> list[dict[str, Any]]:
    """The entries that fit, in natural order of their names.

    Args:
        pattern: a name with ``*``, ``?`` and ``[...]`` as in file names.
        dataset: id of the data set it was trained on, ``"har"``.
        cell: type of its cell, ``"fastgrnn"``.
        precision: ``"fp32"`` or ``"int8"``.
        max_bytes: the most that its weights may take.

    Raises:
        RegistryError: a registry is damaged.
    """

    def fits(entry: dict[str, Any]) -> bool:
        return (
            fnmatch.fnmatchcase(entry["name"], pattern)
            and dataset in (None, entry.get("dataset", {}).get("id"))
            and cell in (None, entry["cell"].get("type"))
            and precision in (None, entry["precision"])
            and (max_bytes is None or entry["weights_bytes"] <= max_bytes)
        )

    found = [entry for _, entry in _known().values() if fits(entry)]
    return sorted(found, key=lambda entry: natural(entry["name"]))


def find(name: str) -> tuple[dict[str, Any], Path]:
    """The entry of a registered model, and the folder of its bundle, whose ``bundle.json`` is the one registered.

    Raises:
        UnknownModelError: no model has this name.
        RegistryError: a registry is damaged.
        BundleError: the bundle is missing, or was changed after it was registered.
    """
    known = _known()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UnknownModelError(
            f"no model {name!r} is registered. {hint}`fastzoo list` shows all {len(known)}; "
            "a bundle's folder can be given instead, with a slash in it (./my-model)."
        )
    registry, entry = known[name]
    folder = registry.root / entry["bundle"]
    if _files.sha256(bundle.read_json(folder)) != entry["bundle_sha256"]:
        raise BundleError(
            f"{folder / bundle.FILE} is not the one that {registry.path} registered as {name}; "
            "register the bundle again with --force, or install fastzoo again if the model came with it"
        )
    return entry, folder


def fastest(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Of an entry's layouts the one that ``layout="auto"`` opens, else the first: its file, bytes, latency."""
    layouts: Mapping[str, dict[str, Any]] = entry["layouts"]
    return layouts[entry.get("fastest", next(iter(layouts)))]


def is_folder(name: str | os.PathLike[str]) -> bool:
    """Whether a bundle's folder is meant, not a registered name: a path, or the name of a folder with a bundle."""
    if not isinstance(name, str):
        return True
    return "/" in name or os.sep in name or name in (".", "..") or (Path(name) / bundle.FILE).is_file()


def locate(name: str | os.PathLike[str], precision: str = "auto") -> tuple[dict[str, Any], Path]:
    """The entry and the folder of a registered name, or of a bundle's folder (``"auto"``: int8 if it has it).

    Raises:
        UnknownModelError: no model has this name, or the model of this name has another precision.
        RegistryError: a registry is damaged.
        BundleError: the bundle is missing, faulty, or lacks the precision.
    """
    if is_folder(name):
        by_precision = {entry["precision"]: entry for entry in entries(Path(name), Path(name).as_posix()).values()}
        if precision == "auto":
            precision = next((known for known in ("int8", "fp32") if known in by_precision), next(iter(by_precision)))
        if precision not in by_precision:
            raise BundleError(f"{name} has no precision {precision!r}, only {', '.join(by_precision)}")
        return by_precision[precision], Path(name)
    entry, folder = find(str(name))
    if precision not in ("auto", entry["precision"]):
        raise UnknownModelError(
            f"{name} is a model in {entry['precision']}; load the name that ends in {precision!r} instead"
        )
    return entry, folder


def register(
    folder: str | os.PathLike[str], registry: str | os.PathLike[str] | None = None, force: bool = False
) -> list[str]:
    """Copy a bundle into a registry of the user's, so that it loads by name from anywhere.

    Args:
        folder: the bundle, of which every file is checked first.
        registry: a registry's file or folder; default the first of :func:`user_paths`.
        force: replace other content of the same name, or take the name of a model that comes with fastzoo.

    Returns:
        The names under which its precisions can be loaded. Registering the same content again changes nothing.

    Raises:
        BundleError: the bundle is incomplete or damaged.
        RegistryError: the name is taken, or the registry cannot be read or written.
    """
    text = bundle.read_json(folder)
    content = bundle.parse(text, folder)
    bundle.check(content, folder)
    files = {record.file: bundle.read_file(folder, record) for record in content.files} | {bundle.FILE: text}
    path = user_paths()[0] if registry is None else _file(registry)
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
            known = dict(read(path).models)
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
                _files.write(path, render({**kept, **new}))
    except OSError as error:
        raise RegistryError(
            f"cannot write the registry {path}: {error}. Choose another with FASTZOO_REGISTRY or --registry."
        ) from error
    return names


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
