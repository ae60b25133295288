"""Classify an endless signal with a model of windows, exactly as the windows alone would be classified.

Run over a stream as it is, a network trained on windows drifts: its state has seen more than in training. So every
window begins anew, in one of two ways. With the layouts for windows, each window is run when its last sample is there.
With the layout ``step``, T / hop copies of the state, each begun ``hop`` samples after the other, advance together as
one batch; every ``hop`` samples one of them completes its window.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastzoo._engine import Copies, Engine, Floats
from fastzoo._values import is_number, is_whole
from fastzoo.errors import InputError
from fastzoo.events import MOST_RESULTS, Detector, Event, Events, Smoothing
from fastzoo.model import softmax
from fastzoo.samples import as_chunk

if TYPE_CHECKING:
    from fastzoo.model import Model

__all__ = ["Result", "Statistics", "Stream"]

State = dict[str, npt.NDArray[Any]]

LARGEST_HOP = 10**9
_PIECE = 1 << 16  # samples taken in at a time: memory stays flat however long a chunk


@dataclass(frozen=True)
class Result:
    """One window of a stream.

    ``start`` and ``time`` are when it begins and ends, in seconds from the stream's first sample. ``label`` and
    ``probabilities`` [C] are those that the model predicts for the window alone; ``smoothed`` [C] are smoothed over
    windows, and ``decision`` is their label.
    """

    index: int
    start: float
    time: float
    label: str
    probabilities: Floats
    smoothed: Floats
    decision: str
    events: tuple[Event, ...]
    labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: time, label, probabilities by label; what smoothing and events add, where they do."""
        found: dict[str, Any] = {
            "time": round(self.time, 6),
            "label": self.label,
            "probabilities": dict(zip(self.labels, map(float, self.probabilities), strict=True)),
        }
        if self.smoothed is not self.probabilities:
            found["decision"] = self.decision
            found["smoothed"] = dict(zip(self.labels, map(float, self.smoothed), strict=True))
        if self.events:
            found["events"] = [
                {key: value for key, value in asdict(event).items() if value is not None} for event in self.events
            ]
        return found


@dataclass(frozen=True)
class Statistics:
    """What a stream did so far; ``late`` pushes took longer than the latency budget."""

    pushes: int = 0
    samples: int = 0
    results: int = 0
    late: int = 0
    seconds: float = 0.0  # spent in push
    worst: float = 0.0  # seconds of the longest push


class Windows(ABC):
    """The windows of a stream of rows [D]: which end when, and their logits."""

    @abstractmethod
    def push(self, rows: Floats) -> list[Floats]:
        """Logits [C] of each window that ends in ``rows`` [n, D]."""

    @property
    @abstractmethod
    def state(self) -> State:
        """All that must be kept."""

    @abstractmethod
    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from :attr:`state`, whose arrays have been found to have the right shapes."""


class Recomputed(Windows):
    """Each window is run by itself, through the graph that ``predict`` uses: the same bits."""

    def __init__(self, engine: Engine, steps: int, channels: int, hop: int) -> None:
        self._engine, self._steps, self._hop = engine, steps, hop
        self._rows = np.empty((0, channels), np.float32)  # from the next window's first on
        self._ahead = 0  # rows to come before the next window begins, where hop > T

    def push(self, rows: Floats) -> list[Floats]:
        """See :meth:`Windows.push`."""
        skipped = min(self._ahead, len(rows))
        held = np.concatenate([self._rows, rows[skipped:]])
        logits, first = [], 0
        while first + self._steps <= len(held):
            logits.append(self._engine.logits(held[np.newaxis, first : first + self._steps])[0])
            first += self._hop
        self._ahead += max(0, first - len(held)) - skipped
        self._rows = held[first:].copy() if first else held
        return logits

    @property
    def state(self) -> State:
        """See :attr:`Windows.state`."""
        return {"rows": self._rows.copy(), "ahead": np.array([self._ahead])}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See :meth:`Windows.restore`."""
        self._rows, self._ahead = state["rows"].astype(np.float32), int(state["ahead"][0])


