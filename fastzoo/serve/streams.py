"""Streams of the service: so many and no more, advanced by one thread, in pieces, so that each gets its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fastzoo import _json
from fastzoo._engine import Floats
from fastzoo.errors import InputError
from fastzoo.events import Events, smoothing
from fastzoo.model import Model
from fastzoo.samples import as_chunk
from fastzoo.serve import bodies
from fastzoo.serve.limits import Limits, busy
from fastzoo.serve.metrics import Metrics
from fastzoo.stream import Result, Stream

_PIECE = 64  # windows' worth of samples after which another stream has its turn


@dataclass(frozen=True)
class Options:
    """How a stream is made, as text gives it; see :meth:`fastzoo.model.Model.stream`."""

    hop: int | None = None
    smooth: str | None = None
    events: str | None = None

    def stream(self, model: Model) -> Stream:
        """A stream of ``model``.

        Raises:
            InputError: an option makes no sense.
        """
        smooth = None if self.smooth is None else smoothing(self.smooth)
        events = None if self.events is None else Events.parse(self.events)
        return model.stream(self.hop, smooth=smooth, events=events)


class Streams:
    """All open streams of a service."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._open = 0
        self._thread = ThreadPoolExecutor(1, "fastzoo streams")

    @contextmanager
    def opened(self, model: Model, options: Options) -> Iterator[Stream]:
        """A stream, which counts as open for so long.

        Raises:
            InputError: an option makes no sense.
            Refused: too many are open.
        """
        if self._open >= self._limits.max_streams:
            raise busy(f"{self._open} streams are open, and no more may be")
        stream = options.stream(model)
        gauge = self._metrics.streams.labels(model.name)
        self._open += 1
        gauge.inc()
        try:
            yield stream
        finally:
            self._open -= 1
            gauge.dec()

    async def push(self, stream: Stream, message: str | bytes) -> AsyncIterator[list[Result]]:
        """The results of a message, a few at a time.

        Args:
            stream: one of the open ones.
            message: a chunk: JSON, or float32, little-endian.

        Raises:
            InputError: it is no chunk of this stream.
        """
        rows = chunk(message, stream)
        loop, length = asyncio.get_running_loop(), max(1, min(_PIECE * stream.hop, 1 << 12))
        for first in range(0, len(rows), length):
            late = stream.statistics.late
            results = await loop.run_in_executor(self._thread, stream.push, rows[first : first + length])
            self._metrics.results.labels(stream.model.name).inc(len(results))
            self._metrics.late.labels(stream.model.name).inc(stream.statistics.late - late)
            if results:
                yield results

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def chunk(message: str | bytes, stream: Stream) -> Floats:
    """The samples [n, D] in a message; sound is [n, 1].

    Raises:
        InputError: they are not what the stream takes.
    """
    channels = stream.channels
    if isinstance(message, bytes):
        rows: npt.NDArray[Any] = bodies.floats(message, len(channels))
    else:
        try:
            rows = bodies.numbers(_json.parse(message.encode()), "the chunk")
        except UnicodeEncodeError:
            raise InputError("the chunk is not UTF-8") from None
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"the chunk is not JSON: {error}") from None
    return as_chunk(rows, channels)  # all of it is checked before the first piece is pushed
