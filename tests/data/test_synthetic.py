from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastzoo import data
from fastzoo.data.hapt import CLASSES
from fastzoo.data.synthetic import motion, windows
from fastzoo.errors import DataError

Windows = npt.NDArray[np.float32]
GAITS = CLASSES[:3]
POSTURES = CLASSES[3:]


@pytest.fixture(scope="module")
def each() -> dict[str, Windows]:
    """Fifty windows of every class."""
    return {label: motion([label] * 50, seed=3) for label in CLASSES}


def test_motion_has_the_form_of_har() -> None:
    x = motion(["walking", "laying", "walking"], steps=200, rate=100.0)
    assert x.shape == (3, 200, 6)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()


def test_motion_is_the_same_for_the_same_seed_only() -> None:
    labels = ["walking", "sitting"]
    assert np.array_equal(motion(labels, seed=1), motion(labels, seed=1))
    assert not np.array_equal(motion(labels, seed=1), motion(labels, seed=2))


def test_a_longer_list_begins_with_the_same_windows() -> None:
    labels = list(CLASSES)
    assert np.array_equal(motion(labels)[:2], motion(labels[:2]))
    assert not np.array_equal(*motion(["walking", "walking"]))


@pytest.mark.parametrize("label", CLASSES)
def test_the_accelerometer_feels_one_g(label: str, each: dict[str, Windows]) -> None:
    felt = np.linalg.norm(each[label][..., :3].mean(1), axis=-1)
    assert np.abs(felt - 1).max() < 0.1


def test_gravity_tells_lying_from_being_upright(each: dict[str, Windows]) -> None:
    for label in CLASSES:
        along_the_body = each[label][..., 0].mean(1)
        assert np.median(along_the_body) < 0.3 if label == "laying" else along_the_body.min() > 0.5


def test_bodies_at_rest_hardly_move(each: dict[str, Windows]) -> None:
    assert max(each[label][..., :3].std(1).max() for label in POSTURES) < 0.05
    assert min(each[label][..., 0].std(1).min() for label in GAITS) > 0.1


@pytest.mark.parametrize(("label", "low", "high"), [("walking", 1.5, 2.1), ("walking_upstairs", 1.2, 2.0)])
def test_steps_follow_each_other_at_a_walkers_pace(
    label: str, low: float, high: float, each: dict[str, Windows]
) -> None:
    vertical = each[label][..., 0] - each[label][..., 0].mean(1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(vertical, n=1024, axis=1))
    pace = np.fft.rfftfreq(1024, 1 / 50)[spectrum.argmax(1)]
    assert low < np.median(pace) < high


def test_going_down_shakes_most_and_stairs_turn_opposite_ways(each: dict[str, Windows]) -> None:
    shake = {label: each[label][..., 0].std(1).mean() for label in GAITS}
    assert shake["walking_downstairs"] > 1.2 * max(shake["walking"], shake["walking_upstairs"])
    yaw = {label: each[label][..., 3].mean() for label in GAITS}
    assert yaw["walking_upstairs"] > 0.1
    assert yaw["walking_downstairs"] < -0.1


@pytest.mark.parametrize("labels", [["running"], ["walking", ""], "walking"])
def test_unknown_labels_are_refused(labels: Any) -> None:
    with pytest.raises(DataError, match="labels are a list of walking, walking_upstairs"):
        motion(labels)


@pytest.mark.parametrize(("steps", "rate"), [(0, 50.0), (128, 0.0), (128, float("nan"))])
def test_a_window_needs_steps_and_a_rate(steps: int, rate: float) -> None:
    with pytest.raises(DataError, match="at least one step and a positive rate"):
        motion(["walking"], steps, rate)
    with pytest.raises(DataError, match="at least one step and a positive rate"):
        windows(1, steps, rate, 1, 0, 0, 1)


bounds = st.floats(-1e6, 1e6, width=32)


@given(
    ranges=st.lists(st.tuples(bounds, bounds), min_size=1, max_size=5),
    steps=st.integers(1, 50),
    rate=st.floats(0.1, 20000),
    n=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_windows_never_leave_their_range(
    ranges: list[tuple[float, float]], steps: int, rate: float, n: int, seed: int
) -> None:
    low, high = np.sort(np.array(ranges, np.float32), axis=1).T
    x = windows(len(low), steps, rate, n, seed, low, high)
    assert x.shape == (n, steps, len(low))
    assert x.dtype == np.float32
    assert (x >= low).all()
    assert (x <= high).all()
    assert np.array_equal(x, windows(len(low), steps, rate, n, seed, low, high))


def test_windows_use_their_range_smoothly() -> None:
    x = windows(3, 200, 100.0, 50, seed=0, low=-1, high=[1, 1, 3])
    assert np.ptp(x[..., 0]) > 1.2
    assert np.ptp(x[..., 2]) > 2.4
    fastest = 2 * np.pi * 5 / 100  # radians a step at 5 Hz, for an amplitude of 1
    assert np.abs(np.diff(x[..., 0], axis=1)).max() < fastest


@pytest.mark.parametrize(("low", "high"), [(1, 0), (0, np.inf), ([0, 0, 0], 1), (np.nan, 1), ("a", 1)])
def test_windows_need_a_range_for_every_channel(low: Any, high: Any) -> None:
    with pytest.raises(DataError, match="low and high"):
        windows(2, 10, 50.0, 1, 0, low, high)


@pytest.mark.real_data
def test_a_nearest_class_mean_of_real_windows_recognises_synthetic_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = REAL_DATA
    if not folder or not os.path.exists(os.path.join(folder, "har.npz")):
        pytest.skip("FASTZOO_DATA names no folder with har.npz")
    monkeypatch.setenv("FASTZOO_DATA", folder)
    real = data.load("har").train
    labels = [label for label in CLASSES for _ in range(50)]
    made, real_features = features(motion(labels)), features(real.x)
    centre, scale = real_features.mean(0), real_features.std(0)
    means = np.stack([((real_features - centre) / scale)[real.y == index].mean(0) for index in range(6)])
    distance = np.square(((made - centre) / scale)[:, None] - means).sum(-1)
    found = np.array(CLASSES)[distance.argmin(1)]
    assert (found == np.array(labels)).mean() > 0.75


REAL_DATA = os.environ.get("FASTZOO_DATA")  # read before the fixture gives every test its own folder


def features(x: Windows) -> npt.NDArray[np.float64]:
    """Means, spreads and low spectrum per channel."""
    moving = x - x.mean(1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(moving, axis=1))[:, 1:16].reshape(len(x), -1)
    return np.concatenate([x.mean(1), np.log(x.std(1) + 1e-3), np.log(spectrum + 0.1)], axis=1).astype(np.float64)
