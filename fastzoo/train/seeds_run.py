"""What several seeds leave in their folder: which of their runs have ended, and the one that validation chose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastzoo import _json
from fastzoo.errors import TrainingError
from fastzoo.train.folder import write_files

NAME = "seeds.json"
FOLDS = "folds.json"


@dataclass(frozen=True)
class _Record:
    chosen: int
    validation_accuracy: Mapping[str, float]


@dataclass(frozen=True)
class SeedsRun:
    """Where the seeds' checkpoints lie, and which one validation chose."""

    folder: Path
    chosen: int
    validation_accuracy: dict[int, float]

    @property
    def folders(self) -> dict[int, Path]:
        """The checkpoint folder of each seed."""
        return {seed: self.folder / f"seed-{seed}" for seed in self.validation_accuracy}

    @property
    def chosen_folder(self) -> Path:
        """The checkpoint folder of the chosen seed."""
        return self.folders[self.chosen]


def is_run(folder: Path) -> bool:
    """Whether the folder holds several seeds."""
    return (folder / NAME).exists()


def load(folder: Path) -> SeedsRun:
    """Read a run of several seeds.

    Raises:
        TrainingError: its ``seeds.json`` is damaged.
    """
    path = folder / NAME
    try:
        record = _json.parse(path.read_bytes())
        if faults := list(_json.faults(record, _Record)):
            raise ValueError(_json.listing(faults))
        accuracy = {int(seed): float(value) for seed, value in record["validation_accuracy"].items()}
        chosen = record["chosen"]
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is damaged: {error}") from error
    if chosen not in accuracy:
        raise TrainingError(f"{path} is damaged: the chosen seed {chosen} is not one of its seeds")
    return SeedsRun(folder, chosen, accuracy)


def save(folder: Path, accuracy: Mapping[int, float], folds: bool = False) -> None:
    """Write down which runs have ended, and of seeds the chosen one.

    Args:
        folder: of all of them.
        accuracy: on validation, by seed or fold.
        folds: the runs are folds, of which none is chosen.
    """
    record: dict[str, object] = {"validation_accuracy": accuracy}
    if not folds:
        record["chosen"] = max(accuracy, key=accuracy.__getitem__)
    text = json.dumps(record, indent=2) + "\n"
    write_files(folder, {FOLDS if folds else NAME: text.encode()})
