"""Reports of boards: what `fastzoo bench --report` writes, and a registry keeps to compare boards by.

A report is JSON: a board, and per model the digest of its bundle, the software, and the numbers of each layout on each
backend. Whoever reads one trusts nothing in it.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastzoo import _files, _json
from fastzoo._order import natural
from fastzoo._registering import default_file
from fastzoo._registry_file import Registry, builtin, read, read_place, render
from fastzoo.errors import FastzooError, InputError, RegistryError
from fastzoo.hub import places
from fastzoo.registry import user_places

__all__ = [
    "SCHEMA", "Added", "Conditions", "Hardware", "Measured", "Numbers", "Report", "Row", "add", "compare",
    "read_report", "to_dict", "write_report",
]  # fmt: skip

log = logging.getLogger("fastzoo")

SCHEMA = 1

LONGEST_NAME = 80
LARGEST_BATCH = 10**6 - 1

_LARGEST = 4 * 2**20  # bytes
_MOST_BATCHES = 32
_BACKENDS = ("onnxruntime", "numpy")


@dataclass(frozen=True)
class Numbers:
    """One layout on one backend. What could not be measured there is absent.

    ``p50_us``, ``p95_us``, ``p99_us`` and ``session_p50_us`` are of single windows, in one thread; ``load_ms`` opens
    the file again; ``throughput`` is windows per second by windows per call. ``start_ms`` (import, load, first answer)
    and ``peak_rss_bytes`` are of a fresh process. ``energy_uj`` is per window, of all that the meter measures.
    """

    p50_us: float
    p95_us: float
    p99_us: float
    load_ms: float
    bytes: int
    throughput: Mapping[str, float]
    session_p50_us: float | None = None
    start_ms: float | None = None
    peak_rss_bytes: int | None = None
    energy_uj: float | None = None

    @property
    def most(self) -> float:
        """The highest throughput."""
        return max(self.throughput.values(), default=0.0)


@dataclass(frozen=True)
class Conditions:
    """How the processor was while it worked: degrees before and after, what measured energy, watts without work."""

    governor: str | None = None
    before_c: float | None = None
    after_c: float | None = None
    energy_from: str | None = None
    idle_w: float | None = None


@dataclass(frozen=True)
class Measured:
    """A model on a board: ``layouts`` by layout and backend, and what it ran on when."""

    bundle_sha256: str
    date: str  # 2026-11-27
    fastzoo: str
    python: str
    numpy: str
    repeats: int
    threads: int  # of throughput
    layouts: Mapping[str, Mapping[str, Numbers]]
    onnxruntime: str | None = None
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True)
class Hardware:
    """A board; ``board`` is what it calls itself."""

    cpu: str
    cores: int
    os: str
    memory_bytes: int | None = None
    board: str | None = None

    def is_like(self, other: Hardware) -> bool:
        """Whether both may be the same board; its system may have been updated."""
        return (self.cpu, self.cores, self.board) == (other.cpu, other.cores, other.board)


@dataclass(frozen=True)
class Report:
    """All of a report; ``name`` is what a person calls the board."""

    name: str
    machine: Hardware
    models: Mapping[str, Measured]
    schema: int = SCHEMA


# ---------------------------------------------------------------------------------------------------------------------
# Reports in files


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read and validate a report.

    Raises:
        RegistryError: no such file, no report, of a newer schema, or anything wrong in it: all faults in one message.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise RegistryError(
            f"cannot read {path}: {error.strerror}. `fastzoo bench NAME --report FILE` writes one"
        ) from (error)
    if len(text) > _LARGEST:
        raise RegistryError(f"{path} is larger than {_LARGEST // 2**20} MiB: not the report of a board")
    try:
        found = _json.parse(text)
    except ValueError as error:
        raise RegistryError(f"{path} is damaged ({error}); measure again with `fastzoo bench NAME --report`") from None
    if not isinstance(found, dict) or "schema" not in found:
        raise RegistryError(f"{path} is not the report of a board; `fastzoo bench NAME --report FILE` writes one")
    if found["schema"] != SCHEMA:
        raise RegistryError(
            f"{path} has schema {found['schema']!r:.40}, this fastzoo reads {SCHEMA}: update fastzoo "
            "(pip install -U fastzoo)"
        )
    if faults := list(_faults(found)):
        raise RegistryError(
            f"{path} is faulty: {_json.listing(faults)}; measure again with `fastzoo bench NAME --report`"
        )
    report: Report = _json.build(found, Report)
    return report


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report; models that the file has already, of the same board, are kept.

    Raises:
        RegistryError: the file is something else, the report of another board, or cannot be written.
        InputError: the name cannot be a board's.
    """
    _check_name(report.name)
    target = Path(path)
    try:
        with _files.locked(target):
            if target.exists():
                before = read_report(target)
                if before.name != report.name or not before.machine.is_like(report.machine):
                    raise RegistryError(f"{path} is the report of another board, {before.name}; give another file")
                report = replace(report, models={**before.models, **report.models})
            _files.write(target, _json.render(to_dict(report)).encode() + b"\n")
    except OSError as error:
        raise RegistryError(f"cannot write {path}: {error.strerror or error}. Choose a folder of yours") from error


