"""Smoothing and events: few numbers, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastzoo.errors import InputError
from fastzoo.events import Detector, Event, Events, Exponential, Majority, Smoothing, smoothing

LABELS = ("quiet", "word")


def smoothed(by: Smoothing, series: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    memory, rows = np.empty((0, len(series[0]))), []
    for probabilities in series:
        memory, row = by.smooth(memory, np.array(probabilities))
        rows.append(row)
    return np.array(rows)


def detected(of: Events, word: Sequence[float]) -> list[Event]:
    """Events of results one second apart, the first at 0 s."""
    detector = Detector(of, LABELS)
    return [event for time, p in enumerate(word) for event in detector.detect(float(time), np.array([1 - p, p]))]


def test_majority_counts_votes() -> None:
    series = [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]]
    np.testing.assert_allclose(smoothed(Majority(3), series)[:, 1], [0, 1 / 2, 2 / 3, 1], atol=1e-5)


def test_ties_go_to_the_more_probable() -> None:
    assert smoothed(Majority(2), [[0.9, 0.1], [0.45, 0.55]])[-1].argmax() == 0
    assert smoothed(Majority(2), [[0.55, 0.45], [0.1, 0.9]])[-1].argmax() == 1


def test_exponential_is_a_running_mean() -> None:
    np.testing.assert_allclose(smoothed(Exponential(3), [[1, 0], [0, 1], [0, 1]])[:, 1], [0, 0.5, 0.75])


@pytest.mark.parametrize("by", [Majority(1), Exponential(1)])
def test_one_result_is_not_smoothed(by: Smoothing) -> None:
    series = [[0.2, 0.8], [0.7, 0.3]]
    assert (smoothed(by, series).argmax(axis=1) == [1, 0]).all()


@given(
    st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=20),
    st.integers(1, 8),
    st.sampled_from([Majority, Exponential]),
)
def test_what_is_smoothed_stays_a_distribution(series: list[list[float]], k: int, kind: type[Smoothing]) -> None:
    rows = smoothed(kind(k), [np.array(row) / sum(row) for row in series])  # type: ignore[misc]
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    assert (rows >= 0).all()


def test_hysteresis_keeps_an_event_until_it_is_clearly_over() -> None:
    events = detected(Events(0.8, 0.4, labels=("word",)), [0.1, 0.9, 0.5, 0.7, 0.3, 0.5])
    assert [(event.kind, event.time, event.duration) for event in events] == [("start", 1, None), ("end", 4, 3)]


def test_what_does_not_last_is_no_event() -> None:
    of = Events(0.8, 0.4, min_duration=2, labels=("word",))
    assert detected(of, [0.9, 0.9, 0.1]) == []
    events = detected(of, [0.1, 0.9, 0.5, 0.6, 0.1])
    assert [(event.kind, event.time) for event in events] == [("start", 1), ("end", 4)]
    assert events[1].duration == 3


def test_all_classes_are_watched_unless_named() -> None:
    assert {event.label for event in detected(Events(0.8, 0.5), [0.1, 0.9])} == {"quiet", "word"}
    assert {event.label for event in detected(Events(0.8, 0.5, labels=("word",)), [0.1, 0.9])} == {"word"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.8", Events(0.8, 0.5)), ("0.3", Events(0.3, 0.3)), ("0.8,0.6", Events(0.8, 0.6)), ("1,0,2", Events(1, 0, 2))],
)
def test_events_are_read_from_text(text: str, expected: Events) -> None:
    assert Events.parse(text) == expected
    assert Events.parse(text, ["word"]).labels == ("word",)


@pytest.mark.parametrize("text", ["", "a", "0.8,", "0.5,0.8", "2", "0.8,0.5,-1", "0.8,0.5,1,2", "nan"])
def test_faulty_events_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        Events.parse(text)


def test_smoothing_is_read_from_text() -> None:
    assert smoothing("majority:5") == Majority(5)
    assert smoothing("exponential:3") == Exponential(3)


@pytest.mark.parametrize(
    "text", ["", "majority", "majority:0", "mean:5", "majority:-1", "majority:1.5", "exponential:99999"]
)
def test_faulty_smoothing_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        smoothing(text)
