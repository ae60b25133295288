"""From bytes to samples: the same whatever the pieces, for every format, gap and rate; hostile bytes do no harm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy import signal

import fastzoo
from fastzoo.errors import FastzooError, InputError
from fastzoo.model import Model
from fastzoo.sources import readers
from fastzoo.sources.feed import Feed
from fastzoo.sources.gaps import POLICIES, Block, Gap, Gaps, Reset
from fastzoo.sources.mapping import Columns
from fastzoo.sources.resample import Resampler, delay
from fastzoo.sources.units import converter

from . import toy

Doubles = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def model(pristine: Path) -> Model:
    return fastzoo.load(pristine)


def cut(length: int, places: Iterable[int]) -> list[slice]:
    """Slices of something so long, cut at ``places``."""
    edges = [0, *sorted(place % (length + 1) for place in places), length]
    return [slice(a, b) for a, b in pairwise(edges)]


places = st.lists(st.integers(0, 10**6), max_size=12)


@pytest.mark.parametrize(
    ("rate", "target"), [(104, 50), (50, 104), (100, 50), (16000, 8000), (25, 50), (52, 50), (44100, 16000)]
)
def test_resampling_is_that_of_scipy_with_the_first_sample_held(rate: float, target: float) -> None:
    x = np.random.default_rng(0).normal(size=(600, 2))
    made = Resampler(rate, target, 2)
    found = made.push(x)
    lead = round(rate)  # whole seconds: outputs fall on outputs
    before = np.repeat(x[:1], lead, axis=0)
    up, down = made.ratio
    whole = signal.resample_poly(np.concatenate([before, x]), up, down, axis=0, window=("kaiser", 5.0))
    expected = whole[round(target) :]
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-9)
    assert len(found) >= 600 * target / rate - delay(rate, target) * target - 2


@given(places=places, data=st.data())
@settings(max_examples=60, deadline=None)
def test_resampling_gives_the_same_bits_in_any_chunks_and_after_a_restart(
    places: list[int], data: st.DataObject
) -> None:
    rate, target = data.draw(st.sampled_from([(104.0, 50.0), (50.0, 104.0), (100.0, 25.0), (3.0, 7.0), (1000.0, 16.0)]))
    x = np.random.default_rng(1).normal(size=(data.draw(st.integers(0, 400)), 3))
    whole = Resampler(rate, target, 3).push(x)
    made = Resampler(rate, target, 3)
    parts = []
    for piece in cut(len(x), places):
        parts.append(made.push(x[piece]))
        again = Resampler(rate, target, 3)
        again.restore(made.state)
        made = again
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_tone_passes_and_what_would_be_folded_does_not() -> None:
    clock = np.arange(4000) / 200
    made = Resampler(200, 50, 2)
    found = made.push(np.stack([np.sin(2 * np.pi * 5 * clock), np.sin(2 * np.pi * 60 * clock)], axis=1))[50:]
    assert np.sqrt(2) * found[:800, 0].std() == pytest.approx(1, abs=0.01)
    assert np.abs(found[:, 1]).max() < 0.01


TEXTS = {
    "csv": b"a,b,c\n1,2,3\n4,,6\n\n7,8,9\n1,2\n\xff\xfe\nx,y,z\n10,11,12",
    "jsonl": b'{"a":1,"b":2,"c":3}\n{"b":5}\n[1,2,3]\n[[1,2,3],[4,5,6]]\nnull\n{"a":"x","b":true,"c":null}\n[1]\n',
    "f32": np.arange(30, dtype="<f4").tobytes() + b"\0",
    "s16": np.arange(31, dtype="<i2").tobytes(),
}


def read(kind: str, pieces: Iterable[bytes]) -> tuple[list[list[float]], readers.Reader]:
    made = readers.reader(kind, "the source", 3)
    rows = [row.tolist() for piece in pieces for row in made.push(piece)]
    return rows + [row.tolist() for row in made.finish()], made


@pytest.mark.parametrize("kind", TEXTS)
@given(places=places)
@settings(max_examples=50, deadline=None)
def test_readers_give_the_same_rows_in_any_pieces(kind: str, places: list[int]) -> None:
    data = TEXTS[kind]
    whole, first = read(kind, [data])
    parts, second = read(kind, [data[piece] for piece in cut(len(data), places)])
    np.testing.assert_array_equal(parts, whole)
    assert (first.names, first.damaged, first.columns) == (second.names, second.damaged, second.columns)


def test_what_readers_make_of_damaged_lines() -> None:
    nan = np.nan
    rows, made = read("csv", [TEXTS["csv"]])
    np.testing.assert_array_equal(
        rows, [[1, 2, 3], [4, nan, 6], [7, 8, 9], [nan] * 3, [nan] * 3, [nan] * 3, [10, 11, 12]]
    )
    assert (made.names, made.damaged) == (("a", "b", "c"), 2)
    rows, made = read("jsonl", [TEXTS["jsonl"]])
    np.testing.assert_array_equal(
        rows, [[1, 2, 3], [nan, 5, nan], [1, 2, 3], [1, 2, 3], [4, 5, 6], [nan] * 3, [nan, 1, nan], [nan] * 3]
    )
    assert made.damaged == 2


@pytest.mark.parametrize("kind", readers.FORMATS)
@given(data=st.binary(max_size=400), places=places)
@example(data=b"[" * 100_000 + b"\n1\n", places=[])
@example(data=b'{"a": 1e999}\n{"a": ' + b"9" * 5000 + b"}\n", places=[])
@example(data=b"1,2\n" + b'"' * 1000 + b"\n", places=[])
@settings(max_examples=150, deadline=None)
def test_hostile_bytes_are_rows_or_one_clear_error(kind: str, data: bytes, places: list[int]) -> None:
    message = "the source"
    try:
        rows, made = read(kind, [data[piece] for piece in cut(len(data), places)])
        assert all(len(row) == made.columns for row in rows)
    except InputError as error:
        message = str(error)
    assert "the source" in message


@given(data=st.binary(max_size=200))
def test_the_format_is_guessed_or_asked_for(data: bytes) -> None:
    try:
        found = readers.guess("-", data)
    except InputError as error:
        found = str(error)
    assert found in readers.FORMATS or "--format" in found


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    made = readers.reader("csv", "the source", None)
    for _ in range(16):
        made.push(b"1" * 65536)
    with pytest.raises(InputError, match="longer than 1048576 bytes"):
        made.push(b"1")


def test_dates_are_seconds() -> None:
    rows, _ = read("csv", [b"t,x\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:00.250+00:00,2\n"])
    assert rows[1][0] - rows[0][0] == 0.25


def flat(found: Iterable[Block | Reset | Gap]) -> list[Any]:
    """Events of Gaps, blocks row by row."""
    made: list[Any] = []
    for one in found:
        if isinstance(one, Block):
            made += [(tuple(row), round(float(time), 9)) for row, time in zip(one.rows, one.times, strict=True)]
        else:
            made.append("reset" if isinstance(one, Reset) else one)
    return made


@given(data=st.data(), places=places)
@settings(max_examples=200, deadline=None)
def test_gaps_are_mended_the_same_in_any_chunks_and_after_a_restart(data: st.DataObject, places: list[int]) -> None:
    count = data.draw(st.integers(0, 60))
    policy = data.draw(st.sampled_from(POLICIES))
    rows = np.arange(2.0 * count).reshape(count, 2)
    for at in data.draw(st.lists(st.integers(0, 59), max_size=20)):
        rows[at % max(1, count) : at % max(1, count) + 1, at % 2] = np.nan
    stamps = None
    if data.draw(st.booleans()):
        steps = data.draw(
            st.lists(st.sampled_from([1.0, 1.0, 1.0, 1.0, 4.0, 30.0, -9.0]), min_size=count, max_size=count)
        )
        stamps = np.cumsum(steps) / 50

    def mended(pieces: Sequence[slice], restart: bool) -> list[Any]:
        made, found = Gaps(50, policy, limit=5), []
        for piece in pieces:
            found += flat(made.push(rows[piece], None if stamps is None else stamps[piece]))
            if restart:
                again = Gaps(50, policy, limit=5)
                again.restore(made.state)
                made = again
        return found + flat(made.finish())

    whole = mended([slice(0, count)], restart=False)
    assert mended(cut(count, places), restart=False) == whole
    if stamps is None or count < 32:  # the probe of the rate is not kept
        assert mended(cut(count, places), restart=True) == whole
    for one in whole:
        if isinstance(one, tuple):
            assert np.isfinite(one[0]).all(), "a value is still missing"


def test_samples_that_are_there_are_passed_on() -> None:
    rows = np.arange(20.0).reshape(10, 2)
    (block,) = Gaps(50).push(rows)
    assert isinstance(block, Block)
    assert np.array_equal(block.rows, rows)
    assert np.array_equal(block.times, np.arange(10) / 50)


@given(places=places, data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_feed_goes_on_where_its_state_was_saved(model: Model, places: list[int], data: st.DataObject) -> None:
    rate = data.draw(st.sampled_from([50.0, 104.0]))
    rows = np.random.default_rng(2).normal(size=(120, toy.D))
    rows[data.draw(st.integers(0, 119))] = np.nan

    def feed() -> Feed:
        stream = model.stream(4)
        return Feed(stream, Columns(stream.channels), Gaps(rate, limit=3), rate)

    whole = feed()
    expected = [one.to_dict() for one in whole.push(rows, None, "it")] + [one.to_dict() for one in whole.finish()]
    made, found = feed(), []
    for piece in cut(len(rows), places):
        found += [one.to_dict() for one in made.push(rows[piece], None, "it")]
        again = feed()
        again.restore(made.state)
        made = again
    assert found + [one.to_dict() for one in made.finish()] == expected


def test_a_feed_refuses_the_state_of_another(model: Model) -> None:
    def feed(rate: float) -> Feed:
        stream = model.stream(4)
        return Feed(stream, Columns(stream.channels), Gaps(rate), rate)

    state = feed(50.0).state
    with pytest.raises(InputError, match="is of 50 samples per second, not 104"):
        feed(104.0).restore(state)
    for name in state:
        damaged = {key: array for key, array in state.items() if key != name}
        with pytest.raises(FastzooError):
            feed(50.0).restore(damaged)


@pytest.mark.parametrize(
    ("text", "target", "value", "expected"),
    [
        ("m/s2", "g", 9.80665, 1.0),
        ("mg", "g", 1000, 1.0),
        ("0.061 mg", "g", 16393.44262295082, 1.0),
        ("dps", "rad/s", 180, np.pi),
        ("°/s", "rad/s", 180, np.pi),
        ("rpm", "rad/s", 60, 2 * np.pi),
        ("degF", "degC", 212, 100),
        ("uV", "mV", 1500, 1.5),
        ("furlong", "furlong", 3, 3),
    ],
)
def test_units(text: str, target: str, value: float, expected: float) -> None:
    factor, offset = converter(text, target, "it")
    assert factor * value + offset == pytest.approx(expected)