class Staggered(Windows):
    """Copies of the state, each begun ``hop`` rows after the other: nothing is computed twice."""

    def __init__(self, engine: Engine, steps: int, channels: int, hop: int) -> None:
        self._hop, self._steps = hop, steps
        self._count = -(-steps // hop)  # K
        self._copies = Copies(engine, self._count, channels)
        self._position = 0  # rows so far

    def push(self, rows: Floats) -> list[Floats]:
        """See :meth:`Windows.push`."""
        return [logits for row in rows for logits in self._advance(row)]

    def _advance(self, row: Floats) -> list[Floats]:
        """One row; the logits of the window that it ends, if it does."""
        copies, n = self._copies, self._position
        if (begins := self._copy(n)) is not None:
            copies.state[begins] = 0
        if (pools := self._copy(n - self._steps + copies.engine.pool)) is not None:
            copies.sums[pools] = 0
        copies.advance(row)
        self._position = n + 1
        if (ends := self._copy(n - self._steps + 1)) is None:
            return []
        logits = copies.means(slice(ends, ends + 1))[0]
        if not np.isfinite(logits).all():
            raise InputError(
                f"the network overflows on the window that ends with sample {n}, {row.tolist()}; are the samples in "
                "the units that the channels name?"
            )
        return [logits]

    def _copy(self, start: int) -> int | None:
        """The copy that runs the window which begins with row ``start``, if one does."""
        return start // self._hop % self._count if start >= 0 and start % self._hop == 0 else None

    @property
    def state(self) -> State:
        """See :attr:`Windows.state`."""
        copies = self._copies
        return {
            "h": copies.state.copy(), "sums": copies.sums.copy(), "position": np.array([self._position])
        }  # fmt: skip

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See :meth:`Windows.restore`."""
        self._copies.state = np.array(state["h"], np.float32)
        self._copies.sums = np.array(state["sums"], np.float64)
        self._position = int(state["position"][0])


class Stream:
    """An endless signal through a model; made by :meth:`fastzoo.model.Model.stream`, which says what is what.

    Results depend on the samples alone, never on the chunks in which they come. A stream pickles with its
    :attr:`state` and a reference to its model.
    """

    model: Model
    hop: int  # samples, or frames of sound, from one window to the next
    statistics: Statistics  # of all pushes

    def __init__(
        self,
        model: Model,
        hop: int | None = None,
        *,
        smooth: Smoothing | None = None,
        events: Events | None = None,
        latency_budget: float | None = None,
        sound: bool | None = None,
    ) -> None:
        window = model.bundle.input
        hop = max(1, window.steps // 8) if hop is None else hop
        if not is_whole(hop, 1, LARGEST_HOP):
            raise InputError(f"hop must be a whole number of samples, at least 1, not {hop!r}")
        if latency_budget is not None and not is_number(latency_budget, 0):
            raise InputError(f"latency_budget must be seconds, not {latency_budget!r}")
        if sound and model.frontend is None:
            raise InputError(f"{model.name} takes no sound: its bundle has no front end")
        self.model, self.hop = model, hop
        self._frontend = None if sound is False else model.frontend
        self._smooth, self._budget = smooth, latency_budget
        self._detector = None if events is None else Detector(events, model.labels)
        self.statistics = Statistics()
        self.reset()

    def reset(self) -> None:
        """Begin again with the first sample; :attr:`statistics` go on."""
        window = self.model.bundle.input
        kind = Staggered if self.model.layout == "step" else Recomputed
        self._windows: Windows = kind(self.model.engine, window.steps, len(window.channels), self.hop)
        self._frames = None if self._frontend is None else self._frontend.stream(self._frontend.rate)
        self._samples = self._results = 0
        self._memory = np.empty((0, len(self.model.labels)))  # of smoothing
        if self._detector is not None:
            self._detector.reset()

    @property
    def rate(self) -> float:
        """Samples per second of what is pushed."""
        return self.model.bundle.input.rate if self._frontend is None else self._frontend.rate

    @property
    def channels(self) -> tuple[str, ...]:
        """What is pushed: the D channels, or ``("sound",)``."""
        return self.model.bundle.input.channels if self._frontend is None else ("sound",)

    @property
    def samples(self) -> int:
        """How many samples were pushed since the beginning."""
        return self._samples

    @property
    def time(self) -> float:
        """Seconds since the first sample."""
        return self._samples / self.rate

    def push(self, chunk: npt.ArrayLike) -> list[Result]:
        """The results of the windows that end in ``chunk``.

        Args:
            chunk: samples [n, D] in raw units, any n >= 0; or sound, as :meth:`fastzoo.model.Model.features` takes it.

        Raises:
            InputError: wrong shape or type, NaN or infinity; the stream goes on as if it had not been pushed.
        """
        begin = time.perf_counter()
        before = self._signal
        try:
            rows, count = self._rows(chunk)
            pieces = (rows[first : first + _PIECE] for first in range(0, len(rows), _PIECE))
            logits = [one for piece in pieces for one in self._windows.push(piece)]
        except BaseException:
            self._restore_signal(before)
            raise
        results = (
            [self._result(*pair) for pair in zip(logits, softmax(np.array(logits)), strict=True)] if logits else []
        )
        self._samples += count
        self._count(count, len(results), time.perf_counter() - begin)
        return results

    def _rows(self, chunk: npt.ArrayLike) -> tuple[Floats, int]:
        """What the network takes of ``chunk``, [k, D], and how many samples that is."""
        if self._frames is None:
            rows = as_chunk(chunk, self.channels)
            return rows, len(rows)
        return self._frames.push(chunk), len(np.asarray(chunk))

    def _result(self, logits: Floats, probabilities: Floats) -> Result:
        index, labels = self._results, self.model.labels
        self._results += 1
        start, end = self._span(index)
        smoothed = probabilities
        if self._smooth is not None:
            self._memory, mean = self._smooth.smooth(self._memory, probabilities.astype(np.float64))
            smoothed = mean.astype(np.float32)
        return Result(
            index=index,
            start=start,
            time=end,
            label=labels[int(logits.argmax())],  # as predict does
            probabilities=probabilities,
            smoothed=smoothed,
            decision=labels[int((logits if smoothed is probabilities else smoothed).argmax())],
            events=() if self._detector is None else self._detector.detect(end, smoothed.astype(np.float64)),
            labels=labels,
        )

    def _span(self, index: int) -> tuple[float, float]:
        """When window number ``index`` begins and ends, in seconds."""
        first, last = index * self.hop, index * self.hop + self.model.bundle.input.steps - 1
        if self._frontend is None:
            return first / self.rate, (last + 1) / self.rate
        of = self._frontend
        return max(0, first * of.hop - of.pad) / of.rate, (last * of.hop + of.window - of.pad) / of.rate

    def _count(self, samples: int, results: int, seconds: float) -> None:
        budget = samples / self.rate if self._budget is None else self._budget
        was = self.statistics
        self.statistics = Statistics(
            pushes=was.pushes + 1,
            samples=was.samples + samples,
            results=was.results + results,
            late=was.late + (samples > 0 and seconds > budget),
            seconds=was.seconds + seconds,
            worst=max(was.worst, seconds),
        )

    @property
    def _signal(self) -> State:
        """What must be kept of the signal so far."""
        return self._windows.state if self._frames is None else {**self._windows.state, "sound": self._frames.rest}

    def _restore_signal(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._windows.restore(state)
        if self._frames is not None:
            self._frames.rest = state["sound"]

    @property
    def state(self) -> State:
        """All that must outlive a restart, as plain arrays: ``np.savez(path, **stream.state)``."""
        detector = self._detector
        return {
            "of": np.array(self._identity),
            "counts": np.array([self._samples, self._results], np.int64),
            "memory": self._memory.copy(),
            "since": np.empty(0) if detector is None else detector.since.copy(),
            "begun": np.empty(0, bool) if detector is None else detector.begun.copy(),
            **self._signal,
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on where the stream that gave ``state`` was.

        Raises:
            InputError: it is the state of another model, layout, hop, smoothing or events, or no state at all; this
                stream is unchanged.
        """
        advice = "it continues a stream of the same model, layout, hop, smoothing and events only; begin without it"
        own = self.state
        try:
            arrays = {name: np.array(state[name]) for name in own}  # copies
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                f"this is not the state of a stream ({error!r} is missing or unreadable); {advice}"
            ) from None
        if str(arrays["of"]) != self._identity:
            raise InputError(f"this is the state of {str(arrays['of'])!r}, not of {self._identity!r}; {advice}")
        open_ended = {"rows", "sound", "memory"}  # in their first axis
        for name, array in own.items():
            ours, theirs = (a.shape[1 if name in open_ended else 0 :] for a in (array, arrays[name]))
            if ours != theirs or array.ndim != arrays[name].ndim or arrays[name].dtype.kind != array.dtype.kind:
                raise InputError(f"the state's {name!r} is {arrays[name].dtype} {list(arrays[name].shape)}; {advice}")
        counts = [int(value) for name in ("counts", "ahead", "position") if name in own for value in arrays[name]]
        limit = self.model.bundle.input.steps + _PIECE
        if min(counts) < 0 or any(len(arrays[name]) > limit + MOST_RESULTS for name in open_ended & own.keys()):
            raise InputError(f"the state's counts or lengths are impossible; {advice}")
        self._restore_signal(arrays)
        self._samples, self._results = map(int, arrays["counts"])
        self._memory = arrays["memory"]
        if self._detector is not None:
            self._detector.since, self._detector.begun = arrays["since"], arrays["begun"]

    def __reduce__(self) -> tuple[Callable[[], Stream], tuple[()], tuple[State, Statistics]]:
        again = partial(
            Stream,
            self.model,
            self.hop,
            smooth=self._smooth,
            events=None if self._detector is None else self._detector.of,
            latency_budget=self._budget,
            sound=self._frontend is not None,
        )
        return again, (), (self.state, self.statistics)

    def __setstate__(self, kept: tuple[State, Statistics]) -> None:
        state, self.statistics = kept
        self.restore(state)

    @property
    def _identity(self) -> str:
        """What a state belongs to."""
        file = self.model.bundle.precisions[self.model.precision].layouts[self.model.layout]
        parts = [self.model.name, self.model.layout, file.sha256, f"hop {self.hop}", *self.channels]
        return ", ".join([*parts, str(self._smooth), str(self._detector and self._detector.of)])
