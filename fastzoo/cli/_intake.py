"""What the options of ``fastzoo stream`` mean: bytes from a source, made rows, fed to the stream, state kept."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo import _files, wav
from fastzoo.audio import FULL_SCALE
from fastzoo.cli import _answers
from fastzoo.errors import InputError
from fastzoo.events import Events, smoothing
from fastzoo.model import Model
from fastzoo.samples import UNREADABLE
from fastzoo.sources import mapping, pieces, readers
from fastzoo.sources.feed import Feed
from fastzoo.sources.gaps import Gap, Gaps
from fastzoo.sources.mapping import Columns
from fastzoo.sources.readers import Reader
from fastzoo.stream import Result

SAVED = 60.0  # seconds between two writes of the state
_PIECE = 1 << 15  # samples of a WAV file read at a time


class Intake:
    """One run of the command.

    Raises:
        InputError: options that do not fit the model, the source, or each other.
    """

    def __init__(self, model: Model, file: str, options: Mapping[str, Any]) -> None:
        self._options, self._file = options, file
        port = options.get("serial")
        if port and file != "-":
            raise InputError("give a file or --serial, not both")
        if options.get("follow") and (port or file == "-"):
            raise InputError("--follow is for a file; standard input and ports are waited for anyway")
        self.source: str = port or ("standard input" if file == "-" else file)
        self._wav = wav.open(file) if file.lower().endswith(".wav") else None
        if self._wav is not None and options.get("follow"):
            raise InputError("--follow reads text or raw numbers; a .wav that grows has no length")
        self.stream = model.stream(
            options.get("hop"),
            smooth=smoothing(options["smooth"]) if "smooth" in options else None,
            events=self._events(model),
        )
        names = options.get("columns")
        self._columns = Columns(
            self.stream.channels,
            mapping.pairs("--map", options.get("map", ()), "ax=acc_x"),
            mapping.pairs("--unit", options.get("unit", ()), "acc=m/s2", bare=True),
            options.get("time"),
            None if names is None else [name.strip() for name in names.split(",")],
        )
        rate = options.get("rate", self._wav.rate if self._wav else self.stream.rate)
        if not 0 < rate < 1e9:
            raise InputError(f"--rate must be samples per second, not {rate:g}")
        if self._wav is not None and rate != self._wav.rate:
            raise InputError(f"{file} has {self._wav.rate} samples per second: leave --rate out")
        limit = options.get("max_hold")
        if limit is None:
            limit = max(1, round(self._window_seconds / 8 * rate))
        gaps = Gaps(rate, options.get("gaps", "hold"), limit, options.get("time_unit", "s"))
        self.feed = Feed(self.stream, self._columns, gaps, rate)
        self._reader: Reader | None = None
        self._offset = 0  # bytes of the file that are behind us
        self._state: Path | None = options.get("state")
        self._saved = time.monotonic()
        if self._state is not None and self._wav is not None:
            raise InputError("--state is for signals that go on; a .wav has an end")
        if self._state is not None and self._state.exists():
            self._restore(self._state)

    def _events(self, model: Model) -> Events | None:
        if "events" not in self._options:
            if "labels" in self._options:
                raise InputError("--labels says which classes make events: give --events too, for example 0.8,0.5,1")
            return None
        return Events.parse(self._options["events"], _answers.classes(model, self._options.get("labels")))

    @property
    def _window_seconds(self) -> float:
        window = self.stream.model.bundle.input
        return window.steps / window.rate

    def run(self) -> Iterator[Result | Gap]:
        """The answers, and the gaps in the signal, as they come."""
        if self._wav is not None:
            for rows in self._sound(self._wav):
                yield from self.feed.push(rows, None, self.source)
        else:
            yield from self._read()
        yield from self.feed.finish()

    def _read(self) -> Iterator[Result | Gap]:
        head = b""
        for piece in self._pieces():
            reader = self._reader
            if reader is None:
                head += piece
                if not head.strip() or ("format" not in self._options and len(head) < 4):
                    continue  # too little to tell what it is
                self._reader = reader = self._new_reader(head)
                piece = head
            self._offset += len(piece)
            yield from self.feed.push(reader.push(piece), reader.names, self.source)
            if time.monotonic() - self._saved > SAVED:
                self.save()
        if self._reader is None and head.strip():
            self._reader = self._new_reader(head)
            self._offset += len(head)
            yield from self.feed.push(self._reader.push(head), self._reader.names, self.source)
        if self._reader is not None:
            yield from self.feed.push(self._reader.finish(), self._reader.names, self.source)

    def _new_reader(self, head: bytes) -> Reader:
        kind = self._options.get("format") or readers.guess(self._file, head)
        return readers.reader(kind, self.source, self._columns.width, self._columns.takes_sound)

    def _pieces(self) -> Iterator[bytes]:
        if port := self._options.get("serial"):
            raw = self._options.get("format") in ("f32", "s16")
            return pieces.serial(port, self._options.get("baud", 115200), whole_lines=not raw)
        if self._file == "-":
            return pieces.standard_input()
        return pieces.file(self._file, self._offset, bool(self._options.get("follow")))

    def _sound(self, sound: wav.Wav) -> Iterator[npt.NDArray[np.float64]]:
        for piece in sound.pieces(_PIECE):
            rows = piece.reshape(len(piece), -1)
            yield rows / FULL_SCALE if rows.dtype == np.int16 else rows.astype(np.float64)

    def complaints(self) -> Iterator[str]:
        """What a person should know of at the end."""
        reader = self._reader
        if reader is not None and reader.damaged:
            yield f"{reader.damaged} lines of {self.source} could not be read and were taken for missing samples"
        if not self.feed.rows:
            yield f"no samples came from {self.source}"
        elif not self.stream.statistics.results:
            yield f"{self.source} was shorter than one window of {self._window_seconds:g} s: there is no answer"

    def save(self) -> None:
        """Write the state, where one was asked for.

        Raises:
            InputError: it cannot be written.
        """
        self._saved = time.monotonic()
        if self._state is None:
            return
        reader = self._reader
        content = io.BytesIO()
        arrays: dict[str, Any] = {
            **self.feed.state,
            "offset": np.array(self._offset - (len(reader.rest) if reader else 0)),
            "format": np.array("" if reader is None else reader.kind),
            "names": np.array(reader.names or () if reader else (), dtype=np.str_),
            "columns": np.array(reader.columns if reader else 0),
        }
        np.savez(content, **arrays)
        try:
            _files.write(self._state, content.getvalue())
        except OSError as error:
            raise InputError(
                f"cannot write {self._state}: {error.strerror or error}; choose another --state"
            ) from error

    def _restore(self, path: Path) -> None:
        advice = f"delete {path} to begin anew"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                state = {name: archive[name] for name in archive.files}
            self.feed.restore(state)
        except InputError as error:
            raise InputError(f"{path}: {error} ({advice})") from None
        except UNREADABLE as error:
            raise InputError(f"{path} is not the state of a stream ({error}); {advice}") from None
        self._go_on(state)
        sys.stderr.write(f"going on at {self.stream.time:.2f} s of {self.source}, from {path}\n")

    def _go_on(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Read on where the file was left, by the names that its header gave."""
        if self._options.get("serial") or self._file == "-":
            return
        kind, names = str(state["format"]), tuple(map(str, state["names"]))
        if not kind:
            return
        self._offset = int(state["offset"])
        self._reader = readers.reader(kind, self.source, self._columns.width, self._columns.takes_sound)
        self._reader.names, self._reader.columns = names or None, int(state["columns"])
