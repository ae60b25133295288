"""Events against the truth: hits, repeats, false alarms, delays; thresholds swept as a stream would find them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastzoo
from fastzoo import detection
from fastzoo.detection import Interval, score, starts, sweep
from fastzoo.errors import InputError
from fastzoo.events import Detector, Event, Events, Exponential, Majority, Smoothing
from fastzoo.model import Model

from . import toy


@pytest.fixture(scope="module")
def model(pristine: Path) -> Model:
    return fastzoo.load(pristine)


def at(*times: float, label: str = "yes") -> list[Event]:
    return [Event("start", label, time, 0.9) for time in times]


def test_a_made_up_hour() -> None:
    truth = [("yes", 10.0, 11.0), ("yes", 20.0, 21.0), ("no", 30.0, 31.0), ("yes", 40.0, 41.0)]
    events = [
        *at(10.4, 10.9, 15.0, 19.6, 55.0),  # a hit, its repeat, a false alarm, a hit 0.4 s early, a false alarm
        *at(30.5, label="no"),
        Event("end", "yes", 11.5, 0.1, 1.1),
    ]
    found = score(events, truth, 3600.0)
    yes, no = found.per_label["yes"], found.per_label["no"]
    assert (yes.intervals, yes.detected, yes.false_alarms, yes.repeats) == (3, 2, 2, 1)
    assert yes.detection_rate == pytest.approx(2 / 3)
    assert yes.false_alarms_per_hour == 2.0
    assert yes.median_delay == pytest.approx(0.0)
    assert (no.intervals, no.detected, no.false_alarms) == (1, 1, 0)
    assert (found.total.intervals, found.total.detected) == (4, 3)
    assert found.total.false_alarms_per_hour == 2.0
    half = score(events, truth, 1800.0)
    assert half.total.false_alarms_per_hour == 4.0


def test_an_event_detects_one_interval_and_tolerance_decides() -> None:
    truth = [("yes", 10.0, 11.0), ("yes", 11.2, 12.0)]
    assert score(at(11.1), truth, 60).total.detected == 1
    assert score(at(11.1, 11.15), truth, 60).total.detected == 2
    assert score(at(9.7), truth, 60, tolerance=0.5).total.detected == 1
    missed = score(at(9.7), truth, 60, tolerance=0.1).total
    assert (missed.detected, missed.false_alarms, missed.median_delay) == (0, 1, None)


def test_classes_that_are_not_scored_are_background() -> None:
    found = score([*at(1), *at(2, label="noise")], [("yes", 1, 2), ("noise", 2, 3)], 60, labels=["yes"])
    assert (found.total.intervals, found.total.detected, found.total.false_alarms) == (1, 1, 0)
    assert score([], [], 60, labels=["yes"]).total.detection_rate is None


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([("yes", 2.0, 1.0)], "must start at 0 s or later and end after its start"),
        ([("yes", -1.0, 1.0)], "must start at 0 s or later"),
        ([("yes", 1.0, float("nan"))], "impossible"),
        ([("yes", 50.0, 61.0)], "ends after the recording, which lasts 60 s"),
        ([("yes", 1.0, 3.0), ("yes", 2.0, 4.0)], "overlap"),
    ],
)
def test_impossible_truth_is_refused(truth: list[tuple[str, float, float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score([], truth, 60.0)


@pytest.mark.parametrize(
    ("duration", "tolerance"), [(0, 0.5), (-1, 0.5), (float("inf"), 0.5), (60, -1), (60, float("nan"))]
)
def test_impossible_numbers_are_refused(duration: float, tolerance: float) -> None:
    with pytest.raises(InputError, match="must be seconds"):
        score([], [], duration, tolerance=tolerance)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_counts_add_up(data: st.DataObject) -> None:
    edges = sorted(data.draw(st.lists(st.integers(0, 1000), max_size=10, unique=True)))
    truth = [("yes", a / 10, b / 10) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    times = data.draw(st.lists(st.integers(0, 1000).map(lambda n: n / 10), max_size=20))
    tolerance = data.draw(st.sampled_from([0.0, 0.5, 5.0]))
    found = score(at(*times), truth, 100.0, tolerance=tolerance).total
    assert found.detected + found.false_alarms + found.repeats == len(times)
    assert found.detected <= found.intervals == len(truth)
    alone = sum(not any(a - tolerance <= time <= b + tolerance for _, a, b in truth) for time in times)
    assert found.false_alarms == alone


@given(
    seed=st.integers(0, 10**6),
    smooth=st.sampled_from([None, Majority(3), Exponential(4)]),
    on=st.sampled_from([0.3, 0.5, 0.8]),
    off=st.sampled_from([0.1, 0.3]),
    lasting=st.sampled_from([0.0, 0.06, 0.2]),
)
@settings(max_examples=60, deadline=None)
def test_all_at_once_finds_what_a_stream_finds(
    seed: int, smooth: Smoothing | None, on: float, off: float, lasting: float
) -> None:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(200, 3)), axis=0)
    p = np.exp(walk) / np.exp(walk).sum(axis=1, keepdims=True)
    if smooth is not None:
        memory = np.empty((0, 3))
        for i in range(len(p)):
            memory, p[i] = smooth.smooth(memory, p[i].copy())
    times = np.arange(1, 201, dtype=np.float64) * 0.02
    of = Events(on, off, lasting, labels=("rest", "run"))
    detector = Detector(of, toy.LABELS)
    one_by_one = [event for time, row in zip(times, p, strict=True) for event in detector.detect(float(time), row)]
    expected = sorted((event for event in one_by_one if event.kind == "start"), key=lambda event: event.time)
    assert starts(times, p, of, toy.LABELS) == expected


def test_a_sweep_is_the_score_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.3] * 3, size=400)
    times = np.arange(1, 401, dtype=np.float64) * 0.02
    truth = [Interval("walk", 1.0, 2.0), Interval("run", 4.0, 5.0)]
    points = sweep(times, p, Events(0.8, 0.5), toy.LABELS, truth, 8.0, thresholds=(0.3, 0.6, 0.9))
    assert [(point.on, point.off) for point in points] == [(0.3, 0.3), (0.6, 0.5), (0.9, 0.5)]
    for point in points:
        events = starts(times, p, Events(point.on, point.off), toy.LABELS)
        assert point.score == score(events, truth, 8.0, labels=toy.LABELS)


def test_truth_is_read_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("\ufeffid,Label,start,end\n1,walk,0.5,1.5\n\n2,run,2,3e0\n", encoding="utf-8")
    assert detection.read(path, toy.LABELS) == [Interval("walk", 0.5, 1.5), Interval("run", 2.0, 3.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("walk,0,1\n", "its first line must name the columns label,start,end"),
        ("label,start,end\nfly,0,1\n", "line 2: no class 'fly'; the model has"),
        ("label,start,end\nwalk,soon,1\n", "'soon' is not a number of seconds"),
        ("label,start,end\nwalk,1\n", r"2 column\(s\), too few"),
    ],
)
def test_faulty_truth_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        detection.read(path, toy.LABELS)
    with pytest.raises(InputError, match="there is no file"):
        detection.read(tmp_path / "nowhere.csv", toy.LABELS)
    path.write_bytes(b"label\xff")
    with pytest.raises(InputError, match="is not CSV in UTF-8"):
        detection.read(path, toy.LABELS)
