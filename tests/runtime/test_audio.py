"""The front end against a DFT by matrix, whole and in chunks; WAV files against bytes laid out by hand."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import struct
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import fastzoo
from fastzoo import _json, bundle, wav
from fastzoo.audio import LogMel, mono
from fastzoo.cli import app
from fastzoo.errors import BundleError, DataError, InputError
from fastzoo.frontend import FrontEnd
from fastzoo.model import Model

from . import toy
from .test_imports import HEAVY, imported_by

Sound = npt.NDArray[np.int16]

# As many frames, bands and frames per second as the toy model has steps, channels and samples per second.
SMALL = LogMel(rate=2000, hop_ms=20, bands=toy.D, clip_s=0.165)


def chirp(seconds: float, rate: int, seed: int = 0) -> Sound:
    """A rising tone in noise."""
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (50 + 0.2 * rate * t / max(seconds, 1e-9)) * t)
    noise = np.random.default_rng(seed).normal(size=len(t))
    made: Sound = np.rint(9000 * tone + 300 * noise).astype(np.int16)
    return made


def reference(of: FrontEnd, samples: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The window of a clip, sample by sample and band by band, after the text of :class:`FrontEnd`."""
    window, hop, pad = (round(of.rate * ms / 1000) for ms in (of.window_ms, of.hop_ms, of.pad_ms))
    clip = round(of.rate * of.clip_s)
    sound = np.concatenate([np.zeros(pad), samples[:clip].astype(np.float64), np.zeros(pad)])
    bins = of.fft // 2 + 1
    dft = np.exp(-2j * np.pi * np.outer(np.arange(of.fft), np.arange(bins)) / of.fft)
    hann = np.array([math.sin(math.pi * n / window) ** 2 for n in range(window)])
    corner = np.linspace(1127 * np.log(1 + of.low_hz / 700), 1127 * np.log(1 + of.high_hz / 700), of.bands + 2)
    mel = 1127 * np.log(1 + np.arange(bins) * of.rate / of.fft / 700)
    rows = []
    for first in range(0, len(sound) - window + 1, hop):
        frame = np.zeros(of.fft)
        frame[:window] = sound[first : first + window] * hann
        power = np.abs(frame @ dft) ** 2
        under = [sum(power * np.interp(mel, corner[band : band + 3], [0, 1, 0])) for band in range(of.bands)]
        rows.append([10 * math.log10(energy + of.floor) for energy in under])
    steps = (clip + 2 * pad - window) // hop + 1
    left = (steps - len(rows)) // 2 if of.place == "centre" else 0
    made = np.full((steps, of.bands), 10 * math.log10(of.floor))
    made[left : left + len(rows)] = rows
    return made if of.scale == "db" else np.clip(255 / of.span_db * made + of.offset, 0, 255)


VARIANTS = {
    "16 kHz": LogMel(16000, scale="levels"),
    "8 kHz": LogMel(8000, scale="levels"),
    "decibels": LogMel(8000, scale="db", bands=20),
    "kws12": LogMel.kws12(16000),
    "kws12 at 8 kHz": LogMel.kws12(8000),
    "odd": LogMel(11025, window_ms=31.3, hop_ms=7.7, fft=512, bands=13, low_hz=90, high_hz=4321, scale="db", pad_ms=3),
}


@pytest.mark.parametrize("of", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("seconds", [1.0, 0.437, 1.3])
def test_windows_are_those_of_the_formula(of: LogMel, seconds: float) -> None:
    sound = chirp(seconds, of.rate)
    made = of(sound, of.rate)
    assert made.dtype == np.float32
    assert made.shape == (of.steps, of.bands)
    np.testing.assert_allclose(made, reference(of, sound), rtol=1e-6, atol=1e-5)


def test_bytes_are_rounded_levels() -> None:
    sound = chirp(1, 16000)
    levels, made = (LogMel(16000, scale=scale)(sound, 16000) for scale in ("levels", "bytes"))
    np.testing.assert_array_equal(made, np.rint(levels))
    assert 0 <= made.min() < made.max() <= 255
    assert len(np.unique(made)) > 50


def test_a_tone_lies_in_its_band_and_a_full_scale_one_nearly_fills_the_range() -> None:
    of = LogMel(16000, scale="db")
    t = np.arange(16000) / 16000
    made = of(0.999 * np.sin(2 * np.pi * 1000 * t), 16000)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 42)
    centres = 700 * np.expm1(edges[1:-1] / 1127)
    assert set(made.argmax(axis=1)) == {np.abs(centres - 1000).argmin()}
    assert 230 < LogMel(16000)(np.sin(2 * np.pi * 1000 * t), 16000).max() <= 255


