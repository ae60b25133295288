"""What a run writes down epoch by epoch: ``log.csv`` for tables and plots, ``tensorboard/`` for those who use it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastzoo import _files
from fastzoo.errors import TrainingError

if TYPE_CHECKING:
    from fastzoo.train.loop import Epoch

NAME = "log.csv"


class Log:
    """The log of one run.

    Args:
        folder: of the run; None = nothing is written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._board: Any = None

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def write(self, history: Sequence[Epoch]) -> None:
        """Write down an epoch, the last of ``history``.

        The CSV is written whole each time: a run that goes on after a break leaves no line twice.

        Raises:
            TrainingError: the folder cannot be written.
        """
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _files.write(self.folder / NAME, _csv(history))
            self._to_board(history[-1])
        except OSError as error:
            raise TrainingError(
                f"cannot write the log to {self.folder}: {error.strerror}. Free some space and go on with --resume: "
                "the epochs so far, and the best weights, are kept"
            ) from error

    def _to_board(self, epoch: Epoch) -> None:
        if find_spec("tensorboardX") is None:
            return
        if self._board is None:
            from tensorboardX import SummaryWriter

            assert self.folder is not None
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=epoch.epoch)
        for name, value in asdict(epoch).items():
            if name != "epoch" and isinstance(value, int | float):
                self._board.add_scalar(name, value, epoch.epoch)


def _csv(history: Sequence[Epoch]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, [f.name for f in fields(history[-1])], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(epoch) for epoch in history)
    return text.getvalue().encode()
