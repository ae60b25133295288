"""Rows of a sensor into a stream of the model, and its results in the sensor's time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError
from fastzoo.sources.gaps import Block, Gap, Gaps, Reset
from fastzoo.sources.mapping import Columns, Doubles, Selection
from fastzoo.sources.resample import Resampler, delay
from fastzoo.stream import Result, Stream

_PARTS = ("stream", "gaps", "resampler")


class Feed:
    """Columns are chosen, units converted, gaps mended, the rate made the model's; then the stream answers.

    Args:
        stream: takes the samples.
        columns: which they are.
        gaps: what is done where some are missing.
        rate: samples per second of the sensor.

    Raises:
        InputError: the rates are in no ratio of small whole numbers.
        MissingExtraError: they differ, and SciPy is not installed.
    """

    def __init__(self, stream: Stream, columns: Columns, gaps: Gaps, rate: float) -> None:
        self.stream, self.columns, self._gaps, self._rate = stream, columns, gaps, rate
        self._is_sound = columns.takes_sound
        self._resampler: Resampler | None = None
        if rate != stream.rate:
            self._resampler = Resampler(rate, stream.rate, len(stream.channels))
        self._selection: Selection | None = None
        self._pushed = 0  # samples of the sensor since the stream began
        self.rows = 0  # that came, whatever became of them

    @property
    def delay(self) -> float:
        """Seconds by which resampling makes results come later; their times are right."""
        return delay(self._rate, self.stream.rate)

    def push(self, rows: Doubles, names: tuple[str, ...] | None, source: str) -> Iterator[Result | Gap]:
        """What follows from ``rows`` [n, columns], NaN where a value is missing.

        Args:
            rows: as the sensor gave them.
            names: of the columns, where they have some.
            source: what the sensor is called, for messages.

        Raises:
            InputError: the columns do not fit the model, or the time stamps the rate.
        """
        if len(rows) == 0:
            return
        self.rows += len(rows)
        if self._selection is None:
            self._selection = self.columns.select(names, rows.shape[1], source)
        values, stamps = self._selection(rows)
        for found in self._gaps.push(values, stamps):
            if isinstance(found, Gap):
                yield found
            elif isinstance(found, Reset):
                self._pushed = 0
                self.stream.reset()
                if self._resampler is not None:
                    self._resampler.reset()
            else:
                yield from self._block(found)

    def finish(self) -> Iterator[Gap]:
        """The report of a gap that lasts until the end."""
        yield from self._gaps.finish()

    def _block(self, block: Block) -> Iterator[Result]:
        begun = float(block.times[0]) - self._pushed / self._rate  # when the stream's first sample was
        self._pushed += len(block.rows)
        rows = block.rows
        if self._resampler is not None:
            rows = self._resampler.push(rows.mean(axis=1, keepdims=True) if self._is_sound else rows)
        for result in self.stream.push(rows):
            yield _later(result, begun)

    @property
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that must outlive a restart."""
        parts = {"stream": self.stream.state, "gaps": self._gaps.state}
        if self._resampler is not None:
            parts["resampler"] = self._resampler.state
        made = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        return {**made, "feed": np.array([self._pushed, self._rate])}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on where the feed that gave ``state`` was.

        Raises:
            InputError: it is the state of something else; begin without it.
        """
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {part: {} for part in _PARTS}
        try:
            for key, array in state.items():
                part, _, name = key.partition(".")
                if name and part in parts:
                    parts[part][name] = array
            pushed, rate = (float(number) for number in state["feed"])
            if rate != self._rate:
                raise InputError(f"the state is of {rate:g} samples per second, not {self._rate:g}; begin without it")
            self.stream.restore(parts["stream"])
            self._gaps.restore(parts["gaps"])
            if self._resampler is not None:
                self._resampler.restore(parts["resampler"])
        except (KeyError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"this is not the state of a stream ({error!r}); begin without it") from None
        self._pushed = int(pushed)


def _later(result: Result, seconds: float) -> Result:
    """The same result on a clock that began so much earlier."""
    if seconds == 0:
        return result
    events = tuple(replace(event, time=event.time + seconds) for event in result.events)
    return replace(result, start=result.start + seconds, time=result.time + seconds, events=events)
