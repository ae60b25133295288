"""The front end as a graph against the front end in NumPy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from fastzoo.audio import LogMel
from fastzoo.errors import ExportError, InputError
from fastzoo.export.graph import Op, constants, operators
from fastzoo.export.sound import joined, sound_graph
from fastzoo.frontend import PLACES, SCALES, FrontEnd, faults

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

FRONT_ENDS = {"kws12": LogMel.kws12(16000), "kws12 at 8 kHz": LogMel.kws12(8000), "default": LogMel(rate=16000)}
SMALL = LogMel(rate=4000, bands=6, clip_s=0.2, scale="levels")  # 18 frames of 100 samples every 40

LEVEL = 0.2  # largest difference of a level
DECIBEL = 0.1  # and of a decibel, down to 100 dB below the loudest band of the frame: a thousandth of the range

ALLOWED = {
    "Abs", "Add", "And", "Cast", "Clip", "Concat", "Conv", "Cos", "Div", "GreaterOrEqual", "Less", "Log", "MatMul",
    "Mod", "Mul", "Pad", "Range", "Relu", "Reshape", "Round", "Shape", "Sin", "Slice", "Sub", "Transpose",
    "Unsqueeze", "Where",
}  # fmt: skip

OFF = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def run(model: onnx.ModelProto, audio: Floats, level: Any = ALL) -> Floats:
    """onnxruntime's answer."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    answer: Floats = session.run(None, {"audio": audio})[0]
    return answer


def evaluate(model: onnx.ModelProto, audio: Floats) -> Floats:
    """The answer of onnx's own reference implementation, in NumPy."""
    result: Any = ReferenceEvaluator(model).run(None, {"audio": audio})
    answer: Floats = result[0]
    return answer


def heard(frontend: LogMel, audio: Floats) -> Floats:
    """LogMel's windows; silence where the sound is too short for it."""
    windows = []
    for row in audio:
        try:
            windows.append(frontend(row, frontend.rate))
        except InputError:
            assert frontend.count(len(row)) == 0
            windows.append(np.tile(frontend.silence, (frontend.steps, 1)))
    return np.stack(windows)


def recorded(sound: Doubles) -> Floats:
    """As a 16-bit recording holds it."""
    return (np.clip(np.rint(sound * 32767), -32768, 32767) / 32768).astype(np.float32)


def sounds(rate: int, samples: int) -> Floats:
    """Silence, a tone at full scale, a voice, noise loud and just above the rounding, clicks."""
    rng = np.random.default_rng(samples)
    t = np.arange(samples) / rate
    pitch = 2 * np.pi * np.cumsum(120 + 40 * np.sin(5 * t)) / rate
    voice = np.sin(4 * t) ** 2 * sum(np.sin(n * pitch) / n**1.5 for n in range(1, 20)) / 4
    noise = rng.uniform(-1, 1, samples)
    clicks = np.where(np.arange(samples) % 997 == 3, 1.0, 0.0)
    return recorded(np.stack([0 * t, np.sin(2 * np.pi * 440 * t), voice, 0.5 * noise, noise / 10000, clicks]))


def check(frontend: LogMel, answer: Floats, audio: Floats) -> None:
    """Levels and decibels nearly LogMel's; bytes too, before they were rounded."""
    assert answer.dtype == np.float32
    assert answer.shape == (len(audio), frontend.steps, frontend.bands)
    exact = LogMel.of(replace(frontend, scale="levels")) if frontend.scale == "bytes" else frontend
    expected = heard(exact, audio)
    difference = np.abs(answer - expected)
    if frontend.scale == "db":
        difference = difference[expected > expected.max(axis=2, keepdims=True) - 100]
    assert difference.max() <= {"db": DECIBEL, "levels": LEVEL, "bytes": 0.5 + LEVEL}[frontend.scale]
    if frontend.scale == "bytes":
        bytes_ = heard(frontend, audio)
        assert np.array_equal(answer, np.rint(answer))
        assert np.abs(answer - bytes_).max() <= 1
        assert (answer == bytes_).mean() > 0.99


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_windows_are_those_of_LogMel(name: str, scale: str) -> None:
    frontend = LogMel.of(replace(FRONT_ENDS[name], scale=scale))
    model, audio = sound_graph(frontend), sounds(frontend.rate, frontend.clip)
    check(frontend, run(model, audio), audio)
    check(frontend, evaluate(model, audio[:3]), audio[:3])


