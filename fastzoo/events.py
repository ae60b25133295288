"""What happens in a stream: probabilities smoothed over windows, and the events that begin and end in them.

>>> stream = model.stream(hop=16, smooth=Majority(5), events=Events(on=0.8, off=0.5, min_duration=1.0))
>>> for result in stream.push(chunk):
...     for event in result.events: ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastzoo._values import is_number, is_whole
from fastzoo.errors import InputError
from fastzoo.samples import shortened

__all__ = ["Event", "Events", "Exponential", "Majority", "Smoothing", "smoothing"]

Doubles = npt.NDArray[np.float64]

MOST_RESULTS = 10_000  # that smoothing may remember


@dataclass(frozen=True)
class Smoothing(ABC):
    """Smooths the probabilities of a stream's results.

    Args:
        k: how many results take part.
    """

    k: int

    def __post_init__(self) -> None:
        if not is_whole(self.k, 1, MOST_RESULTS):
            raise InputError(f"smoothing takes 1 to {MOST_RESULTS} results, not {self.k!r}")

    @abstractmethod
    def smooth(self, memory: Doubles, probabilities: Doubles) -> tuple[Doubles, Doubles]:
        """The next memory [m, C] and the smoothed probabilities [C]; the first memory is empty, [0, C]."""


class Majority(Smoothing):
    """The share of the last ``k`` results that voted for each class; ties go to the more probable one."""

    def smooth(self, memory: Doubles, probabilities: Doubles) -> tuple[Doubles, Doubles]:
        """See :meth:`Smoothing.smooth`."""
        memory = np.concatenate([memory, probabilities[np.newaxis]])[-self.k :]
        votes = np.bincount(memory.argmax(axis=1), minlength=memory.shape[1]) / len(memory)
        tie = 1e-6  # far less than a vote
        return memory, (1 - tie) * votes + tie * memory.mean(axis=0)


class Exponential(Smoothing):
    """``s += (p - s) 2 / (k + 1)``, an average over about the last ``k`` results."""

    def smooth(self, memory: Doubles, probabilities: Doubles) -> tuple[Doubles, Doubles]:
        """See :meth:`Smoothing.smooth`."""
        last = memory[0] if len(memory) else probabilities
        smoothed = last + 2 / (self.k + 1) * (probabilities - last)
        return smoothed[np.newaxis], smoothed


SMOOTHINGS: dict[str, type[Smoothing]] = {"majority": Majority, "exponential": Exponential}


def smoothing(text: str) -> Smoothing:
    """``"majority:5"`` or ``"exponential:5"``.

    Raises:
        InputError: it is neither.
    """
    kind, _, count = text.partition(":")
    if kind in SMOOTHINGS and count.isdecimal():
        return SMOOTHINGS[kind](int(count))
    raise InputError(f"no smoothing {text!r}; give majority:5 or exponential:5, with the number of results")


@dataclass(frozen=True)
class Event:
    """A class that began or ended.

    ``time`` is in seconds of the stream: of a start, when the class was first sure; of an end, when it was no more.
    """

    kind: str  # "start" or "end"
    label: str
    time: float
    probability: float
    duration: float | None = None  # of an end: seconds since the start


@dataclass(frozen=True)
class Events:
    """When a class begins and ends: with hysteresis, and only if it lasts.

    Args:
        on: smoothed probability from which a class may begin.
        off: below which it ends.
        min_duration: seconds that it must stay at ``off`` or above, after it reached ``on``, before it begins.
        labels: the classes that make events; None = all.
    """

    on: float = 0.8
    off: float = 0.5
    min_duration: float = 0.0
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not (is_number(self.on, 0, 1) and is_number(self.off, 0, 1) and self.off <= self.on):
            raise InputError(f"events need 0 <= off <= on <= 1, not on = {self.on!r} and off = {self.off!r}")
        if not is_number(self.min_duration, 0, 1e9):
            raise InputError(f"min_duration must be seconds, at least 0, not {self.min_duration!r}")

    @classmethod
    def parse(cls, text: str, labels: Sequence[str] | None = None) -> Events:
        """``"0.8"``, ``"0.8,0.5"`` or ``"0.8,0.5,1.0"``: on, off, min_duration.

        Raises:
            InputError: it is nothing of the kind.
        """
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3:
            raise InputError(f"events are given as on,off,seconds, for example 0.8,0.5,1.0, not {text!r}")
        on, off, seconds = (*numbers, *(min(0.5, numbers[0]), 0.0)[len(numbers) - 1 :])
        return cls(on, off, seconds, None if labels is None else tuple(labels))


class Detector:
    """Finds the events of one stream.

    Args:
        of: what makes an event.
        labels: the classes, in the order of the probabilities.

    Raises:
        InputError: a class that makes events is unknown.
    """

    def __init__(self, of: Events, labels: Sequence[str]) -> None:
        if unknown := [label for label in of.labels or () if label not in labels]:
            raise InputError(f"no class {', '.join(map(repr, unknown))} can begin; there are {shortened(labels)}")
        self.of, self._labels = of, tuple(labels)
        self._watched = np.array([of.labels is None or label in of.labels for label in labels])
        self.reset()

    def reset(self) -> None:
        """Nothing has begun."""
        self.since = np.full(len(self._labels), np.nan)  # when each class reached `on`
        self.begun = np.zeros(len(self._labels), bool)

    def detect(self, time: float, smoothed: Doubles) -> tuple[Event, ...]:
        """The events of a result at ``time``."""
        found = []
        for c in np.flatnonzero(self._watched):
            label, probability = self._labels[c], float(smoothed[c])
            if probability < self.of.off:
                if self.begun[c]:
                    found.append(Event("end", label, time, probability, time - float(self.since[c])))
                self.since[c], self.begun[c] = np.nan, False
                continue
            if np.isnan(self.since[c]) and probability >= self.of.on:
                self.since[c] = time
            if not self.begun[c] and time - self.since[c] >= self.of.min_duration:  # False where `since` is NaN
                self.begun[c] = True
                found.append(Event("start", label, float(self.since[c]), probability))
        return tuple(found)