def test_the_kws12_front_end_has_the_published_shape() -> None:
    for rate in (16000, 8000):
        of = LogMel.kws12(rate)
        assert (of.steps, of.bands, of.frame_rate, of.hop) == (98, 40, 100, rate // 100)
    short = LogMel.kws12(16000)(chirp(0.5, 16000), 16000)  # 48 frames in the middle
    sounding = np.flatnonzero(short.any(axis=1))
    assert (sounding[0], sounding[-1]) == (25, 72)
    with pytest.raises(DataError, match="16000 and 8000 samples/s, not for 44100"):
        LogMel.kws12(44100)


def test_what_a_clip_lacks_is_silence_and_what_it_has_beyond_is_cut() -> None:
    of = LogMel(8000, scale="db")
    sound = chirp(0.5, 8000)
    made = of(sound, 8000)
    np.testing.assert_array_equal(made[of.count(4000) :], np.tile(of.silence, (98 - of.count(4000), 1)))
    np.testing.assert_array_equal(of.silence, 0)  # the floor is 0 dB
    np.testing.assert_array_equal(of(np.zeros(8000, np.int16), 8000), 0)
    long = chirp(2, 8000)
    np.testing.assert_array_equal(of(long, 8000), of(long[:8000], 8000))


def test_floats_and_integers_and_channels_are_the_same_sound() -> None:
    of = LogMel(8000, scale="levels")
    sound = chirp(1, 8000)
    expected = of(sound, 8000)
    for same in (sound / 32768, (sound / 32768).astype(np.float32), np.stack([sound, sound], axis=1), sound[:, None]):
        np.testing.assert_array_equal(of(same, 8000.0), expected)
    left, right = chirp(1, 8000, seed=1), chirp(1, 8000, seed=2)
    np.testing.assert_array_equal(
        of(np.stack([left, right], 1), 8000), of((left.astype(float) + right) / 2 / 32768, 8000)
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stream_gives_the_frames_of_the_whole_whatever_the_chunks(data: st.DataObject) -> None:
    of = data.draw(st.sampled_from([replace(SMALL, scale="levels"), VARIANTS["odd"], VARIANTS["kws12 at 8 kHz"]]))
    length = data.draw(st.integers(of.window, 4 * of.window))
    sound = (chirp(length / of.rate, of.rate, seed=length) / 32768).astype(np.float32)
    if data.draw(st.booleans()):
        sound = np.stack([sound, sound[::-1], sound], axis=1)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sound)), max_size=8)))
    stream = of.stream(of.rate)
    pieces = [stream.push(chunk) for chunk in np.split(sound, cuts)]
    padded = np.concatenate([np.zeros((of.pad, *sound.shape[1:]), np.float32), sound])  # at the start only
    whole = replace(of, clip_s=len(padded) / of.rate, pad_ms=0.0, place="start")
    assert all(piece.dtype == np.float32 for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), whole(padded, of.rate))


def test_a_stream_sample_by_sample_never_lags() -> None:
    stream, sound = SMALL.stream(2000), chirp(0.165, 2000)
    done = np.cumsum([len(stream.push(sound[i : i + 1])) for i in range(len(sound))])
    np.testing.assert_array_equal(done, [SMALL.count(i + 1) for i in range(len(sound))])
    assert done[-1] == SMALL.steps


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(0, 400))
def test_every_length_is_a_window_or_refused(samples: int) -> None:
    sound = chirp(samples / 2000, 2000)
    if samples < SMALL.window:
        with pytest.raises(InputError, match=rf"has {samples} sample\(s\), too few for a frame of 50"):
            SMALL(sound, 2000)
    else:
        np.testing.assert_allclose(SMALL(sound, 2000), np.rint(reference(SMALL, sound)), atol=1e-6)


