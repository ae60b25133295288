"""The C header against onnxruntime, under a compiler that takes every warning for an error."""

from __future__ import annotations

import ctypes
import itertools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from fastzoo.errors import ExportError
from fastzoo.export.c import c_header, c_name
from fastzoo.export.c_code import HELPERS, Constants, Function, Vector
from fastzoo.export.floats import FloatWriter
from fastzoo.export.from_torch import from_torch
from fastzoo.export.graph import Op
from fastzoo.export.network import Network
from fastzoo.export.scan import scan
from fastzoo.export.stepwise import state_size, stepwise
from fastzoo.export.weights import Int8
from fastzoo.nn import CELLS, NONLINEARITIES, SequenceClassifier

Floats = npt.NDArray[np.float32]

D, H, C, T, POOL = 3, 6, 4, 9, 4
RATE = 50.0
PRECISIONS = {"fp32": None, "int8": Int8(), "int8_per_channel": Int8(per_channel=True)}
WARNINGS = [
    "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Wcast-qual",
    "-Wmissing-declarations", "-Wundef", "-Wvla", "-Wfloat-equal",
]  # fmt: skip
C99 = ["-std=c99", "-Wstrict-prototypes", "-Wmissing-prototypes"]

GCC = shutil.which("gcc") or shutil.which("cc")
GPP = shutil.which("g++") or shutil.which("c++")
pytestmark = pytest.mark.skipif(GCC is None, reason="there is no C compiler, neither gcc nor cc, on the PATH")


def network(
    kind: str = "fastgrnn",
    pool: int = POOL,
    sizes: tuple[int, int, int] = (D, H, C),
    steps: int = T,
    **arguments: Any,
) -> Network:
    """Random weights large enough to reach every piece of the nonlinearities; raw units far from zero."""
    torch.manual_seed(0)
    channels, hidden, classes = sizes
    net = SequenceClassifier(CELLS[kind](channels, hidden, **arguments), classes, pool)
    with torch.no_grad():
        for cell in net.rnn.cells:
            for name, parameter in cell.named_parameters():
                size = parameter.shape[0] if parameter.dim() == 2 else 4
                parameter.copy_(torch.randn(parameter.shape) * (0.7 if name[0].lower() == "u" else 1) / size**0.5)
        net.head.bias.copy_(torch.randn(classes))
    net.set_normalisation(torch.from_numpy(windows(50, steps, channels)))
    return from_torch(net, steps)


def windows(count: int, steps: int = T, channels: int = D) -> Floats:
    """Raw windows [count, T, D]: gravity, degrees and tesla, say."""
    random = np.random.default_rng(1)
    offset, unit = np.resize([9.8, -40.0, 1e-5], channels), np.resize([2.0, 30.0, 3e-5], channels)
    return (offset + unit * random.normal(size=(count, steps, channels))).astype(np.float32)


def windows_of(net: Network, count: int) -> Floats:
    return windows(count, net.steps, net.input_size)


def header(made: Network, name: str, int8: Int8 | None = None, **texts: Sequence[str]) -> str:
    given: dict[str, Sequence[str]] = {
        "labels": [f"class {i}" for i in range(made.num_classes)],
        "channels": [f"acc {i} [g]" for i in range(made.input_size)],
        **texts,
    }
    return c_header(made, name, given["labels"], given["channels"], RATE, int8)


def cases() -> dict[str, tuple[Network, Int8 | None]]:
    """By name: what to write."""
    kinds = {
        f"{kind}_{ranks}": network(kind, w_rank=w_rank, u_rank=u_rank)
        for kind in CELLS
        for ranks, w_rank, u_rank in (("full", None, None), ("low", 2, 5))
    }
    stacked = {
        f"{kind}_{layers}_{way}": network(kind, num_layers=layers, bidirectional=way == "both", u_rank=3)
        for kind in ("fastgrnn", "gru", "lstm")
        for layers, way in ((2, "one"), (1, "both"), (2, "both"), (3, "both"))
    }
    made = {
        f"{name}_{precision}": (net, int8)
        for (name, net), (precision, int8) in itertools.product((kinds | stacked).items(), PRECISIONS.items())
    }
    pairs = {(name, "tanh") for name in NONLINEARITIES} | {("sigmoid", name) for name in NONLINEARITIES}
    for gate, update in sorted(pairs):
        for kind in ("fastgrnn", "lstm"):
            made[f"{kind}_{gate}_{update}"] = (
                network(kind, gate_nonlinearity=gate, update_nonlinearity=update), None
            )  # fmt: skip
    scalars: dict[str, dict[str, Any]] = {"nu0": {"nu": 0.0}, "unit": {"zeta": 1.0, "nu": 0.0}}
    made |= {f"scalars_{name}": (network(w_rank=2, u_rank=3, **of), Int8()) for name, of in scalars.items()}
    made |= {f"pool_{pool}": (network(pool=pool), None) for pool in (1, T)}
    for sizes in ((1, 1, 2), (2, 1, 3), (1, 9, 2), (7, 4, 5)):
        name = f"sizes_{'_'.join(map(str, sizes))}"
        made[f"{name}_lstm"] = network("lstm", 2, sizes, steps=3, u_rank=1), Int8(per_channel=True)
        made[f"{name}_fastgrnn"] = network("fastgrnn", 1, sizes, steps=1, bidirectional=True, num_layers=2), Int8()
    made["pool_both"] = network(pool=1, bidirectional=True), Int8()
    gru = network("gru")
    (cell,) = gru.cells
    bias = np.linspace(-1, 1, H, dtype=np.float32)
    made["torch_gru"] = replace(gru, cells=(replace(cell, kind="torch_gru", recurrent_bias=bias),)), Int8(True)
    return made


