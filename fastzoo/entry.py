"""One registered model: what its bundle says, repeated for one precision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fastzoo import _files, _json
from fastzoo.bundle import parse, read_json, to_dict
from fastzoo.errors import RegistryError
from fastzoo.frontend import FrontEnd
from fastzoo.records import Bundle, CrossCheck, DatasetRecord, Input, Latency, Licences, Machine, Metrics

_MODEL_NAME = re.compile(r"[a-z0-9._-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")  # names a folder in the cache


@dataclass(frozen=True)
class LayoutEntry:
    """A ``.onnx`` file of the model, as far as a reader of the registry wants to know."""

    file: str
    sha256: str
    bytes: int
    ir_version: int
    opset: int
    operators: Mapping[str, int]
    quantization: str
    accuracy: float | None = None
    macro_f1: float | None = None
    latency: Latency | None = None


@dataclass(frozen=True)
class Entry:
    """The form of a registry's entry; entries are handled as the plain dicts that JSON gives, validated by this."""

    name: str
    bundle: str  # the bundle's folder, relative to the registry's root
    bundle_sha256: str  # of bundle.json, which holds the digests of all other files
    precision: str
    version: str
    summary: str
    cell: Mapping[str, Any]
    pool: int
    input: Input
    labels: tuple[str, ...]
    weights_bytes: int
    parameters: int
    layouts: Mapping[str, LayoutEntry]
    licences: Licences
    fastest: str | None = None  # the layout for windows that layout="auto" opens
    nonzeros: int | None = None
    dense_bytes: int | None = None
    sparse_bytes: int | None = None
    int8_bytes: int | None = None
    macs_per_step: int | None = None
    macs_per_window: int | None = None
    frontend: FrontEnd | None = None
    dataset: DatasetRecord | None = None
    metrics: Metrics | None = None  # of the fastest layout
    cross_checks: Mapping[str, CrossCheck] | None = None  # on other data sets, by their id
    measured_on: Machine | None = None
    seeds: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    citation: str | None = None
    replaces_builtin: bool = False  # registered with force over a model that comes with fastzoo


def describe(bundle: Bundle, precision: str, folder: str, bundle_sha256: str) -> dict[str, Any]:
    """The registry's entry for ``bundle`` in ``precision``.

    Args:
        bundle: the whole bundle.
        precision: one of its precisions.
        folder: its folder, as the registry names it (relative, with forward slashes).
        bundle_sha256: digest of its ``bundle.json``.
    """
    document = to_dict(bundle)
    own = document["precisions"][precision]
    fastest = bundle.fastest(precision)
    metrics = own["layouts"][fastest].get("metrics") if fastest else None
    dataset = {key: text for key, text in document.get("dataset", {}).items() if key in ("id", "variant", "licence")}
    entry = {
        "name": bundle.model_name(precision),
        "bundle": folder,
        "bundle_sha256": bundle_sha256,
        "precision": precision,
        **{key: document[key] for key in ("version", "summary", "cell", "pool", "input", "labels")},
        "weights_bytes": own["weights_bytes"],
        **document["size"],
        "fastest": fastest,
        "layouts": {name: _layout(file) for name, file in own["layouts"].items()},
        "dataset": dataset or None,
        "metrics": metrics,
        "cross_checks": own.get("cross_checks"),
    }
    others = ("frontend", "measured_on", "seeds", "calibration", "training", "environment", "licences", "citation")
    entry.update((key, document.get(key)) for key in others)
    return {key: value for key, value in entry.items() if value is not None}


def _layout(file: Mapping[str, Any]) -> dict[str, Any]:
    metrics = file.get("metrics", {})
    found = {**file, "accuracy": metrics.get("accuracy"), "macro_f1": metrics.get("macro_f1")}
    return {key: found[key] for key in LayoutEntry.__dataclass_fields__ if found.get(key) is not None}


def entry_faults(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the entry that a registry keeps under ``name``."""
    faults = list(_json.faults(entry, Entry, name))
    yield from faults
    if faults:
        return
    if entry["name"] != name or not _MODEL_NAME.fullmatch(name):
        yield f"{name!r} is the entry of {entry['name']!r}"
    if not _SHA256.fullmatch(entry["bundle_sha256"]):
        yield f"{name}.bundle_sha256 must be 64 hexadecimal digits"
    if not entry["layouts"] or entry.get("fastest") not in (None, *entry["layouts"]):
        yield f"{name}.fastest {entry.get('fastest')!r} is not one of its layouts"
    folder = PurePosixPath(entry["bundle"])
    if folder.is_absolute() or ".." in folder.parts or not folder.parts or re.search(r"[\\:]", entry["bundle"]):
        yield f"{name}.bundle {entry['bundle']!r} must be a folder below the registry, with forward slashes"


def index(folders: Iterable[Path], base: Path) -> dict[str, dict[str, Any]]:
    """The entries, by model name, of all precisions of the bundles in ``folders``, which lie below ``base``.

    Raises:
        BundleError: a bundle is faulty.
        RegistryError: two bundles have the same model name.
    """
    models: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for name, entry in entries(folder, folder.relative_to(base).as_posix()).items():
            if name in models:
                raise RegistryError(f"{folder} and {base / models[name]['bundle']} both hold a model {name!r}")
            models[name] = entry
    return models


def entries(folder: Path, recorded: str) -> dict[str, dict[str, Any]]:
    """The entries of one bundle by model name; ``recorded`` is what they say as its folder."""
    text = read_json(folder)
    content = parse(text, folder)
    described = (describe(content, precision, recorded, _files.sha256(text)) for precision in content.precisions)
    return {entry["name"]: entry for entry in described}
