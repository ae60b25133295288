"""The NumPy backend: the shipped files, hostile ones, threads, and a machine without onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import fastzoo
from fastzoo import bundle, golden
from fastzoo.errors import BundleError, InputError, MissingExtraError
from fastzoo.interpreter import Session
from fastzoo.model import Model

from . import toy

SHIPPED = Path(fastzoo.__file__).parent / "models" / "fastgrnn-har"
FILES = [(precision, layout) for precision in ("fp32", "int8") for layout in ("fused", "scan", "unrolled", "step")]
SCAN = (SHIPPED / "int8-scan.onnx").read_bytes()


@pytest.mark.parametrize(("precision", "layout"), FILES)
def test_the_shipped_files_give_their_golden_answers(precision: str, layout: str) -> None:
    model = Model(SHIPPED, precision, layout, "numpy")
    assert model.backend == "numpy"
    arrays = golden.read(bundle.read(SHIPPED), SHIPPED)
    found = model.logits(arrays["x"])
    expected = arrays.get(f"{precision}/{layout}", arrays[f"{precision}/fused"])
    if (precision, layout) == ("int8", "unrolled"):  # 8-bit activations
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
        assert np.abs(found - expected).max() < 0.2
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("layout", ["fused", "scan", "unrolled", "step"])
def test_a_stream_is_its_windows_here_too(layout: str) -> None:
    model = Model(SHIPPED, "int8", layout, "numpy")
    x = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    results = model.stream(40).push(x)
    assert len(results) == 5
    for result in results:
        start = 40 * result.index
        np.testing.assert_array_equal(result.probabilities, model.predict_proba(x[start : start + 128]))


def test_the_other_backend_gives_the_same_classes() -> None:
    x = np.random.default_rng(0).normal(size=(300, 128, 6)).astype(np.float32)
    numpy, onnxruntime = (
        fastzoo.load("fastgrnn-har-int8", backend=name).predict(x) for name in ("numpy", "onnxruntime")
    )
    np.testing.assert_array_equal(numpy, onnxruntime)


def test_threads_share_a_session() -> None:
    model = Model(SHIPPED, "int8", "scan", "numpy")
    windows = np.random.default_rng(0).normal(size=(60, 128, 6)).astype(np.float32)
    alone = [model.logits(window) for window in windows]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(model.logits, windows))
    np.testing.assert_array_equal(alone, together)


def test_answers_are_the_callers_own() -> None:
    opened = Session(SCAN)
    x = np.random.default_rng(0).normal(size=(2, 1, 128, 6)).astype(np.float32)
    first = opened.run(None, {"x": x[0]})[0]
    kept = first.copy()
    opened.run(None, {"x": x[1]})
    np.testing.assert_array_equal(first, kept)


def test_it_says_what_a_file_takes_and_gives() -> None:
    (x,), (logits,) = Session(SCAN).get_inputs(), Session(SCAN).get_outputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["N", "T", 6])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["N", 6])


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"y": np.zeros((1, 128, 6), np.float32)},
        {"x": np.zeros((1, 128, 5), np.float32)},
        {"x": np.zeros((128, 6), np.float32)},
        {"x": np.zeros((1, 128, 6))},
    ],
    ids=["none", "another name", "another shape", "another rank", "another type"],
)
def test_other_inputs_are_refused(feeds: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        Session(SCAN).run(None, feeds)


def test_an_output_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BundleError, match="does not give speed"):
        Session(SCAN).run(["speed"], {"x": np.zeros((1, 128, 6), np.float32)})


def model_of(*nodes: Any, opset: int = 17, functions: Any = (), **constants: Any) -> bytes:
    """A file x [N, 3] -> y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, ir_version=8, opset_imports=imports, functions=list(functions))
    data: bytes = made.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (model_of(helper.make_node("Erf", ["x"], ["y"])), "operator Erf"),
        (model_of(helper.make_node("Identity", ["x"], ["y"], domain="evil")), "operator evil.Identity"),
        (model_of(helper.make_node("Identity", ["x"], ["y"]), opset=21), "opset 21"),
        (b"", "no ONNX model"),
        (b"<!DOCTYPE html><html>", "no ONNX model"),
    ],
)
def test_what_cannot_be_run_is_refused_when_it_is_opened(file: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Session(file)


@pytest.mark.parametrize(
    "file",
    [
        model_of(helper.make_node("Add", ["x", "nothing"], ["y"])),
        model_of(helper.make_node("MatMul", ["x", "w"], ["y"]), w=np.zeros((4, 2), np.float32)),
        model_of(helper.make_node("Reshape", ["x", "s"], ["y"]), s=np.array([7, 7])),
        model_of(helper.make_node("Expand", ["x", "s"], ["z"]), helper.make_node("Abs", ["z"], ["y"]), s=[10**12, 3]),
        model_of(helper.make_node("ConstantOfShape", ["s"], ["y"]), s=[10**12]),
        model_of(helper.make_node("Slice", ["x", "x", "x"], ["y"])),
        model_of(helper.make_node("Split", ["x"], ["y", "z"], axis=7)),
        model_of(helper.make_node("Transpose", ["x"], ["y"], perm=[0, 0])),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_when_it_runs(file: bytes) -> None:
    with pytest.raises(BundleError):
        Session(file).run(None, {"x": np.zeros((1, 3), np.float32)})


@pytest.mark.slow
def test_functions_that_multiply_without_end_are_refused() -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def function(name: str, callee: str) -> Any:
        calls = [helper.make_node(callee, [f"v{i}"], [f"v{i + 1}"], domain="own") for i in range(40)]
        return helper.make_function("own", name, ["v0"], ["v40"], calls, imports)

    functions = [function(f"f{level}", f"f{level + 1}") for level in range(12)]
    functions.append(
        helper.make_function("own", "f12", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], imports)
    )
    file = model_of(helper.make_node("f0", ["x"], ["y"], domain="own"), functions=functions)
    with pytest.raises(BundleError, match="more than"):
        Session(file).run(None, {"x": np.zeros((1, 3), np.float32)})


def test_a_function_that_calls_itself_is_refused() -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    own = helper.make_function("own", "f", ["a"], ["b"], [helper.make_node("f", ["a"], ["b"], domain="own")], imports)
    file = model_of(helper.make_node("f", ["x"], ["y"], domain="own"), functions=[own])
    with pytest.raises(BundleError, match="without end"):
        Session(file).run(None, {"x": np.zeros((1, 3), np.float32)})


def test_constants_in_other_files_are_refused() -> None:
    model = onnx.load_from_string(SCAN)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(BundleError, match="another file"):
        Session(model.SerializeToString())


def answers_or_refuses(data: bytes) -> None:
    try:
        opened = Session(data)
        sizes = [[size if isinstance(size, int) else 2 for size in value.shape] for value in opened.get_inputs()]
        if any(size < 0 or size > 1000 for shape in sizes for size in shape):
            return
        names = [value.name for value in opened.get_inputs()]
        opened.run(None, {name: np.ones(shape, np.float32) for name, shape in zip(names, sizes, strict=True)})
    except BundleError:
        pass


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    answers_or_refuses(data)


@given(st.integers(0, len(SCAN)), st.sampled_from(["cut", "flip", "repeat"]), st.integers(1, 255))
def test_damaged_files_are_refused_or_run(position: int, how: str, bits: int) -> None:
    if how == "cut":
        answers_or_refuses(SCAN[:position])
    elif how == "repeat":
        answers_or_refuses(SCAN[:position] + SCAN[position // 2 :])
    elif position < len(SCAN):
        damaged = bytearray(SCAN)
        damaged[position] ^= bits
        answers_or_refuses(bytes(damaged))


ALONE = """
import sys
sys.modules["onnxruntime"] = sys.modules["onnx"] = None  # as if they were not installed
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("onnxruntime", "onnx") else real(name, *more)
import numpy, fastzoo
model = fastzoo.load("fastgrnn-har-int8")
print(model.backend, model.layout, model.predict(numpy.zeros((128, 6))))
"""


def test_without_onnxruntime_a_model_loads_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split()[:2] == ["numpy", "scan"]
    assert done.stdout.split()[2] == fastzoo.load("fastgrnn-har-int8").predict(np.zeros((128, 6)))


def test_onnxruntime_asked_for_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="pip install onnxruntime; or take backend='numpy'"):
        fastzoo.load("fastgrnn-har-int8", backend="onnxruntime")


def test_an_unknown_backend_and_misplaced_options_are_errors(folder: Path) -> None:
    with pytest.raises(InputError, match="no backend 'tpu'; there are auto, onnxruntime, numpy"):
        fastzoo.load(folder, backend="tpu")
    with pytest.raises(InputError, match="takes neither"):
        fastzoo.load(folder, backend="numpy", providers=["CPUExecutionProvider"])


def test_providers_and_options_reach_onnxruntime(folder: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    model = fastzoo.load(folder, session_options=options, providers=["CPUExecutionProvider"])
    assert model.session.get_session_options().intra_op_num_threads == 2
    assert model.predict(toy.windows(1)[0]) == fastzoo.load(folder).predict(toy.windows(1)[0])
    with pytest.raises(BundleError, match="NoSuchProvider"):
        fastzoo.load(folder, providers=["NoSuchProvider"])
