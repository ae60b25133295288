"""A stream answers exactly what its windows alone would be answered, whatever the chunks, the layout, the hop."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import fastzoo
from fastzoo.errors import InputError
from fastzoo.events import Events, Exponential, Majority
from fastzoo.model import Model
from fastzoo.stream import Result, Stream

from . import toy

SHIPPED = Path(fastzoo.__file__).parent / "models" / "fastgrnn-har"
FILES = [(precision, layout) for precision in ("fp32", "int8") for layout in ("fused", "scan", "unrolled", "step")]
STEPS, RATE = 128, 50.0

Floats = npt.NDArray[np.float32]


def motion(count: int, channels: int = 6, seed: int = 0) -> Floats:
    """A signal [count, channels] that wanders."""
    rng = np.random.default_rng(seed)
    slow = np.cumsum(rng.normal(size=(count, channels)), axis=0) / 10
    return (np.sin(slow) + 0.3 * rng.normal(size=slow.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def opened() -> dict[tuple[str, str], Model]:
    return {(precision, layout): Model(SHIPPED, precision, layout) for precision, layout in FILES}


@pytest.fixture
def model(opened: dict[tuple[str, str], Model]) -> Model:
    return opened["int8", "fused"]


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(toy.make(tmp_path_factory.mktemp("toy") / "gru-toy"), "int8")


def pieces(x: Floats, lengths: Sequence[int]) -> Iterator[Floats]:
    """``x`` in chunks of these lengths, over and over."""
    first = position = 0
    while first < len(x):
        yield x[first : first + lengths[position % len(lengths)]]
        first += lengths[position % len(lengths)]
        position += 1


def pushed(stream: Stream, x: Floats, lengths: Sequence[int]) -> list[Result]:
    return [result for chunk in pieces(x, lengths) for result in stream.push(chunk)]


def assert_exact(model: Model, x: Floats, hop: int, results: Sequence[Result], steps: int = STEPS) -> None:
    """Bit for bit what the windows alone give, and none is missing."""
    starts = range(0, len(x) - steps + 1, hop)
    assert [result.index for result in results] == list(range(len(starts)))
    for start, result in zip(starts, results, strict=True):
        window = x[start : start + steps]
        np.testing.assert_array_equal(result.probabilities, model.predict_proba(window))
        assert result.label == model.predict(window)


@pytest.mark.parametrize(("precision", "layout"), FILES)
@given(
    seed=st.integers(0, 99),
    hop=st.sampled_from([1, 3, 16, 50, 64, 128, 200]),
    lengths=st.lists(st.integers(0, 200), min_size=1, max_size=5).filter(any),
)
@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_is_its_windows(
    opened: dict[tuple[str, str], Model], precision: str, layout: str, seed: int, hop: int, lengths: list[int]
) -> None:
    model, x = opened[precision, layout], motion(STEPS + 3 * hop + seed, seed=seed)
    assert_exact(model, x, hop, pushed(model.stream(hop), x, lengths))


@given(
    hop=st.integers(1, 20),
    total=st.integers(0, 60),
    lengths=st.lists(st.integers(0, 25), min_size=1, max_size=6).filter(any),
)
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_hop_and_any_chunks(toy_model: Model, hop: int, total: int, lengths: list[int]) -> None:
    x = motion(total, toy.D)
    assert_exact(toy_model, x, hop, pushed(toy_model.stream(hop), x, lengths), toy.T)


@pytest.mark.parametrize("layout", ["fused", "step"])
def test_single_samples_and_one_huge_chunk_are_the_same(opened: dict[tuple[str, str], Model], layout: str) -> None:
    model, x = opened["int8", layout], motion(700)
    single, whole = pushed(model.stream(16), x, [1]), model.stream(16).push(x)
    assert [result.to_dict() for result in single] == [result.to_dict() for result in whole]


@pytest.mark.parametrize("layout", ["fused", "step"])
@given(cut=st.integers(0, 500), hop=st.sampled_from([5, 16, 150]))
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_survives_a_restart(opened: dict[tuple[str, str], Model], layout: str, cut: int, hop: int) -> None:
    model, x = opened["int8", layout], motion(600)
    options: dict[str, Any] = {"smooth": Majority(3), "events": Events(0.6, 0.4, 0.5)}
    unbroken = [result.to_dict() for result in model.stream(hop, **options).push(x)]
    before = model.stream(hop, **options)
    results = before.push(x[:cut])
    file = io.BytesIO()
    np.savez(file, **before.state)  # type: ignore[arg-type]
    file.seek(0)
    after = model.stream(hop, **options)
    with np.load(file, allow_pickle=False) as state:
        after.restore(state)
    assert (after.samples, after.time) == (cut, cut / RATE)
    assert [result.to_dict() for result in results + after.push(x[cut:])] == unbroken


def test_a_state_is_a_copy(model: Model) -> None:
    stream, x = model.stream(16), motion(400)
    stream.push(x[:200])
    state = stream.state
    first = stream.push(x[200:])
    stream.restore(state)
    again = stream.push(x[200:])
    assert [result.to_dict() for result in first] == [result.to_dict() for result in again]


@pytest.mark.parametrize("damage", ["rows", "of", "counts", "memory"])
@pytest.mark.parametrize("how", ["missing", "other shape", "other type"])
def test_a_damaged_state_is_refused_and_changes_nothing(model: Model, damage: str, how: str) -> None:
    stream, x = model.stream(16), motion(300)
    stream.push(x[:150])
    state = stream.state
    if how == "missing":
        del state[damage]
    elif how == "other shape":
        state[damage] = state[damage].repeat(2).reshape(1, -1)[:, :, np.newaxis]
    else:
        state[damage] = np.full(state[damage].shape, "x")
    with pytest.raises(InputError, match="state"):
        stream.restore(state)
    assert_exact(model, x, 16, [*model.stream(16).push(x[:150]), *stream.push(x[150:])])


def test_the_state_of_another_stream_is_refused(opened: dict[tuple[str, str], Model]) -> None:
    state = opened["int8", "fused"].stream(16).state
    for other in (
        opened["fp32", "fused"].stream(16),
        opened["int8", "scan"].stream(16),
        opened["int8", "step"].stream(16),
        opened["int8", "fused"].stream(8),
        opened["int8", "fused"].stream(16, smooth=Majority(5)),
        opened["int8", "fused"].stream(16, events=Events()),
    ):
        with pytest.raises(InputError, match="state"):
            other.restore(state)


@pytest.mark.parametrize("layout", ["fused", "step"])
@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 5)),
        np.zeros((1, 4, 6)),
        np.zeros(6),
        np.full((2, 6), np.nan),
        np.full((2, 6), 1e300),
        np.zeros((2, 6), complex),
        [["a"] * 6],
        [[1], [2, 3]],
    ],
    ids=lambda bad: f"{type(bad).__name__} {np.shape(bad) if isinstance(bad, np.ndarray) else ''}",
)
def test_a_bad_chunk_is_an_error_and_the_stream_goes_on(
    opened: dict[tuple[str, str], Model], layout: str, bad: Any
) -> None:
    model, x = opened["int8", layout], motion(300)
    stream = model.stream(16)
    first = stream.push(x[:140])
    with pytest.raises(InputError, match="chunk"):
        stream.push(bad)
    assert_exact(model, x, 16, [*first, *stream.push(x[140:])])


@pytest.mark.parametrize("layout", ["scan", "step"])
def test_after_an_overflow_the_stream_is_as_before(opened: dict[tuple[str, str], Model], layout: str) -> None:
    model, x = opened["fp32", layout], motion(300)
    stream = model.stream(16)
    first = stream.push(x[:140])
    wild = x[140:].copy()
    wild[100:] = np.finfo(np.float32).max
    with pytest.raises(InputError, match="overflows"):
        stream.push(wild)
    assert_exact(model, x, 16, [*first, *stream.push(x[140:])])


@pytest.mark.parametrize("empty", [[], np.empty((0, 6)), np.empty(0)])
def test_nothing_pushed_is_nothing_new(model: Model, empty: Any) -> None:
    stream = model.stream()
    assert stream.push(empty) == []
    assert stream.samples == 0


def test_times_are_seconds_of_the_signal(model: Model) -> None:
    results = model.stream(25).push(motion(200))
    assert [(result.start, result.time) for result in results] == [
        (start / RATE, (start + STEPS) / RATE) for start in (0, 25, 50)
    ]


def test_reset_begins_again(model: Model) -> None:
    stream, x = model.stream(16, smooth=Exponential(4), events=Events(0.5, 0.4)), motion(300)
    first = [result.to_dict() for result in stream.push(x)]
    stream.reset()
    assert stream.samples == 0
    assert [result.to_dict() for result in stream.push(x)] == first
    assert stream.statistics.samples == 600


def test_threads_each_have_a_stream_on_one_model(opened: dict[tuple[str, str], Model]) -> None:
    for layout in ("fused", "step"):
        model = opened["int8", layout]
        signals = [motion(400, seed=seed) for seed in range(4)]

        def run(x: Floats, model: Model = model) -> list[dict[str, Any]]:
            return [result.to_dict() for result in pushed(model.stream(16), x, [7])]

        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(run, signals))
        assert together == [run(x) for x in signals]


def test_statistics_count_late_pushes(model: Model) -> None:
    x = motion(200)
    patient, hasty = model.stream(16), model.stream(16, latency_budget=0.0)
    for stream in (patient, hasty):
        for chunk in pieces(x, [50]):
            stream.push(chunk)
    assert hasty.statistics.late == hasty.statistics.pushes == 4
    assert patient.statistics.late == 0  # 50 samples last a second
    assert (patient.statistics.samples, patient.statistics.results) == (200, 5)
    assert 0 < patient.statistics.worst <= patient.statistics.seconds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0}, "hop must be a whole number"),
        ({"hop": 1.5}, "hop must be a whole number"),
        ({"latency_budget": -1.0}, "latency_budget"),
        ({"sound": True}, "takes no sound"),
        ({"events": Events(labels=("flying",))}, "no class 'flying'"),
    ],
)
def test_options_that_make_no_sense(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.stream(**options)


def test_a_stream_of_one_channel_takes_rows_without_a_second_axis() -> None:
    from fastzoo.samples import as_chunk

    np.testing.assert_array_equal(as_chunk([1, 2], ("volt [V]",)), [[1], [2]])
    with pytest.raises(InputError, match="shape"):
        as_chunk([1, 2], ("a", "b"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["fused", "step"])
def test_memory_stays_flat_over_a_million_samples(opened: dict[tuple[str, str], Model], layout: str) -> None:
    import tracemalloc

    model, x = opened["int8", layout], motion(50_000)
    stream = model.stream(64)
    stream.push(x)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20 if layout == "fused" else 3):
        for chunk in pieces(x, [4096]):
            stream.push(chunk)
    assert tracemalloc.get_traced_memory()[0] - before < 200_000
    tracemalloc.stop()
