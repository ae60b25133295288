"""Model: right answers for good windows, one clear refusal for everything else."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastzoo
from fastzoo import bundle
from fastzoo.errors import BundleError, InputError
from fastzoo.model import Model

from . import toy


@pytest.fixture(scope="module")
def model(pristine: Path) -> Model:
    return fastzoo.load(pristine, precision="fp32")


def rewritten(folder: Path, data: bytes, **changes: Any) -> Path:
    """The bundle with other content in int8-fused.onnx, correctly recorded."""
    content = bundle.read(folder)
    precision = content.precisions["int8"]
    file = replace(precision.layouts["fused"], **vars(toy.record(folder, "int8-fused.onnx", data)), **changes)
    precision = replace(precision, layouts={**precision.layouts, "fused": file})
    bundle.write(replace(content, precisions={**content.precisions, "int8": precision}), folder)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("layout", ["fused", "unrolled"])
def test_logits_are_those_of_the_equations(pristine: Path, precision: str, layout: str) -> None:
    x = toy.windows(50, seed=1)
    expected = toy.oracle(x, toy.weights(0 if precision == "fp32" else 100))
    opened = fastzoo.load(pristine, layout, precision)
    assert (opened.layout, opened.precision) == (layout, precision)
    np.testing.assert_allclose(opened.logits(x), expected, atol=1e-5)


def test_probabilities_and_labels_follow_from_the_logits(model: Model) -> None:
    x = toy.windows(20)
    logits = model.logits(x)
    odds = np.exp(logits.astype(np.float64))
    probabilities = model.predict_proba(x)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (20, toy.C)
    np.testing.assert_allclose(probabilities, odds / odds.sum(axis=1, keepdims=True), rtol=1e-5)
    assert list(model.predict(x)) == [toy.LABELS[best] for best in logits.argmax(axis=1)]


def test_one_window_gives_one_answer(model: Model) -> None:
    x = toy.windows(3)
    assert model.logits(x[0]).shape == model.predict_proba(x[0]).shape == (toy.C,)
    label = model.predict(x[0])
    assert type(label) is str
    assert label == model.predict(x)[0]
    np.testing.assert_allclose(model.logits(x[0]), model.logits(x)[0], atol=1e-6)


def test_what_a_model_says_of_itself(model: Model, pristine: Path) -> None:
    assert model.labels == toy.LABELS
    assert model.name == "gru-toy-fp32"
    assert model.layout == "fused"
    assert model.path == pristine / "fp32-fused.onnx"
    assert model.bundle == bundle.read(pristine)
    assert repr(model) == "<fastzoo.Model gru-toy-fp32, fused: 8 steps x 3 channels at 50 Hz -> 3 labels>"
    assert model.info["input"] == {"steps": 8, "channels": list(toy.CHANNELS), "rate": 50}
    with pytest.raises(TypeError):
        model.info["labels"] = ()  # type: ignore[index]


def test_big_batches_run_in_parts_with_the_same_result(model: Model) -> None:
    x = toy.windows(700)
    np.testing.assert_array_equal(model.logits(x), np.concatenate([model.logits(part) for part in (x[:256], x[256:])]))
    assert model.predict(x).shape == (700,)  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "g", "i1", "u1", ">i2", "i8", "u8"])
def test_any_real_numbers_will_do(model: Model, dtype: str) -> None:
    x = np.round(3 * np.abs(toy.windows(2)))
    np.testing.assert_array_equal(model.logits(x.astype(dtype)), model.logits(x))


def test_lists_views_and_read_only_arrays_will_do(model: Model) -> None:
    x = toy.windows(2)
    expected = model.logits(x)
    np.testing.assert_array_equal(model.logits(x.tolist()), expected)
    np.testing.assert_array_equal(model.logits(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(model.logits(np.repeat(x, 2, axis=1)[:, ::2]), expected)
    x.setflags(write=False)
    np.testing.assert_array_equal(model.logits(x), expected)


def test_the_input_is_not_changed(model: Model) -> None:
    x = toy.windows(2)
    before = x.copy()
    model.predict_proba(x)
    np.testing.assert_array_equal(x, before)


@given(shape=hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9))
def test_any_other_shape_is_refused_with_the_right_one(model: Model, shape: tuple[int, ...]) -> None:
    if len(shape) in (2, 3) and shape[-2:] == (toy.T, toy.D) and 0 not in shape:
        assert model.logits(np.zeros(shape)).shape == (*shape[:-2], toy.C)
        return
    with pytest.raises(InputError) as caught:
        model.predict(np.zeros(shape))
    for part in ("8 steps at 50 Hz", "x [8, 3] or [N, 8, 3]", "acc_x [g], acc_y [g], gyro_z [rad/s]"):
        assert part in str(caught.value)


@given(x=hnp.arrays(hnp.array_dtypes() | hnp.scalar_dtypes(), (toy.T, toy.D)))
def test_numbers_of_any_type_give_probabilities_or_a_refusal(model: Model, x: npt.NDArray[Any]) -> None:
    try:
        probabilities = model.predict_proba(x)
    except InputError:
        return
    assert x.dtype.kind in "fiu"
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "x",
    [
        None,
        "text",
        object(),
        {"x": 1},
        [[1, 2], [3]],
        np.zeros((8, 3), bool),
        np.zeros((8, 3), complex),
        np.zeros((8, 3), object),
        np.full((8, 3), "1"),
        np.zeros((8, 3), "M8[s]"),
        [[Decimal(1)] * 3] * 8,
        [[10**400] * 3] * 8,
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}",
)
def test_what_is_not_real_numbers_is_refused(model: Model, x: Any) -> None:
    with pytest.raises(InputError, match=r"^x (holds|cannot|has).* this model takes windows"):
        model.predict(x)


def test_an_input_error_is_a_value_error(model: Model) -> None:
    with pytest.raises(ValueError, match="no windows"):
        model.predict(np.zeros((0, toy.T, toy.D)))


@settings(deadline=None)
@given(
    window=st.integers(0, 299),
    step=st.integers(0, toy.T - 1),
    channel=st.integers(0, toy.D - 1),
    value=st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e39]),
)
def test_a_missing_sample_is_named(model: Model, window: int, step: int, channel: int, value: float) -> None:
    x = np.zeros((300, toy.T, toy.D))
    x[window, step, channel] = value
    with pytest.raises(InputError) as caught:
        model.predict(x)
    assert f"in window {window}, step {step}, channel {toy.CHANNELS[channel]!r}" in str(caught.value)
    assert ("too large for float32" in str(caught.value)) == (value == 1e39)


def test_samples_on_which_the_network_overflows_are_refused(folder: Path) -> None:
    of = toy.weights(0)
    of["V"] *= np.float32(1e38)
    of["V"][0] *= -1
    large = {**of, "c": np.full(toy.C, 3e38, np.float32)}
    opened = fastzoo.load(rewritten(folder, toy.graph(large)))
    with pytest.raises(InputError, match="the network overflows on window 0"):
        opened.predict(100 * np.abs(toy.windows(20)))


def test_softmax_of_large_logits_does_not_overflow(folder: Path) -> None:
    of = toy.weights(0)
    opened = fastzoo.load(rewritten(folder, toy.graph({**of, "V": of["V"] * np.float32(1e6)})))
    probabilities = opened.predict_proba(toy.windows(10))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_a_layout_that_the_bundle_lacks_names_those_it_has(pristine: Path) -> None:
    with pytest.raises(BundleError, match="gru-toy-int8 has no layout 'scan', only fused, unrolled"):
        fastzoo.load(pristine, "scan")
    with pytest.raises(BundleError, match="has no precision 'int4'"):
        Model(pristine, "int4")


def test_a_changed_file_is_not_loaded(folder: Path) -> None:
    data = bytearray((folder / "int8-fused.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "int8-fused.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="does not have the sha256"):
        fastzoo.load(folder)
    fastzoo.load(folder, precision="fp32")  # other files do not matter


FIVE_CLASSES = {**toy.weights(0), "V": np.zeros((toy.H, 5), np.float32), "c": np.zeros(5, np.float32)}

GRAPHS: dict[str, Callable[[], bytes]] = {
    "not a model": lambda: b"not a model at all",
    "empty model": lambda: b"\x08\x08",
    "cut": lambda: toy.graph(toy.weights(0))[:-30],
    "other input name": lambda: toy.graph(toy.weights(0), x=("input", ["N", toy.T, toy.D])),
    "other output name": lambda: toy.graph(toy.weights(0), logits=("output", ["N", toy.C])),
    "other steps": lambda: toy.graph(toy.weights(0), x=("x", ["N", toy.T + 1, toy.D])),
    "other classes": lambda: toy.graph(FIVE_CLASSES, logits=("logits", ["N", 5])),
    "fixed batch": lambda: toy.graph(toy.weights(0), x=("x", [1, toy.T, toy.D])),
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_file_that_breaks_the_contract_is_refused(folder: Path, kind: str) -> None:
    with pytest.raises(BundleError, match=r"int8-fused\.onnx"):
        fastzoo.load(rewritten(folder, GRAPHS[kind]()))


def test_a_file_that_hides_its_shape_is_refused_when_it_runs(folder: Path) -> None:
    graph = onnx.load_from_string(toy.graph(toy.weights(0)))
    graph.graph.node[-1].output[0] = "all"
    graph.graph.node.append(onnx.helper.make_node("Compress", ["all", "which"], ["logits"], axis=1))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([True, False, True]), "which"))
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "C"
    opened = fastzoo.load(rewritten(folder, graph.SerializeToString()))
    with pytest.raises(BundleError, match=r"int8-fused\.onnx gave logits \[4, 2\] for 4 window"):
        opened.logits(toy.windows(4))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_graph_is_refused_or_runs_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, pristine: Path, data: st.DataObject
) -> None:
    content = bytearray((pristine / "int8-fused.onnx").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    for path in pristine.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with contextlib.suppress(BundleError, InputError):
        fastzoo.load(rewritten(folder, bytes(content))).predict(toy.windows(1))


def test_only_harmless_session_settings_are_taken_from_a_bundle(folder: Path) -> None:
    bad = {"session.use_env_allocators": "1"}
    with pytest.raises(BundleError, match=r"asks for the session setting\(s\) session.use_env_allocators"):
        fastzoo.load(rewritten(folder, toy.graph(toy.weights(0)), session=bad))


def test_sessions_use_one_thread_without_spinning(model: Model) -> None:
    options = model.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.disable_quant_qdq") == "1"
    assert model.session.get_providers() == ["CPUExecutionProvider"]


def test_a_model_pickles_as_a_reference(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = fastzoo.load("./gru-toy", "unrolled")
    text = pickle.dumps(opened)
    assert len(text) < 500
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = pickle.loads(text)
    assert (again.name, again.layout) == (opened.name, "unrolled")
    np.testing.assert_array_equal(again.logits(toy.windows(2)), opened.logits(toy.windows(2)))


def test_threads_may_share_a_model(model: Model) -> None:
    x = toy.windows(64)
    expected = model.logits(x)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(model.logits, x))
    np.testing.assert_allclose(np.stack(parts), expected, atol=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_can_predict(pristine: Path) -> None:
    code = (
        "import sys, os, numpy as np, fastzoo\n"
        "model = fastzoo.load(sys.argv[1]); x = np.zeros((8, 3)); model.predict(x)\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(0 if model.predict(x) in model.labels else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(pristine)], timeout=60).returncode == 0


def test_info_can_be_written_as_json(model: Model) -> None:
    assert json.loads(json.dumps(dict(model.info)))["name"] == model.name
