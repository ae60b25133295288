"""Data sets in one form: ``load("har")`` gives windows, labels, groups and the official split.

``digits`` is made from scikit-learn and always at hand. Every other data set is a file ``<id>.npz`` in the data
folder (``$FASTZOO_DATA``, default: the user's cache); :func:`fetch` makes the registered ones from their official
source.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from fastzoo.data.catalog import REGISTERED, About, about
from fastzoo.data.prepared import Dataset, Split, data_folder, read
from fastzoo.errors import DataError

__all__ = ["About", "Dataset", "Split", "about", "data_folder", "fetch", "known", "load", "read"]


def load(id_or_path: str | os.PathLike[str]) -> Dataset:
    """A data set by its id, or by the path of its prepared ``.npz``.

    Args:
        id_or_path: ``"digits"``, the id of a file ``<id>.npz`` in :func:`data_folder`, or a path that ends in ``.npz``.

    Raises:
        DataError: there is no such data set, it is not prepared, or its file is faulty.
        MissingExtraError: ``digits`` without scikit-learn.
    """
    name = os.fspath(id_or_path)
    if name.endswith(".npz"):
        return read(name)
    if name == "digits":
        from fastzoo.data import digits

        return digits.make()
    if name not in known():
        raise _unknown(name)
    path = data_folder() / f"{name}.npz"
    if not path.exists():
        raise DataError(
            f"data set {name!r} is not prepared: there is no {path}. Download and prepare it with "
            f"`fastzoo data fetch {name}`, or set FASTZOO_DATA to the folder that holds {path.name}"
        )
    return read(path)


def fetch(id: str, url: str | None = None, verify: bool = True, progress: bool = True) -> Path:
    """Download a registered data set from its official source and write it into the data folder.

    Args:
        id: ``"har"``, the only one that needs it so far.
        url: another address of the source's file, ``http(s)://`` or ``file://``.
        verify: refuse data whose digest is not the known one.
        progress: show a progress bar on stderr.

    Returns:
        The path of the prepared file; nothing is downloaded where it is already there.

    Raises:
        DataError: this data set cannot be fetched, or the download failed or is not what it should be.
        MissingExtraError: pooch is not installed.
    """
    if id == "har":
        from fastzoo.data import hapt

        return hapt.fetch(url, verify, progress)
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
        "a file elsewhere is given by its path, ending in .npz"
    )
