"""What a run writes down epoch by epoch: ``log.csv`` for tables and plots, ``tensorboard/`` for those who use it.

Both are written whole after each epoch, in one step: a run that goes on after a break leaves nothing twice and misses
nothing, and a full disk is an error here and now. (TensorBoard's own writers hand events to a thread, which keeps the
last ones to itself when the process is killed.)
"""

from __future__ import annotations

import csv
import io
import math
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from fastzoo import _files
from fastzoo.errors import TrainingError

NAME = "log.csv"
EVENTS = "events.out.tfevents.fastzoo"


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave."""

    epoch: int  # counted from 1
    loss: float  # mean training loss
    validation_accuracy: float
    validation_macro_f1: float = math.nan
    learning_rate: float = math.nan  # after its last step
    phase: str = "dense"  # dense, thresholding or frozen; quantized
    nonzeros: int | None = None  # in the factors that become sparse


class Log:
    """The log of one run.

    Args:
        folder: of the run; None = nothing is written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._encoded: list[bytes] = []  # TensorBoard's head, then each epoch

    def write(self, history: Sequence[Epoch]) -> None:
        """Write down all epochs so far.

        Raises:
            TrainingError: the folder cannot be written.
        """
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _files.write(self.folder / NAME, _csv(history))
            if find_spec("tensorboardX") is not None:
                (self.folder / "tensorboard").mkdir(exist_ok=True)
                _files.write(self.folder / "tensorboard" / EVENTS, self._events(history))
        except OSError as error:
            raise TrainingError(
                f"cannot write the log to {self.folder}: {error.strerror}. Free some space and go on with --resume: "
                "the epochs so far, and the best weights, are kept"
            ) from error

    def _events(self, history: Sequence[Epoch]) -> bytes:
        """The numbers of all epochs as TensorBoard's event file; an epoch's are encoded once."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        now = time.time()
        if not self._encoded:
            self._encoded.append(_record(Event(wall_time=now, file_version="brain.Event:2").SerializeToString()))
        for epoch in history[len(self._encoded) - 1 :]:
            events = [
                Event(wall_time=now, step=epoch.epoch, summary=scalar(name, value))
                for name, value in asdict(epoch).items()
                if name != "epoch" and isinstance(value, int | float)
            ]
            self._encoded.append(b"".join(_record(event.SerializeToString()) for event in events))
        return b"".join(self._encoded)


def _csv(history: Sequence[Epoch]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, [f.name for f in fields(history[-1])], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(epoch) for epoch in history)
    return text.getvalue().encode()


def _record(data: bytes) -> bytes:
    """One record of the TFRecord format: length and content, each with a checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return b"".join([length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))])