def test_long_sounds_go_in_blocks() -> None:
    of = replace(SMALL, clip_s=40.0, scale="db")
    sound = chirp(40, 2000)
    assert of.steps > 3 * 512
    np.testing.assert_array_equal(of.stream(2000).push(sound), of(sound, 2000))


@pytest.mark.parametrize(
    ("sound", "message"),
    {
        "other type": (np.zeros(500, np.int32), "holds int32; sound is"),
        "text": (["a"], "holds <U1"),
        "ragged": ([[1.0], [1.0, 2.0]], "cannot be made an array"),
        "a batch": (np.zeros((2, 500, 1)), r"shape \[2, 500, 1\]"),
        "channels first": (np.zeros((2, 500)), r"shape \[2, 500\]; sound is \[n\] or \[n, channels\]"),
        "a number": (0.5, r"shape \[\]"),
        "no channels": (np.zeros((500, 0)), r"shape \[500, 0\]"),
        "NaN": (np.r_[np.zeros(7), np.nan, np.zeros(500)], "NaN or infinity, first at sample 7"),
        "infinity": (np.r_[np.zeros((8, 2)), [[0, np.inf]]], "NaN or infinity, first at sample 8"),
        "floats that were integers": (np.full(500, 900.0), "reaches 900; .*divide 16-bit values by 32768"),
        "nothing": (np.zeros(0), "too few"),
    }.values(),
)  # fmt: skip
def test_what_is_no_sound_is_refused(sound: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SMALL(sound, 2000)


def test_a_refused_chunk_leaves_the_stream_as_it_was() -> None:
    sound = chirp(0.165, 2000)
    stream = SMALL.stream(2000)
    first = stream.push(sound[:100])
    with pytest.raises(InputError, match="NaN"):
        stream.push([np.nan])
    np.testing.assert_array_equal(np.concatenate([first, stream.push(sound[100:])]), SMALL(sound, 2000))


def test_another_rate_is_refused_with_the_way_out() -> None:
    for use in (lambda: LogMel(16000)(chirp(1, 44100), 44100), lambda: LogMel(16000).stream(44100)):
        with pytest.raises(InputError, match=r"has 44100 samples/s, the front end takes 16000.*\(audio, 160, 441\)"):
            use()
    for rate in (0, -1, math.nan, math.inf, "fast", None):
        with pytest.raises(InputError, match="must be a positive number"):
            SMALL(chirp(1, 2000), rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 1000}, "rate must be a whole number of samples per second, 2000 to 192000, not 1000"),
        ({"rate": 16000.0}, "rate must be"),
        ({"rate": "16000"}, "rate must be"),
        ({"window_ms": 0}, "window_ms must be 1 to 1000"),
        ({"window_ms": math.nan}, "window_ms"),
        ({"hop_ms": 30}, "hop_ms 30 is longer than window_ms 25"),
        ({"fft": 256}, "fft 256 is less than the 400 samples"),
        ({"fft": -2}, "fft must be"),
        ({"bands": 0}, "bands must be"),
        ({"bands": 200}, "of the 200 bands, the first number .* take fewer bands, or fft=1024"),
        ({"low_hz": 5000, "high_hz": 4000}, "from 5000 to 4000 Hz"),
        ({"high_hz": 8001}, "at most half the rate, 8000 Hz"),
        ({"floor": 0}, "floor must be"),
        ({"scale": "bits"}, "scale must be 'bytes' or 'levels' or 'db'"),
        ({"clip_s": 0.02}, "clip_s 0.02 is too short for one frame of 25 ms"),
        ({"clip_s": 1e9}, "clip_s must be"),
        ({"place": "end"}, "place must be 'start' or 'centre', not 'end'"),
        ({"kind": "mfcc"}, "kind must be 'log-mel', not 'mfcc': a newer fastzoo"),
        ({"bands": None, "hop_ms": "10"}, "hop_ms must be .*; bands must be"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"no such front end: .*{message}"):
        LogMel(**{"rate": 16000, **fields})