def to_dict(report: Report) -> dict[str, Any]:
    """What JSON can hold of a report, models in natural order."""
    plain = _json.plain(report)
    return {
        "schema": plain["schema"],
        "name": plain["name"],
        "machine": plain["machine"],
        "models": _sorted(plain["models"]),
    }


def _sorted(of: Mapping[str, Any]) -> dict[str, Any]:
    return {name: of[name] for name in sorted(of, key=natural)}


def _check_name(name: str) -> None:
    if not (0 < len(name.strip()) <= LONGEST_NAME and name.isprintable()):
        raise InputError(
            f"a board's name has 1 to {LONGEST_NAME} characters that can be printed; {name!r:.100} does not. "
            "Give one with --board"
        )


def _faults(found: Mapping[str, Any]) -> Iterator[str]:
    wrong = list(_json.faults(found, Report))
    yield from wrong
    if wrong:
        return
    try:
        _check_name(found["name"])
    except InputError as error:
        yield f"name: {error}"
    if not found["models"]:
        yield "models has none"
    for name, model in found["models"].items():
        yield from _model_faults(model, f"models.{name}" if len(name) <= LONGEST_NAME else "models.?")


def _model_faults(model: Mapping[str, Any], path: str) -> Iterator[str]:
    if not re.fullmatch(r"[0-9a-f]{64}", model["bundle_sha256"]):
        yield f"{path}.bundle_sha256 must be 64 hexadecimal digits"
    try:
        datetime.date.fromisoformat(model["date"])
    except ValueError:
        yield f"{path}.date must be a day, 2026-11-27"
    if min(model["repeats"], model["threads"]) < 1:
        yield f"{path}: repeats and threads must be 1 or more"
    if not model["layouts"]:
        yield f"{path}.layouts has none"
    for layout, backends in model["layouts"].items():
        if unknown := backends.keys() - set(_BACKENDS):
            yield f"{path}.layouts.{layout} has the backend {min(unknown)!r:.40}, unknown to this fastzoo"
        for backend, numbers in backends.items():
            yield from _number_faults(numbers, f"{path}.layouts.{layout}.{backend}")


def _number_faults(numbers: Mapping[str, Any], path: str) -> Iterator[str]:
    batches = numbers["throughput"]
    named = {key: numbers.get(key) for key in Numbers.__dataclass_fields__ if key != "throughput"}
    values = {**named, **{f"throughput.{batch}": rate for batch, rate in batches.items()}}
    for key, value in values.items():
        if value is not None and not value > 0 and (key, value) != ("energy_uj", 0):
            yield f"{path}.{key} must be more than 0, not {value}"
    if not numbers["p50_us"] <= numbers["p95_us"] <= numbers["p99_us"]:
        yield f"{path}: p50_us, p95_us and p99_us must rise"
    if len(batches) > _MOST_BATCHES or not all(re.fullmatch(r"[1-9]\d{0,5}", batch) for batch in batches):
        yield f"{path}.throughput must have at most {_MOST_BATCHES} numbers of windows as keys"


# ---------------------------------------------------------------------------------------------------------------------
# Reports in registries


@dataclass(frozen=True)
class Added:
    """What :func:`add` did: the registry's file, the board, the models of the report."""

    path: Path
    board: str
    models: tuple[str, ...]


