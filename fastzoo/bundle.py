"""A bundle: one model's folder with its ONNX files, and ``bundle.json`` that says what they are.

Export writes bundles with these records, the runtime reads them: the one module that both know. A bundle holds one
trained network in one or more precisions (``fp32``, ``int8``), each in one or more layouts (``fused``, ``scan``,
``unrolled``, ``step``), one ``.onnx`` file per pair.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastzoo import _files, _json
from fastzoo._bundle_faults import content_faults
from fastzoo.errors import BundleError
from fastzoo.frontend import FrontEnd
from fastzoo.records import (
    LAYOUTS,
    PRECISIONS,
    Bundle,
    ClassMetrics,
    CrossCheck,
    DatasetRecord,
    FileRecord,
    Input,
    Latency,
    LayoutFile,
    Licences,
    Machine,
    Metrics,
    Precision,
    Size,
)

__all__ = [
    "LAYOUTS", "PRECISIONS", "Bundle", "ClassMetrics", "CrossCheck", "DatasetRecord", "FileRecord", "FrontEnd",
    "Input", "Latency", "LayoutFile", "Licences", "Machine", "Metrics", "Precision", "Size", "check", "parse", "read",
    "read_file", "read_json", "to_dict", "write",
]  # fmt: skip

SCHEMA = 1
FILE = "bundle.json"

_LARGEST_JSON = 4 * 2**20


def read(folder: str | os.PathLike[str]) -> Bundle:
    """Read and validate ``bundle.json``; :func:`check` compares the files beside it.

    Raises:
        BundleError: no such folder or file, or anything wrong in it, all faults in one message.
    """
    return parse(read_json(folder), folder)


def read_json(folder: str | os.PathLike[str]) -> bytes:
    """The bytes of ``bundle.json``, whose digest a registry keeps; errors as in :func:`read`."""
    path = Path(folder) / FILE
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise BundleError(f"{path} is larger than {_LARGEST_JSON // 2**20} MiB: not the description of a bundle")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        missing = "has no bundle.json" if Path(folder).is_dir() else "does not exist"
        raise BundleError(
            f"{folder} {missing}; a bundle is the folder that `fastzoo export` wrote. "
            "Give its path, or a name from `fastzoo list`."
        ) from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise BundleError(f"{folder!r} is not a path: {error}") from None


def parse(text: bytes, folder: str | os.PathLike[str]) -> Bundle:
    """A bundle from the bytes of its ``bundle.json``; ``folder`` only names it in messages. Errors as in `read`."""
    path = Path(folder) / FILE
    try:
        document = _json.parse(text)
    except ValueError as error:
        raise BundleError(f"{path} is damaged ({error}); get or export the bundle again") from None
    return _validated(document, path)


def write(bundle: Bundle, folder: str | os.PathLike[str]) -> Path:
    """Write ``bundle.json`` into ``folder`` and return its path. Floats keep 6 digits.

    Raises:
        BundleError: the bundle is faulty in any way that :func:`read` would refuse, or the file cannot be written.
    """
    path = Path(folder) / FILE
    document = to_dict(bundle)
    _validated(document, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _files.write(path, _json.render(document).encode() + b"\n")
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}") from error
    return path


def to_dict(bundle: Bundle) -> dict[str, Any]:
    """What ``bundle.json`` holds: schema first, layouts in order of preference, operators by name."""
    document: dict[str, Any] = {"schema": bundle.schema, **_json.plain(bundle)}
    document["precisions"] = _ordered(document["precisions"], PRECISIONS)
    for precision in document["precisions"].values():
        precision["layouts"] = _ordered(precision["layouts"], LAYOUTS)
        for file in precision["layouts"].values():
            file["operators"] = _ordered(file["operators"])
    return document


def check(bundle: Bundle, folder: str | os.PathLike[str], files: Iterable[str] | None = None) -> None:
    """Compare the files in ``folder`` with their recorded size and sha256.

    Args:
        bundle: what :func:`read` returned for ``folder``.
        folder: the bundle's folder.
        files: only these file names; default all.

    Raises:
        BundleError: files are missing, differ, or lie outside the folder; all of them in one message.
    """
    wanted = None if files is None else set(files)
    faults = []
    for record in bundle.files:
        if wanted is None or record.file in wanted:
            try:
                read_file(folder, record)
            except BundleError as error:
                faults.append(str(error))
    if faults:
        raise BundleError(_json.listing(faults))


def read_file(folder: str | os.PathLike[str], record: FileRecord) -> bytes:
    """The content of one file of a bundle, compared with its record before anything looks at it.

    Raises:
        BundleError: the file is missing, differs, or is a link that leads out of the folder.
    """
    path = Path(folder) / record.file
    remedy = "get or export the bundle again"
    try:
        if not path.resolve().is_relative_to(Path(folder).resolve()):
            raise BundleError(f"{path} is a link out of the bundle's folder; put the file itself there")
        if not path.is_file():
            raise BundleError(f"{path} is missing; {remedy}")
        if (size := path.stat().st_size) != record.bytes:
            raise BundleError(f"{path} has {size} bytes, {FILE} says {record.bytes}; {remedy}")
        data = path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.10 on a loop of links
        raise BundleError(f"cannot read {path}: {error}") from error
    if _files.sha256(data) != record.sha256:
        raise BundleError(f"{path} does not have the sha256 that {FILE} records; {remedy}")
    return data


def _validated(document: object, path: Path) -> Bundle:
    schema = document.get("schema") if isinstance(document, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise BundleError(
            f"{path} has schema {schema}, this fastzoo reads up to {SCHEMA}: update fastzoo (pip install -U fastzoo)"
        )
    faults = [] if schema == SCHEMA else [f"schema must be {SCHEMA}"]
    faults += _json.faults(document, Bundle)
    if not faults:
        bundle: Bundle = _json.build(document, Bundle)
        faults += content_faults(bundle)
        if not faults:
            return bundle
    raise BundleError(f"{path} is faulty: {_json.listing(faults)}; get or export the bundle again")


def _ordered(mapping: Mapping[str, Any], first: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same mapping, keys of ``first`` in that order, then the others by name."""
    known = [key for key in first if key in mapping]
    return {key: mapping[key] for key in (*known, *sorted(mapping.keys() - set(known)))}
