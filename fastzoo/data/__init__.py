"""Data sets in one form: ``load("har")`` gives windows, labels, groups and the official split.

``digits`` is made from scikit-learn and always at hand, ``har2`` from ``har``. Every other data set is a file
``<id>.npz`` in the data folder (``$FASTZOO_DATA``, default: the user's cache); :func:`fetch` makes the registered ones
from their official source. Recordings of your own are read from CSV, Parquet, WAV or EdgeML's ``.npy``, cut as
:class:`Cut` says.
"""

from __future__ import annotations

import difflib
import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastzoo.data import source as sources
from fastzoo.data.catalog import REGISTERED, About, about
from fastzoo.data.cut import Cut
from fastzoo.data.prepared import Dataset, Split, data_folder, read
from fastzoo.data.report import Fault, Report, inspect
from fastzoo.errors import DataError

__all__ = [
    "About", "Cut", "Dataset", "Fault", "Report", "Split", "about", "data_folder", "fetch", "inspect", "known", "load",
    "read",
]  # fmt: skip

MODULES = {  # by id, those that are downloaded
    "har": "hapt", "ucihar": "ucihar", "dsa19": "dsa19", "mnist": "mnist", "kws12": "kws12", "cinc2017": "cinc2017",
}  # fmt: skip
RECORDINGS = (
    "a table in long form (.csv, .csv.gz, .tsv, .parquet: time, channels, label, group), a folder of such tables, a "
    "folder of WAV files in one folder per class, or a folder with EdgeML's train.npy and test.npy"
)


def load(id_or_path: str | os.PathLike[str], cut: Cut | None = None, *, strict: bool = True, **options: Any) -> Dataset:
    """A data set by its id, by the path of its prepared ``.npz``, or cut from recordings of your own.

    Args:
        id_or_path: ``"digits"``, the id of a file ``<id>.npz`` in :func:`data_folder`, or a path: a prepared
            ``.npz``; a table in long form, ``.csv``, ``.tsv`` (``.gz`` or not) or ``.parquet``; a folder of tables,
            one per recording; a folder with ``train.npy`` and ``test.npy``; a folder of WAV files per class.
        cut: how recordings become windows.
        strict: False leaves faulty content of prepared files to :func:`inspect`.
        options: any field of :class:`Cut`, e.g. ``window=128``.

    Raises:
        DataError: there is no such data set, it is not prepared, or its files are faulty.
        MissingExtraError: ``digits`` without scikit-learn, tables without polars, resampling without SciPy.
    """
    cut = replace(cut or Cut(), **options)
    made = _load(os.fspath(id_or_path), cut, strict)
    return made if cut.test_fraction is None else made.with_test(cut.test_fraction)


def _load(name: str, cut: Cut, strict: bool) -> Dataset:
    path = Path(name)
    if name.endswith(".npz"):
        cut.only(source=f"{name}, which is cut already,")
        return read(name, strict)
    if name in known():
        cut.only(source=f"data set {name!r}, which is cut already,")
        return _prepared(name, strict)
    from fastzoo.data import audio, edgeml, tables

    if tables.is_table(path):
        return tables.load(path, cut)
    try:
        if not (name and path.is_dir()):
            raise _unknown(name)
        if edgeml.is_folder(path):
            return edgeml.load(path, cut)
        if audio.is_folder(path):
            return audio.load_folder(path, replace(cut, frontend=None), cut.frontend)
        if any(map(tables.is_table, path.iterdir())):
            return tables.load(path, cut)
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error
    raise DataError(f"the folder {name} holds no recordings. They come as {RECORDINGS}")


def _prepared(id: str, strict: bool) -> Dataset:
    if id == "digits":
        from fastzoo.data import digits

        return digits.make()
    path = data_folder() / f"{id}.npz"
    if id == "har2" and not path.exists():
        from fastzoo.data import har2

        return har2.make(_prepared("har", strict))
    if not path.exists():
        raise DataError(
            f"data set {id!r} is not prepared: there is no {path}. Download and prepare it with "
            f"`fastzoo data fetch {id}`, or set FASTZOO_DATA to the folder that holds {path.name}"
        )
    return read(path, strict)


def fetch(id: str, url: str | None = None, verify: bool = True, progress: bool = True) -> Path:
    """Download a registered data set from its official source and write it into the data folder.

    Args:
        id: one of ``fastzoo data list``; ``"har2"`` is made of ``"har"``, which is fetched.
        url: another address of the source's file, ``http(s)://`` or ``file://``; of several files that of their
            folder, ending in ``/``. By default ``$FASTZOO_<ID>_URL``, else the official one.
        verify: refuse windows that are not the known ones.
        progress: show a progress bar on stderr.

    Returns:
        The path of the prepared file; nothing is downloaded where it is already there.

    Raises:
        DataError: this data set cannot be fetched, or the download failed or is not what it should be.
        MissingExtraError: a package that is needed is not installed.
    """
    if id in MODULES:
        source = importlib.import_module(f"fastzoo.data.{MODULES[id]}").SOURCE
        return sources.fetch(source, url, verify, progress)
    if id == "har2":
        return fetch("har", url, verify, progress)
    if id == "digits":
        raise DataError("data set 'digits' comes with scikit-learn and needs no download: load it as it is")
    if id in known():
        raise DataError(
            f"data set {id!r} is your own file {data_folder() / id}.npz: there is no source to fetch it from"
        )
    raise _unknown(id)


def known() -> list[str]:
    """The ids that :func:`load` takes: the registered data sets, then the other files in the data folder."""
    files = sorted(path.stem for path in data_folder().glob("*.npz") if not path.name.startswith("."))
    return [*REGISTERED, *(name for name in files if name not in REGISTERED)]


def _unknown(name: str) -> DataError:
    near = difflib.get_close_matches(name, known(), n=3)
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    return DataError(
        f"no data set {name!r}. {hint}Known are {', '.join(known())} (files in {data_folder()} included); "
        f"a file elsewhere is given by its path, ending in .npz; recordings of your own as {RECORDINGS}"
    )
