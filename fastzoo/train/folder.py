"""Files of a run's folder, each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastzoo import _files
from fastzoo.errors import TrainingError


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a run's folder, each whole or not at all.

    Raises:
        TrainingError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            _files.write(folder / name, data)
    except OSError as error:
        raise TrainingError(
            f"cannot write to {folder}: {error.strerror}. Free some space, or choose another"
        ) from error