@pytest.mark.parametrize("pad_ms", [0, 1, 30])
@pytest.mark.parametrize("place", PLACES)
def test_a_clip_of_any_length_lies_where_LogMel_puts_it(place: str, pad_ms: float) -> None:
    # A floor above silence's level 0 shows which frames are silence.
    frontend = LogMel.of(replace(SMALL, place=place, pad_ms=pad_ms, offset=20.0))
    window, hop, clip = frontend.window, frontend.hop, frontend.clip
    model = sound_graph(frontend)
    lengths = [0, 1, window - 2 * frontend.pad - 1, window - 1, window, window + hop - 1, window + hop]
    for samples in [*lengths, window + 2 * hop, clip // 2, clip - hop, clip - 1, clip, clip + 1, 2 * clip + 7]:
        if samples >= 0:
            audio = np.random.default_rng(samples).uniform(-0.9, 0.9, (2, samples)).astype(np.float32)
            check(frontend, run(model, audio), audio)
            check(frontend, evaluate(model, audio), audio)


@st.composite
def front_ends(draw: st.DrawFn) -> LogMel:
    rate = draw(st.integers(2000, 12000))
    window_ms = draw(st.floats(2, 40))
    made = FrontEnd(
        rate,
        window_ms,
        hop_ms=draw(st.floats(1, window_ms)),
        fft=draw(st.sampled_from([0, round(rate * window_ms / 1000) + 1, 250, 729, 1024])),
        bands=draw(st.integers(1, 12)),
        low_hz=draw(st.floats(0, 500)),
        high_hz=draw(st.one_of(st.just(0.0), st.floats(600, rate / 2))),
        floor=10 ** draw(st.floats(-12, 4)),
        scale=draw(st.sampled_from(SCALES)),
        span_db=draw(st.floats(30, 200)),
        offset=draw(st.floats(-200, 200)),
        clip_s=draw(st.floats(0.05, 0.3)),
        pad_ms=draw(st.floats(0, 50)),
        place=draw(st.sampled_from(PLACES)),
    )
    assume(not faults(made))
    return LogMel.of(made)


@given(frontend=front_ends(), length=st.floats(0, 1.2), tone=st.floats(0, 0.5), loudness=st.floats(-4, 0))
@settings(max_examples=100, deadline=None)
def test_other_parameters(frontend: LogMel, length: float, tone: float, loudness: float) -> None:
    samples = round(length * frontend.clip)
    noise = np.random.default_rng(samples).uniform(-1, 1, (2, samples))
    wave = 0.8 * np.sin(2 * np.pi * tone * np.arange(samples))
    sound = recorded(10**loudness * (wave + np.array([[0.1], [0.001]]) * noise))
    decibels = LogMel.of(replace(frontend, scale="db"))
    # 2 % of the power is 0.1 dB; and what lies 100 dB below the loudest tone of this amplitude may be anything.
    faintest = (1e-5 * 32768 * np.abs(sound).max(initial=0) * frontend.window / 2) ** 2
    expected = 10 ** (heard(decibels, sound).astype(np.float64) / 10)
    model = sound_graph(decibels)
    for answer in (run(model, sound), evaluate(model, sound)):
        power = 10 ** (answer.astype(np.float64) / 10)
        assert (np.abs(power - expected) <= 0.02 * expected + faintest).all()
    if frontend.scale != "db":
        levels = np.clip(255 / frontend.span_db * run(model, sound) + frontend.offset, 0, 255)
        tolerance = 1e-3 + (0.5 if frontend.scale == "bytes" else 0)
        scaled = run(sound_graph(frontend), sound)
        assert np.abs(scaled - levels).max() <= tolerance


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_tone_beyond_16_bits(name: str) -> None:
    # Between its harmonics a recording has the noise of its rounding, a computed tone nothing: here float32 shows.
    frontend = LogMel.of(replace(FRONT_ENDS[name], scale="db"))
    t = np.arange(frontend.clip) / frontend.rate
    audio = np.sin(2 * np.pi * 1000 * t, dtype=np.float64).astype(np.float32)[np.newaxis]
    expected, answer = heard(frontend, audio), run(sound_graph(frontend), audio)
    loudest = expected.max(axis=2, keepdims=True)
    near = expected > loudest - 100
    assert 0.05 < near.mean() < 1
    assert np.abs(answer - expected)[near].max() < DECIBEL
    assert (answer < loudest - 95)[~near].all()


@pytest.mark.parametrize("scale", SCALES)
def test_silence_is_silence(scale: str) -> None:
    frontend = LogMel.of(replace(LogMel.kws12(8000), scale=scale))
    model = sound_graph(frontend)
    for samples in (0, 100, 8000):  # of 100 samples there is not one frame, whatever they are
        audio = np.full((2, samples), 0.5 if samples == 100 else 0.0, np.float32)
        assert run(model, audio) == pytest.approx(np.tile(frontend.silence, (2, 98, 1)), abs=1e-5)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_answers_the_same_whatever_the_optimisation(name: str) -> None:
    frontend = LogMel.of(replace(FRONT_ENDS[name], scale="levels"))
    model, audio = sound_graph(frontend), sounds(frontend.rate, frontend.clip)
    assert np.abs(run(model, audio, OFF) - run(model, audio)).max() < 1e-3
    alone = np.concatenate([run(model, row[np.newaxis]) for row in audio])
    assert np.abs(run(model, audio) - alone).max() < 1e-3


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_file_is_small_and_what_boards_can_load(name: str, scale: str) -> None:
    frontend = LogMel.of(replace(FRONT_ENDS[name], scale=scale))
    model = sound_graph(frontend)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert not model.functions
    assert operators(model).keys() <= ALLOWED
    assert shape(model.graph.input[0]) == ("audio", ["N", "samples"])
    assert shape(model.graph.output[0]) == ("x", ["N", frontend.steps, frontend.bands])
    assert max(value.size for value in constants(model).values()) <= 2
    assert len(model.SerializeToString()) < 3000
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties.keys() == {"fastzoo.frontend", "fastzoo.rate"}
    assert LogMel.of(json.loads(properties["fastzoo.frontend"])) == frontend
    assert json.loads(properties["fastzoo.rate"]) == frontend.rate


def test_parameters_alone_do() -> None:
    assert sound_graph(FrontEnd(8000)) == sound_graph(LogMel(8000))


def test_a_faulty_front_end_is_refused() -> None:
    with pytest.raises(ExportError, match=r"no such front end: hop_ms 30 is longer .*; fft 16 is less than the 400"):
        sound_graph(FrontEnd(16000, hop_ms=30, fft=16))


def test_kernels_that_would_fill_the_memory_are_refused() -> None:
    with pytest.raises(ExportError, match=r"would take 150 MB of memory as a graph, the limit is 64: take a lower hig"):
        sound_graph(FrontEnd(192000))
    sound_graph(FrontEnd(48000))


def classifier(of: FrontEnd, opset: int = 17, **properties: str) -> onnx.ModelProto:
    """The mean of a window over time, through a local function and names as the front end has them too."""
    step = helper.make_function(
        "fastzoo",
        "Centre",
        ["x", "mean"],
        ["y"],
        [helper.make_node("Sub", ["x", "mean"], ["v0"]), helper.make_node("Tanh", ["v0"], ["y"])],
        [helper.make_opsetid("", opset)],
    )
    op, rng = Op("v"), np.random.default_rng(0)
    mean = op.constant("0", rng.uniform(0, 200, of.bands).astype(np.float32))
    centred = op.Centre("x", mean, domain="fastzoo")
    weight = op.constant("floor", rng.normal(size=(of.bands, 3)).astype(np.float32))
    op.MatMul(op.ReduceMean(centred, axes=[1], keepdims=0), weight, output="logits")
    model = op.model("tiny", {"x": ["N", of.steps, of.bands]}, {"logits": ["N", 3]}, [step])
    model.opset_import[0].version = opset
    helper.set_model_props(model, {f"fastzoo.{key}": value for key, value in properties.items()})
    return model


def shape(value: onnx.ValueInfoProto) -> tuple[str, list[int | str]]:
    return value.name, [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("level", [OFF, ALL], ids=["off", "all"])
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_joined_file_is_front_end_then_classifier(name: str, level: Any) -> None:
    frontend = LogMel.of(replace(FRONT_ENDS[name], scale="levels"))
    front, second = sound_graph(frontend), classifier(frontend, rate="100", labels='["a","b","c"]')
    before = front.SerializeToString(), second.SerializeToString()
    model = joined(front, second)
    assert (front.SerializeToString(), second.SerializeToString()) == before
    audio = sounds(frontend.rate, frontend.clip * 3 // 4)
    result: Any = ReferenceEvaluator(second).run(None, {"x": run(front, audio, level)})
    assert run(model, audio, level) == pytest.approx(result[0], abs=1e-5)
    assert evaluate(model, audio[:2]) == pytest.approx(result[0][:2], abs=1e-4)


def test_a_joined_file_holds_both_and_says_what_it_is() -> None:
    front, second = sound_graph(SMALL), classifier(SMALL, rate="100", labels='["a","b","c"]')
    model = joined(front, second)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert [shape(value) for value in model.graph.input] == [("audio", ["N", "samples"])]
    assert [shape(value) for value in model.graph.output] == [("logits", ["N", 3])]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17), ("fastzoo", 1)]
    assert model.ir_version == 8
    assert [function.name for function in model.functions] == ["Centre"]
    assert operators(model).keys() == operators(front).keys() | operators(second).keys()
    names = [*constants(model), *(output for node in model.graph.node for output in node.output), "audio"]
    assert len(set(names)) == len(names)
    described = {entry.key: entry.value for entry in front.metadata_props}
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "fastzoo.frontend": described["fastzoo.frontend"],
        "fastzoo.rate": "100",
        "fastzoo.labels": '["a","b","c"]',
    }
    parts = front.ByteSize() + second.ByteSize()
    assert model.ByteSize() < parts + 700, "its names are longer"


def test_what_does_not_fit_is_not_joined() -> None:
    front = sound_graph(SMALL)
    with pytest.raises(ExportError, match=r"of the shape \['N', 18, 6\], the classifier takes \['N', 18, 7\]"):
        joined(front, classifier(replace(SMALL, bands=7)))
    with pytest.raises(ExportError, match=r"the classifier must take one input, 'x', not \['audio'\]"):
        joined(front, front)
    with pytest.raises(ExportError, match="the classifier is of opset 13, the front end of 17"):
        joined(front, classifier(SMALL, opset=13))
    other = sound_graph(replace(SMALL, offset=-40)).metadata_props[0].value
    with pytest.raises(ExportError, match=r'made for another front end, .*"offset":-40.0.*, not for .*"offset":-50.0'):
        joined(front, classifier(SMALL, frontend=other))
    same = sound_graph(SMALL).metadata_props[0].value
    assert joined(front, classifier(SMALL, frontend=same)).graph.name == "frontend+tiny"