def add(report: str | os.PathLike[str], registry: str | os.PathLike[str] | None = None, force: bool = False) -> Added:
    """Merge a report into a registry; what it says of other models of the same board is kept.

    Args:
        report: the file that ``fastzoo bench --report`` wrote.
        registry: a registry's file or folder; default the first of the user's that is here and not on a server.
        force: replace a board of the same name that is another machine.

    Raises:
        RegistryError: the report is faulty or of other models than the registry's, another board has its name, or the
            registry cannot be read or written.
    """
    new = read_report(report)
    if registry is not None and places.is_address(registry):
        raise RegistryError(f"{registry} is on a server: add the report to the folder that it serves")
    path = default_file() if registry is None else places.local_file(registry)
    if not path.exists():
        raise RegistryError(f"there is no registry {path}; choose the one that has the models with --registry")
    try:
        with _files.locked(path):
            known = read(path)
            faults = list(_strangers(new, known))
            if faults:
                raise RegistryError(f"{report} does not fit {path}: {_json.listing(faults)}")
            kept: Mapping[str, Any] = {}
            if before := known.boards.get(new.name):
                if _is_other(before, new.machine) and not force:
                    raise RegistryError(
                        f"{path} has another board {new.name!r}. Give yours another name (fastzoo bench --board), or "
                        "replace it with --force (force=True)"
                    )
                kept = {} if _is_other(before, new.machine) else before.get("models", {})
            board = {
                "machine": _json.plain(new.machine),
                "models": _sorted({**kept, **_json.plain(new.models)}),
            }
            boards = _sorted({**known.boards, new.name: board})
            _files.write(path, render(known.models, {**known.others, "boards": boards}))
    except OSError as error:
        raise RegistryError(f"cannot write the registry {path}: {error}. Choose another with --registry.") from error
    return Added(path, new.name, tuple(new.models))


def _strangers(report: Report, registry: Registry) -> Iterator[str]:
    """Where a report is not of the registry's models."""
    for name, model in report.models.items():
        entry = registry.models.get(name)
        if entry is None:
            yield f"it has no model {name!r:.80}; register the bundle first, or choose its registry with --registry"
        elif entry["bundle_sha256"] != model.bundle_sha256:
            yield f"its {name} is another bundle than was measured; measure the one that is registered"
        elif unknown := sorted(model.layouts.keys() - entry["layouts"].keys()):
            yield f"its {name} has no layout {unknown[0]!r:.40}"


def _is_other(board: Mapping[str, Any], machine: Hardware) -> bool:
    found = board.get("machine")
    return bool(list(_json.faults(found, Hardware))) or not _json.build(found, Hardware).is_like(machine)


@dataclass(frozen=True)
class Row:
    """A layout of a model on a board and a backend; ``current`` = the registry's model is still the measured one."""

    model: str
    board: str
    layout: str
    backend: str
    numbers: Numbers
    measured: Measured
    machine: Hardware
    registry: str
    current: bool


def compare(name: str | None = None, registry: str | os.PathLike[str] | None = None, every: bool = False) -> list[Row]:
    """What registries know of boards, by model, the fastest board first.

    Args:
        name: of one model only.
        registry: a registry's file, folder or address; default all that models are looked up in.
        every: every layout and backend; else of each board the one with the lowest median latency.

    Raises:
        RegistryError: ``registry`` cannot be read; of all, those that cannot are passed over with a warning in the log.
        DownloadError: it cannot be had.
    """
    known = list(_all_registries()) if registry is None else [read_place(registry)]
    rows = [row for one in known for row in _rows(one) if name in (None, row.model)]
    rows.sort(key=lambda row: (natural(row.model), not row.current, row.numbers.p50_us))
    if every:
        return rows
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        best.setdefault((row.model, row.board, row.registry), row)
    return list(best.values())


def _all_registries() -> Iterator[Registry]:
    yield builtin()
    for place in user_places():
        try:
            yield read_place(place.place)
        except FastzooError as error:
            log.warning("a registry is passed over: %s", error)


def _rows(registry: Registry) -> Iterator[Row]:
    for board, content in registry.boards.items():
        found = {"name": board, "schema": SCHEMA, **{key: content.get(key) for key in ("machine", "models")}}
        if faults := list(_faults(found)):
            log.warning("the board %.80r in %s is passed over: %s", board, registry.place, _json.listing(faults, 3))
            continue
        report: Report = _json.build(found, Report)
        for name, model in report.models.items():
            current = registry.models.get(name, {}).get("bundle_sha256") == model.bundle_sha256
            for layout, backends in model.layouts.items():
                for backend, numbers in backends.items():
                    yield Row(
                        name, board, layout, backend, numbers, model, report.machine, registry.place, current
                    )  # fmt: skip