CASES = cases()


def compiled(folder: Path, source: str, headers: dict[str, str], *flags: str, compiler: str | None = GCC) -> Path:
    """A program or library of a source and headers beside it."""
    assert compiler
    for name, text in headers.items():
        (folder / f"{name}.h").write_text(text, encoding="ascii")
    suffix = "c" if compiler == GCC else "cc"
    (folder / f"main.{suffix}").write_text(source, encoding="ascii")
    command = [compiler, *WARNINGS, *flags, f"main.{suffix}", "-o", "made", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return folder / "made"


def implementing(*names: str) -> str:
    return "".join(f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"\n' for name in names)


@dataclass(frozen=True)
class Model:
    """A header's functions, called."""

    functions: ctypes.CDLL
    name: str
    network: Network

    def predict(self, window: Floats) -> tuple[int, Floats]:
        net = self.network
        x, logits = np.ascontiguousarray(window), np.empty(net.num_classes, np.float32)
        arguments = [x.ctypes.data_as(ctypes.c_void_p), logits.ctypes.data_as(ctypes.c_void_p)]
        if net.directions == 2 and len(net.layers) > 1:
            workspace = np.full(2 * net.steps * 2 * net.hidden_size, np.nan, np.float32)
            arguments.insert(0, workspace.ctypes.data_as(ctypes.c_void_p))
        return self.functions[f"{self.name}_predict"](*arguments), logits

    def steps(self, window: Floats) -> Floats:
        """The logits of each step of a stream."""
        net = self.network
        state = np.full(state_size(net), np.nan, np.float32)
        every = np.empty((len(window), net.num_classes), np.float32)
        self.functions[f"{self.name}_reset"](state.ctypes.data_as(ctypes.c_void_p))
        for x, logits in zip(np.ascontiguousarray(window), every, strict=True):
            arguments = (array.ctypes.data_as(ctypes.c_void_p) for array in (state, x, logits))
            self.functions[f"{self.name}_step"](*arguments)
        return every


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """All cases in one library, of one source file: nothing in one header may clash with another's."""
    headers = {name: header(net, name, int8) for name, (net, int8) in CASES.items()}
    folder = tmp_path_factory.mktemp("c")
    return ctypes.CDLL(str(compiled(folder, implementing(*headers), headers, *C99, "-O1", "-shared", "-fPIC")))


def steps_of(net: Network, int8: Int8 | None) -> list[Any]:
    return [FloatWriter(cell, net.prefix(i), int8).step() for i, cell in enumerate(net.cells)]


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def close(answer: Floats, expected: Floats) -> bool:
    return float(np.abs(answer - expected).max()) <= 1e-5 * float(np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
def test_predict_answers_like_onnxruntime(library: ctypes.CDLL, case: str) -> None:
    net, int8 = CASES[case]
    unit = net.unit_scale()
    x = windows_of(net, 5)
    (expected,) = session(scan(unit, steps_of(unit, int8), int8)).run(None, {"x": x})
    for window, logits in zip(x, expected, strict=True):
        found, answer = Model(library, case, net).predict(window)
        assert close(answer, logits)
        assert found == answer.argmax()


@pytest.mark.parametrize("case", [case for case, (net, _) in CASES.items() if net.directions == 1])
def test_a_stream_answers_step_by_step(library: ctypes.CDLL, case: str) -> None:
    net, int8 = CASES[case]
    unit, window, model = net.unit_scale(), windows_of(net, 1)[0], Model(library, case, net)
    opened = session(stepwise(unit, steps_of(unit, int8), int8))
    state = np.zeros((1, opened.get_inputs()[1].shape[1]), np.float32)
    answers = model.steps(window)
    for x, answer in zip(window, answers, strict=True):
        expected, state = opened.run(None, {"x": x[np.newaxis], "state": state})
        assert close(answer, expected[0])
    assert close(answers[-net.pool :].mean(0), model.predict(window)[1])


def test_the_optimizer_that_may_reorder_sums_changes_little(tmp_path: Path) -> None:
    case = "gru_low_int8"
    net, int8 = CASES[case]
    flags = [*C99, "-O3", "-ffast-math", "-c", "-fPIC"]
    unit_of_c = compiled(tmp_path, implementing(case), {case: header(net, case, int8)}, *flags)
    # Linked without the flags: -ffast-math would let the library flush denormals in the whole process.
    subprocess.run([str(GCC), "-shared", str(unit_of_c), "-o", str(tmp_path / "made.so"), "-lm"], check=True)
    made = ctypes.CDLL(str(tmp_path / "made.so"))
    unit, x = net.unit_scale(), windows(5)
    (expected,) = session(scan(unit, steps_of(unit, int8), int8)).run(None, {"x": x})
    for window, logits in zip(x, expected, strict=True):
        assert np.abs(Model(made, case, net).predict(window)[1] - logits).max() <= 1e-4


SOME = ["fastgrnn_low_int8_per_channel", "gru_full_fp32", "lstm_2_one_int8", "lstm_3_both_fp32", "torch_gru"]


def caller(cases: Sequence[str]) -> str:
    """A program that calls all functions of these headers."""
    lines = []
    for name in cases:
        net, big = CASES[name][0], name.upper()
        buffered = net.directions == 2 and len(net.layers) > 1
        workspace = f"static {name}_workspace work; " if buffered else ""
        lines.append(f"    {{ {workspace}float x[{big}_STEPS * {big}_CHANNELS], logits[{big}_CLASSES];")
        lines.append(f"      for (int i = 0; i < {big}_STEPS * {big}_CHANNELS; ++i) x[i] = (float)(i % 7);")
        lines.append(f"      sum += {name}_predict({'&work, ' if buffered else ''}x, logits);")
        if net.directions == 1:
            lines.append(f"      {name}_state state; {name}_reset(&state);")
            lines.append(f"      for (int t = 0; t < {big}_STEPS; ++t)")
            lines.append(f"          {name}_step(&state, x + t * {big}_CHANNELS, logits);")
        lines.append(f"      sum += {name}_labels[{big}_CLASSES - 1][0]; }}")
    return implementing(*cases) + "int main(void)\n{\n    int sum = 0;\n" + "\n".join(lines) + "\n    return !sum;\n}\n"


def headers_of(cases: Sequence[str]) -> dict[str, str]:
    return {name: header(CASES[name][0], name, CASES[name][1]) for name in cases}


def test_nothing_is_read_or_written_beside_its_array(tmp_path: Path) -> None:
    flags = [*C99, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    made = compiled(tmp_path, caller(SOME), headers_of(SOME), *flags)
    done = subprocess.run([made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(GPP is None, reason="there is no C++ compiler, neither g++ nor c++, on the PATH")
def test_it_is_also_cpp(tmp_path: Path) -> None:
    made = compiled(tmp_path, caller(SOME), headers_of(SOME), "-std=c++11", "-O2", compiler=GPP)
    assert subprocess.run([made], check=False).returncode == 0


def test_without_the_macro_it_only_declares(tmp_path: Path) -> None:
    """Two source files, one of which has the code; the other includes the header twice."""
    case = "fastgrnn_low_int8"
    (tmp_path / "code.c").write_text(implementing(case) + f'#include "{case}.h"\n')
    source = f"""
#include "{case}.h"
#include "{case}.h"
int main(void)
{{
    static const float x[{case.upper()}_STEPS * {case.upper()}_CHANNELS];
    float logits[{case.upper()}_CLASSES];
    return {case}_predict(x, logits) < 0 || {case}_labels[0][0] != 'c';
}}
"""
    made = compiled(tmp_path, source, headers_of([case]), *C99, "code.c")
    assert subprocess.run([made], check=False).returncode == 0


@pytest.mark.parametrize("case", ["fastgrnn_low_int8", "lstm_2_both_fp32"])
def test_the_example_in_its_head_is_a_program(tmp_path: Path, case: str) -> None:
    net, int8 = CASES[case]
    text = header(net, case, int8, labels=["un", "deux", "trois", "quatre"])
    example = re.search(r"^ \*     (#define .*?\n \*     })$", text, re.MULTILINE | re.DOTALL)
    assert example
    made = compiled(tmp_path, re.sub(r"^ \*     |^ \*$", "", example[1], flags=re.MULTILINE) + "\n", {case: text}, *C99)
    answer = subprocess.run([made], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"(un|deux|trois|quatre) \(.*\)\n", answer)


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm on the PATH")
@pytest.mark.parametrize("case", ["gru_low_int8", "gru_low_int8_per_channel", "lstm_full_fp32", "fastgrnn_2_both_int8"])
def test_the_object_holds_each_weight_once_and_no_more_than_the_header_says(tmp_path: Path, case: str) -> None:
    net, int8 = CASES[case]
    text = header(net, case, int8)
    made = compiled(tmp_path, implementing(case), {case: text}, *C99, "-O0", "-fno-pie", "-c")
    listed = subprocess.run(["nm", "-S", made], capture_output=True, text=True, check=True).stdout
    symbols = {line.split()[3]: line.split() for line in listed.splitlines() if len(line.split()) == 4}
    sizes = {name: int(size, 16) for name, (_, size, kind, _) in symbols.items() if kind == "r"}
    stated = re.search(r"Flash +([\d,]+) bytes of weights", text)
    assert stated
    assert sum(sizes.values()) == int(stated[1].replace(",", ""))
    matrices = sum(weight.size for weight in net.matrices().values())
    if int8:
        assert sum(size for name, size in sizes.items() if name.endswith("_quantized")) == matrices
        assert f"{matrices:,} of them int8" in text
    assert not {kind for _, _, kind, _ in symbols.values()} & set("bBdDC"), "no variables"


HOSTILE = [
    'quote " and \\ and \\" end\\', "*/ int x; /*", "// ??/ ??= ????/", "line\nbreak\r\t", "°C, ½, 手势, 🙂",
    "\u202eevil", "%s%n ${name} $$ $NAME", "\x1b[31m\x7f", "é1", "", "\ud800 half",
]  # fmt: skip


@pytest.mark.parametrize("flags", [("-std=c99",), ("-std=gnu99", "-trigraphs")])
def test_hostile_texts_stay_texts(tmp_path: Path, flags: tuple[str, ...]) -> None:
    net = network(sizes=(len(HOSTILE), 2, len(HOSTILE)))
    name = 'mo"del*/\n#error ${name} ??/'
    identifier = c_name(name)
    text = header(net, name, labels=HOSTILE, channels=HOSTILE)
    assert identifier == "mo_del_error_name"
    assert text.isascii()
    made = compiled(tmp_path, implementing(identifier), {identifier: text}, *flags, "-shared", "-fPIC")
    labels = (ctypes.c_char_p * len(HOSTILE)).in_dll(ctypes.CDLL(str(made)), f"{identifier}_labels")
    assert list(labels) == [label.encode("utf-8", "replace") for label in HOSTILE]


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("fastgrnn-har-int8", "fastgrnn_har_int8"),
        ("6-axis", "model_6_axis"),
        ("int", "int"),
        ("string", "model_string"),
        ("Math", "model_Math"),
        ("__reserved__", "reserved"),
        ("a--b__c", "a_b_c"),
        ("Geste-été", "Geste_ete"),
        ("手势", "model"),
        ("", "model"),
        ("../../etc/passwd", "etc_passwd"),
    ],
)
def test_names_become_identifiers(tmp_path: Path, name: str, identifier: str) -> None:
    assert c_name(name) == identifier
    text = header(network(num_layers=2), name)
    compiled(tmp_path, implementing(identifier), {identifier: text}, *C99, "-fsyntax-only")


def test_the_same_network_gives_the_same_text() -> None:
    assert header(network(), "same") == header(network(), "same")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a"]}, "1 labels for a network that has 4"),
        ({"channels": list("abcd")}, "4 channels for a network that has 3"),
        ({"labels": ["a", "b", "c", "é" * 2048]}, "the label .* is longer than the 4095 bytes"),
        ({"rate": 0.0}, "0.0 is no number of samples per second"),
        (
            {"network": replace(network(), head_bias=np.array([0, 1, 2, np.inf], np.float32))},
            "head_bias are not all finite",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments = {"network": network(), "name": "m", "labels": list("abcd"), "channels": list("xyz"), "rate": RATE}
    with pytest.raises(ExportError, match=message):
        c_header(**{**arguments, **changes})


# Graphs that no cell of today has.


def function(op: Op, outputs: dict[str, Vector], **inputs: int) -> tuple[list[str], Constants]:
    constants = Constants()
    made = Function(constants, op.constants, {name: Vector(name, size) for name, size in inputs.items()})
    return made.body(op.nodes, outputs), constants


def test_any_graph_of_the_known_operators_computes_what_onnx_says(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    op = Op("v")
    ends = {name: op.constant(name, np.array([i])) for name, i in (("one", 1), ("last", -1), ("two", 2), ("five", 5))}
    w = op.constant("w", random.normal(size=(4, 5)).astype(np.float32))
    bytes_ = op.constant("bytes", random.integers(-127, 128, (4, 5)).astype(np.int8))
    scale = op.constant("scale", random.uniform(0.01, 0.02, 5).astype(np.float32))
    real = op.DequantizeLinear(bytes_, scale, op.constant("zero", np.zeros(5, np.int8)), axis=1)
    low = op.Slice(w, ends["one"], ends["two"], ends["one"])
    high = op.Mul(op.Slice(real, ends["two"], ends["five"], ends["one"]), op.constant("half", np.float32(0.5)))
    mixed = op.Identity(op.Concat(low, high, op.Slice(w, ends["two"], ends["last"], ends["one"]), axis=1))  # [4, 6]
    a = op.Gemm("h", mixed, op.constant("bias", random.normal(size=6).astype(np.float32)))
    first, second = op.split(op.Tanh(a), [2, 4])
    middle = op.Slice(a, ends["one"], ends["last"], ends["one"])  # [1, 4]
    joined = op.Concat(op.Div(second, op.constant("three", np.float32(3))), op.Neg(middle), first, axis=-1)  # [1, 10]
    u = op.constant("u", random.normal(size=(10, 4)).astype(np.float32))
    again = op.Add(op.Sub(op.MatMul(joined, u), op.Mul(second, op.Sub(second, "x"))), op.Relu(middle))
    op.Add(op.HardSigmoid(again, alpha=0.3), "h", output="next")  # takes the place of h
    op.Clip(op.Gemm("h", real, op.constant("bias5", random.normal(size=(1, 5)).astype(np.float32))),
            op.constant("low", np.float32(-1)), op.constant("high", np.float32(1)), output="after")  # fmt: skip
    lines, constants = function(op, {"next": Vector("h", 4), "after": Vector("g", 5)}, x=4, h=4, g=5)
    code = "\n".join(["#include <math.h>", "#include <stdint.h>", "#include <string.h>", *constants.definitions(),
                      *(text for helper, text in HELPERS.items() if helper != "sigmoid"),
                      "void f(const float *x, float *h, float *g);", "void f(const float *x, float *h, float *g) {",
                      *lines, "}", ""])  # fmt: skip
    made = compiled(tmp_path, Template(code).substitute(name="m"), {}, *C99, "-O1", "-shared", "-fPIC")
    assert [name for name, values in constants.arrays.items() if len(values) == 4 and values.ndim == 2] == [
        "w",
        "bytes",
    ]
    model = op.model("any", {"x": [1, 4], "h": [1, 4]}, {"next": [1, 4], "after": [1, 5]})
    x, h = random.normal(size=(2, 1, 4)).astype(np.float32)
    expected = session(model).run(None, {"x": x, "h": h})
    g = np.full((1, 5), np.nan, np.float32)
    ctypes.CDLL(str(made)).f(*(array.ctypes.data_as(ctypes.c_void_p) for array in (x, h, g)))
    assert close(h, np.asarray(expected[0]))
    assert close(g, np.asarray(expected[1]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda op: op.Softmax("h", output="y"), "the operator Softmax is not written in C"),
        (lambda op: op.Transpose("w", output="y"), "the operator Transpose of weights is not written in C"),
        (lambda op: op.Gemm("h", "w", output="y", transB=1), "a Gemm of other than a vector and weights"),
        (lambda op: op.MatMul("h", "h", output="y"), "a MatMul of other than a vector and weights"),
        (lambda op: op.MatMul("x", "w", output="y"), r"a vector \[3\] and a matrix of 2 rows"),
        (lambda op: op.Add("h", "x", output="y"), "Add of vectors of different sizes"),
        (lambda op: op.Concat("h", "x", output="y", axis=0), "along the columns"),
        (lambda op: op.Clip("h", "", "bias", output="y"), "an input that it lacks"),
    ],
)
def test_what_is_not_known_is_refused_by_name(build: Any, message: str) -> None:
    op = Op("v")
    op.constant("w", np.ones((2, 2), np.float32))
    op.constant("bias", np.ones(2, np.float32))
    build(op)
    with pytest.raises(ExportError, match=message):
        function(op, {"y": Vector("y", 2)}, h=2, x=3)