def test_parameters_survive_json_to_the_last_bit() -> None:
    of = LogMel(16000, window_ms=100 / 3, hop_ms=10 / 3, low_hz=math.pi, floor=1 / 3, offset=-1e5 / 7)
    text = json.dumps(_json.plain(of))
    assert LogMel.of(json.loads(text)) == of
    assert LogMel.of(_json.build(json.loads(text), FrontEnd)) == of
    assert pickle.loads(pickle.dumps(of)) == of
    assert len({of, _json.build(json.loads(text), FrontEnd), replace(of, bands=39)}) == 2
    assert (of.fft, of.high_hz) == (1024, 8000)  # what was left open is written out
    with pytest.raises(DataError, match="a front end has no band; it has rate, window_ms"):
        LogMel.of({"rate": 16000, "band": 4})
    with pytest.raises(DataError, match="needs a rate"):
        LogMel.of({"bands": 4})


def test_mono_is_in_16_bit_units() -> None:
    np.testing.assert_array_equal(mono([0.5, -1.0]), [16384, -32768])
    np.testing.assert_array_equal(mono(np.array([[1, 2], [-3, -3]], np.int16)), [1.5, -3])
    assert mono(np.zeros((0, 2))).shape == (0,)


# WAV


def riff(code: int, bits: int, data: bytes, channels: int = 1, rate: int = 8000, **options: Any) -> bytes:
    """A file by hand; ``length`` is what the header says of the data."""
    form = struct.pack("<HHIIHH", code, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    if extended := options.get("extended"):
        form = struct.pack("<H", 0xFFFE) + form[2:] + struct.pack("<HHIH", 22, bits, 0, extended) + bytes(14)
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0" if options.get("extra") else b""
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + extra
    chunks += b"data" + struct.pack("<I", options.get("length", len(data))) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def written(path: Path, content: bytes) -> wav.Wav:
    path.write_bytes(content)
    return wav.open(path)


def test_every_width_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    values = np.array([0, 0.5, -1, 0.25, -0.25, 127 / 128])
    whole = {8: (values * 2**7 + 128).astype("u1").tobytes(), 16: (values * 2**15).astype("<i2").tobytes(),
             32: (values * 2**31).astype("<i4").tobytes()}  # fmt: skip
    whole[24] = b"".join(int(value * 2**23).to_bytes(3, "little", signed=True) for value in values)
    for bits, data in whole.items():
        for content in (riff(1, bits, data), riff(1, bits, data, extended=1), riff(1, bits, data + b"\0", extra=True)):
            sound = written(path, content)
            samples = sound.read()
            assert samples.dtype == (np.int16 if bits == 16 else np.float32)
            np.testing.assert_array_equal(samples[:6] / (2**15 if bits == 16 else 1), values)
    for bits in (32, 64):
        data = values.astype(f"<f{bits // 8}").tobytes()
        for content in (riff(3, bits, data), riff(3, bits, data, extended=3)):
            np.testing.assert_array_equal(written(path, content).read(), values.astype(np.float32))


def test_stereo_and_the_first_seconds(tmp_path: Path) -> None:
    samples = np.arange(12, dtype="<i2").reshape(6, 2)
    sound = written(tmp_path / "x.wav", riff(1, 16, samples.tobytes(), channels=2, rate=4))
    assert (sound.frames, sound.channels, sound.rate, sound.seconds) == (6, 2, 4, 1.5)
    np.testing.assert_array_equal(sound.read(), samples)
    np.testing.assert_array_equal(sound.read(0.6), samples[:3])
    np.testing.assert_array_equal(sound.read(9), samples)


def test_files_of_the_standard_library_are_read(tmp_path: Path) -> None:
    sound = chirp(0.1, 8000)
    save(tmp_path / "x.wav", sound, 8000)
    np.testing.assert_array_equal(wav.open(tmp_path / "x.wav").read(), sound)


def test_an_open_end_is_the_end_of_the_file(tmp_path: Path) -> None:
    assert written(tmp_path / "x.wav", riff(1, 16, bytes(10), length=0xFFFFFFFF)).frames == 5


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "empty": (b"", "it is empty"),
        "text": (b"hello, world, this is no sound", "does not begin with RIFF and WAVE"),
        "big endian": (b"RIFX" + bytes(50), "does not begin"),
        "no data": (riff(1, 16, b"")[:-8], "damaged or truncated WAV file: its data is missing"),
        "no format": (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "its format is missing"),
        "cut format": (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcd", "its format is cut off"),
        "truncated": (riff(1, 16, bytes(100))[:-10], "truncated: it should hold 100 bytes of samples, and holds 90"),
        "mu-law": (riff(7, 8, bytes(10)), "holds mu-law; PCM .* convert it, for example with `ffmpeg -i x.wav"),
        "12 bits": (riff(1, 12, bytes(10)), "holds 12-bit PCM"),
        "half floats": (riff(3, 16, bytes(10)), "holds 16-bit floats"),
        "unknown": (riff(999, 16, bytes(10)), "holds code 999"),
        "no channels": (riff(1, 16, bytes(10), channels=0), r"damaged WAV file: 0 channel\(s\)"),
        "no rate": (riff(1, 16, bytes(10), rate=0), "0 samples/s"),
    }.values(),
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"x\.wav.* {message}"):
        written(tmp_path / "x.wav", content)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*x\.wav"):
        wav.open(tmp_path / "x.wav")
    with pytest.raises(InputError, match="cannot read"):
        wav.open(tmp_path)
    sound = written(tmp_path / "x.wav", riff(1, 16, bytes(100)))
    (tmp_path / "x.wav").write_bytes(b"")
    with pytest.raises(InputError, match="became shorter"):
        sound.read()
    (tmp_path / "x.wav").unlink()
    with pytest.raises(InputError, match="cannot read"):
        sound.read()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_never_crashes(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(riff(1, 16, bytes(range(100)), extra=True))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    with contextlib.suppress(InputError):
        written(path, bytes(content)).read()


# Models


def save(path: Path, sound: Sound, rate: int) -> Path:
    """A 16-bit mono file, by the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.astype("<i2").tobytes())
    return path


@pytest.fixture
def hearing(folder: Path) -> Path:
    """The toy bundle with a front end, as if it had been trained on sound."""
    bundle.write(replace(bundle.read(folder), frontend=SMALL), folder)
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save(tmp_path / "clip.wav", chirp(0.165, 2000), 2000)


def test_a_model_with_a_front_end_hears(hearing: Path) -> None:
    model = fastzoo.load(hearing)
    sound = chirp(0.165, 2000)
    x = model.features(sound, 2000)
    np.testing.assert_array_equal(x, SMALL(sound, 2000))
    assert model.frontend == SMALL
    assert model.predict(x) in model.labels
    with pytest.raises(InputError, match="has 8000 samples/s, the front end takes 2000"):
        model.features(sound, 8000)
    again: Model = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.features(sound, 2000), x)


def test_a_stream_of_sound_is_the_windows_of_its_frames(hearing: Path) -> None:
    model = fastzoo.load(hearing)
    sound = chirp(1.5, 2000)
    frames = SMALL.stream(2000).push(sound)
    stream = model.stream(3)
    assert (stream.rate, stream.channels) == (2000, ("sound",))
    results = [result for piece in np.array_split(sound, 41) for result in stream.push(piece)]
    assert len(results) == (len(frames) - SMALL.steps) // 3 + 1
    for result in results:
        window = frames[3 * result.index : 3 * result.index + SMALL.steps]
        np.testing.assert_array_equal(result.probabilities, model.predict_proba(window))
    last = (3 * results[1].index + SMALL.steps - 1) * SMALL.hop + SMALL.window - SMALL.pad
    assert results[1].time == last / 2000
    assert (stream.samples, stream.time) == (3000, 1.5)
    assert stream.push([]) == []
    with pytest.raises(InputError, match="sound holds"):
        stream.push(sound.astype(np.int64))


def test_a_restored_stream_of_sound_goes_on(hearing: Path) -> None:
    model, sound = fastzoo.load(hearing), chirp(1.5, 2000)
    whole = [result.to_dict() for result in model.stream(3).push(sound)]
    first, second = model.stream(3), model.stream(3)
    begin = first.push(sound[:1111])
    second.restore(first.state)
    assert [result.to_dict() for result in begin + second.push(sound[1111:])] == whole


def test_a_stream_may_take_features_instead(hearing: Path) -> None:
    model = fastzoo.load(hearing)
    frames = SMALL.stream(2000).push(chirp(1.5, 2000))
    results = model.stream(3, sound=False).push(frames)
    assert [result.label for result in results] == [result.label for result in model.stream(3).push(chirp(1.5, 2000))]


def test_a_model_without_one_says_so(folder: Path) -> None:
    model = fastzoo.load(folder)
    assert model.frontend is None
    with pytest.raises(InputError, match=r"gru-toy-int8 takes no sound: its bundle has no front end\. .*acc_x \[g\]"):
        model.features(chirp(1, 2000), 2000)


def test_bundle_and_registry_repeat_the_parameters(hearing: Path) -> None:
    assert bundle.read(hearing).frontend == SMALL
    assert fastzoo.info(hearing)["frontend"] == _json.plain(SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": 4}, "frontend: it gives 4 channels, the windows have 3"),
        ({"clip_s": 0.3}, "frontend: it gives 14 steps, the windows have 8"),
        ({"hop_ms": 10}, "frontend: .*it gives 100 frames/s, the windows have the rate 50"),
        ({"hop_ms": 0}, "frontend: hop_ms must be"),
        ({"rate": 10**15}, "frontend: rate must be"),
        ({"rate": -5}, "frontend: rate must be"),
        ({"window_ms": 1e15}, "frontend: window_ms must be"),
        ({"rate": 1.5}, "frontend.rate must be a whole number"),
        ({"kind": "cqt"}, "kind must be 'log-mel', not 'cqt': a newer fastzoo may know it"),
    ],
)
def test_a_faulty_front_end_in_a_bundle_is_named(hearing: Path, changes: dict[str, Any], message: str) -> None:
    document = json.loads((hearing / "bundle.json").read_text())
    document["frontend"] |= changes
    (hearing / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=message):
        fastzoo.load(hearing)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_predict_takes_a_wav_file(hearing: Path, clip: Path, tmp_path: Path) -> None:
    model = fastzoo.load(hearing)
    result = run("predict", hearing, clip)
    assert result.stdout.split() == [model.predict(SMALL(chirp(0.165, 2000), 2000))]
    assert result.stderr == ""
    long = save(tmp_path / "LONG.WAV", np.tile(chirp(0.165, 2000), 3), 2000)
    longer = run("predict", hearing, long)
    assert longer.stdout == result.stdout
    assert "LONG.WAV lasts 0.495 s; only the first 0.165 s are heard" in longer.stderr


def test_predict_refuses_sound_that_does_not_fit(hearing: Path, tmp_path: Path) -> None:
    for path, message in {
        save(tmp_path / "fast.wav", chirp(1, 16000), 16000): "has 16000 samples/s, the front end takes 2000",
        save(tmp_path / "short.wav", chirp(0.01, 2000), 2000): "too few for a frame",
        tmp_path / "missing.wav": "there is no file",
    }.items():
        error = run("predict", hearing, path).exception
        assert isinstance(error, InputError), path
        assert message in str(error)


def test_info_shows_the_front_end(hearing: Path) -> None:
    text = run("info", hearing).stdout
    assert "log-mel, 3 bands from 20 to 1000 Hz, 25 ms every 20 ms, 0.165 s at 2000 samples/s" in text


def test_hearing_imports_onnxruntime_alone(hearing: Path) -> None:
    code = (
        f"import fastzoo, numpy; m = fastzoo.load({str(hearing)!r}); "
        "m.predict(m.features(numpy.zeros(330, numpy.int16), 2000))"
    )
    assert imported_by(code) & set(HEAVY) == {"onnxruntime"}
    assert not imported_by("import fastzoo.audio, fastzoo.wav") & set(HEAVY)
    assert not imported_by(f"import fastzoo; fastzoo.info({str(hearing)!r})") & {*HEAVY, "numpy"}
