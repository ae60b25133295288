"""The prepared form: one ``.npz`` per data set, the only form that training and evaluation read.

========  ==============  ===========================================================================
array     shape, type     meaning
========  ==============  ===========================================================================
x         [N, T, D]       samples, time-major, raw physical units (float32, or uint8 from an 8-bit source)
y         [N] int64       class index into ``classes``
group     [N] int64       who or what was recorded (subject, speaker, record): a group is never split
split     [N] uint8       0 train, 1 validation, 2 test
classes   [C] str         class names
channels  [D] str         channel names with units, ``"acc_x [g]"``
rate      float           samples per second along T
frontend  str, optional   JSON: how the windows were made from sound (``fastzoo.frontend.FrontEnd``)
========  ==============  ===========================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from fastzoo import _json
from fastzoo._files import temporary_beside
from fastzoo.audio import LogMel
from fastzoo.errors import DataError
from fastzoo.frontend import misfits

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")

ARRAYS = ("x", "y", "group", "split", "classes", "channels", "rate")
OPTIONAL = ("frontend",)


def data_folder() -> Path:
    """The folder of prepared data sets: ``$FASTZOO_DATA``, or ``data`` in the user's cache."""
    if folder := os.environ.get("FASTZOO_DATA"):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("fastzoo") / "data"


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: ``x [n, T, D]``, ``y [n]``, ``group [n]``."""

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set of windows in the prepared form (see the module's docstring).

    Two data sets are the same where their ``sha256`` is.

    Args:
        notes: sentences on how the windows were made from their source; not kept in a file.
        strict: False leaves faulty content (NaN, a group in two splits, a label without class, one class only) to
            :func:`fastzoo.data.inspect`.

    Raises:
        DataError: the arrays are not in the prepared form; the message names all faults.
    """

    id: str
    x: npt.NDArray[Any]  # [N, T, D]
    y: npt.NDArray[np.int64]  # [N]
    group: npt.NDArray[np.int64]  # [N]
    split: npt.NDArray[np.uint8]  # [N]
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    rate: float  # samples per second
    notes: tuple[str, ...] = ()
    frontend: LogMel | None = None  # what made the windows from sound
    strict: InitVar[bool] = True

    def __post_init__(self, strict: bool) -> None:
        if faults := form_faults(self) or (content_faults(self) if strict else []):
            raise DataError(f"data set {self.id!r} is not in the prepared form: " + "; ".join(faults))

    @property
    def train(self) -> Split:
        """What the weights are fitted to."""
        return self._part(TRAIN)

    @property
    def validation(self) -> Split:
        """What choices are made on; empty where the data set has no validation split (see :meth:`with_validation`)."""
        return self._part(VALIDATION)

    @property
    def test(self) -> Split:
        """What is measured in the end."""
        return self._part(TEST)

    def _part(self, which: int) -> Split:
        rows = self.split == which
        return Split(self.x[rows], self.y[rows], self.group[rows])

    def with_validation(self, fraction: float = 0.2, seed: int = 0) -> Dataset:
        """The same data with whole training groups moved to validation; unchanged where a validation split exists.

        The first groups of a seeded shuffle that hold ``fraction`` of the training windows are moved, so no subject
        is on both sides and the choice does not depend on the order of the rows.

        Raises:
            DataError: there are fewer than two training groups, or ``fraction`` is not inside (0, 1).
        """
        return self._with(VALIDATION, fraction, seed)

    def with_test(self, fraction: float = 0.2, seed: int = 0) -> Dataset:
        """The same data with whole training groups moved to the test split, as :meth:`with_validation` does."""
        return self._with(TEST, fraction, seed)

    def _with(self, which: int, fraction: float, seed: int) -> Dataset:
        if (self.split == which).any():
            return self
        if not 0 < fraction < 1:
            raise DataError(f"the {SPLITS[which]} fraction must be between 0 and 1, not {fraction}")
        groups, sizes = np.unique(self.group[self.split == TRAIN], return_counts=True)
        if len(groups) < 2:
            raise DataError(
                f"data set {self.id!r} has {len(groups)} training group(s): a {SPLITS[which]} split by group needs "
                "two. Give every subject, speaker or record its own number in `group`."
            )
        order = np.random.default_rng(seed).permutation(len(groups))
        before = np.cumsum(sizes[order]) - sizes[order]  # windows already moved when a group's turn comes
        moved = groups[order[before < fraction * sizes.sum()]][: len(groups) - 1]
        split = self.split.copy()
        split[np.isin(self.group, moved) & (split == TRAIN)] = which
        return replace(self, split=split)

    @cached_property
    def sha256(self) -> str:
        """Digest of windows, labels, groups and splits, independent of how the file was compressed."""
        digest = hashlib.sha256()
        for array in (self.x, self.y, self.group, self.split):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update("\n".join((*self.classes, *self.channels, repr(self.rate))).encode())
        if self.frontend is not None:
            digest.update(_text(self.frontend).encode())
        return digest.hexdigest()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``<folder>/<id>.npz`` and return its path. The file appears whole or not at all.

        Raises:
            DataError: the folder cannot be made or written, or is full.
        """
        path = Path(folder) / f"{self.id}.npz"
        part = temporary_beside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._write(part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"cannot write {path}: {error.strerror}. Set FASTZOO_DATA to a folder with space and write permission"
            ) from error
        return path

    def _write(self, path: Path) -> None:
        optional: dict[str, Any] = {} if self.frontend is None else {"frontend": np.array(_text(self.frontend))}
        with path.open("wb") as file:  # straight to the disk: the windows may fill half of the memory
            np.savez(
                file, x=self.x, y=self.y, group=self.group, split=self.split,
                classes=np.array(self.classes), channels=np.array(self.channels), rate=np.float64(self.rate),
                **optional,
            )  # fmt: skip
            file.flush()
            os.fsync(file.fileno())


def read(path: str | os.PathLike[str], strict: bool = True) -> Dataset:
    """Read one prepared ``.npz``; the data set's id is the file's name.

    Args:
        path: the file.
        strict: see :class:`Dataset`.

    Raises:
        DataError: the file is missing, damaged, holds Python objects, or is not in the prepared form.
    """
    path = Path(path)
    try:
        arrays = _load(path)
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except Exception as error:  # zipfile, zlib and the parser of NumPy's headers each raise their own on damaged files
        raise DataError(f"{path} cannot be read as an .npz file ({error}); prepare it again") from error
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise DataError(f"{path} lacks the array(s) {', '.join(missing)}; a prepared file has {', '.join(ARRAYS)}")
    return from_arrays(path.stem, arrays, strict)


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:  # opened here, since np.load leaves a damaged file open
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            return {name: archive[name] for name in (*ARRAYS, *OPTIONAL) if name in archive.files}


def from_arrays(id: str, arrays: Mapping[str, Any], strict: bool = True) -> Dataset:
    """A data set from the seven arrays of the prepared form, integers converted to the stated types.

    Args:
        id: of the data set.
        arrays: by name.
        strict: see :class:`Dataset`.

    Raises:
        DataError: an array has the wrong type, or together they are not in the prepared form.
    """
    rate = np.asarray(arrays["rate"])
    if rate.shape != () or rate.dtype.kind not in "fiu":
        raise DataError(f"data set {id!r}: rate must be one number, not {rate.dtype} of shape {rate.shape}")
    return Dataset(
        id=id,
        x=np.asarray(arrays["x"]),
        y=_integers(id, arrays, "y", np.dtype(np.int64)),
        group=_integers(id, arrays, "group", np.dtype(np.int64)),
        split=_integers(id, arrays, "split", np.dtype(np.uint8)),
        classes=_names(id, arrays, "classes"),
        channels=_names(id, arrays, "channels"),
        rate=float(rate),
        frontend=_frontend(id, arrays["frontend"]) if "frontend" in arrays else None,
        strict=strict,
    )


def _integers(id: str, arrays: Mapping[str, Any], name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    values = np.asarray(arrays[name])
    if values.dtype.kind not in "iub":
        raise DataError(f"data set {id!r}: {name} must hold integers, not {values.dtype}")
    converted = values.astype(dtype)
    if not np.array_equal(converted, values):
        raise DataError(f"data set {id!r}: {name} holds numbers that do not fit into {dtype}")
    return converted


def _names(id: str, arrays: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = np.asarray(arrays[name])
    if values.ndim != 1 or values.dtype.kind != "U":
        raise DataError(f"data set {id!r}: {name} must be a list of strings, not {values.dtype} {values.shape}")
    return tuple(str(value) for value in values)


def _text(frontend: LogMel) -> str:
    return json.dumps(_json.plain(frontend))


def _frontend(id: str, text: Any) -> LogMel:
    values = np.asarray(text)
    try:
        if values.shape != () or values.dtype.kind != "U":
            raise ValueError(f"it is {values.dtype} {values.shape}, not text")
        parameters = _json.parse(str(values).encode())
        if not isinstance(parameters, dict):
            raise ValueError("it is no object")
        return LogMel.of(parameters)
    except (ValueError, DataError) as error:
        raise DataError(f"data set {id!r}: frontend cannot be read ({error}); prepare the data set again") from error


def form_faults(data: Dataset) -> list[str]:
    """What makes the arrays no windows at all: types, shapes, names, rate."""
    if data.x.ndim != 3 or 0 in data.x.shape:
        return [f"x must be [N, T, D] with no empty axis, not {data.x.shape}"]
    windows, _, features = data.x.shape
    faults = []
    if data.x.dtype not in (np.float32, np.uint8):
        faults.append(f"x must be float32 or uint8, not {data.x.dtype}")
    for name in ("y", "group", "split"):
        if (shape := getattr(data, name).shape) != (windows,):
            faults.append(f"{name} must have shape ({windows},), not {shape}")
    if len(data.channels) != features:
        faults.append(f"{len(data.channels)} channel names for {features} channels")
    if not data.classes or len(set(data.classes)) != len(data.classes):
        faults.append(f"at least two different class names are needed, got {data.classes}")
    if not (np.isfinite(data.rate) and data.rate > 0):
        faults.append(f"rate must be positive, not {data.rate}")
    if data.frontend is not None:
        misfitting = misfits(data.frontend, data.x.shape[1], features, data.rate)
        faults += [f"frontend: {fault}" for fault in misfitting]
    return faults


def content_faults(data: Dataset) -> list[str]:
    """What makes windows of the right form useless: :func:`fastzoo.data.inspect` reports the same."""
    faults = []
    if len(data.classes) < 2:
        faults.append(f"at least two different class names are needed, got {data.classes}")
    if data.y.min() < 0 or data.y.max() >= len(data.classes):
        faults.append(f"labels run from {data.y.min()} to {data.y.max()}, but there are {len(data.classes)} classes")
    if data.split.max() > TEST:
        faults.append("split must be 0 (train), 1 (validation) or 2 (test)")
    if data.x.dtype.kind == "f" and not np.isfinite(data.x).all():
        row, step, channel = np.argwhere(~np.isfinite(data.x))[0]
        faults.append(f"x holds NaN or infinity, first in row {row}, channel {data.channels[channel]!r}, step {step}")
    parts = [set(data.group[data.split == part].tolist()) for part in (TRAIN, VALIDATION, TEST)]
    shared = (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])
    if shared:
        faults.append(f"group(s) {sorted(shared)[:5]} stand in more than one split")
    return faults
