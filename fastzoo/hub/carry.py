"""Whole bundles written where they can be carried to a board without a network."""

from __future__ import annotations

from pathlib import Path

from fastzoo import _files, bundle
from fastzoo.errors import BundleError
from fastzoo.records import Bundle


def copy(folder: Path, content: Bundle, out: Path) -> Path:
    """Copy a bundle, every file of it verified, into a folder of its name below ``out``.

    Raises:
        BundleError: a file is missing or damaged, or another bundle lies there, or it cannot be written.
    """
    files = {record.file: bundle.read_file(folder, record) for record in content.files}
    files[bundle.FILE] = bundle.read_json(folder)
    destination = out / content.name
    try:
        there = destination / bundle.FILE
        if there.exists() and there.read_bytes() != files[bundle.FILE]:
            raise BundleError(f"{destination} holds another bundle; delete it, or choose another --out")
        with _files.replaced_folder(destination, files):
            pass
    except OSError as error:
        raise BundleError(f"cannot write {destination}: {error.strerror or error}") from error
    return destination
