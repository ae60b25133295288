"""The step of a cell: its three parts, what is stored in it, and what a byte means."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization.quant_utils import compute_scale_zp

from fastzoo.export.calibrate import Calibration
from fastzoo.export.floats import FloatWriter, ProductWriter
from fastzoo.export.graph import Op
from fastzoo.export.integers import IntegerWriter
from fastzoo.export.network import Network
from fastzoo.export.step import Levels, Port, Step
from fastzoo.export.weights import Int8

from . import networks
from .networks import RANKS, VARIANTS, classifier, windows

INT8 = Int8()
WRITERS = ("float", "weights", "products", "integers")
variants = pytest.mark.parametrize("variant", VARIANTS)
writers = pytest.mark.parametrize("writer", WRITERS)


def step_of(network: Network, writer: str, int8: Int8 = INT8) -> Step:
    """The step of the only cell."""
    (cell,), calibration = network.cells, Calibration(network, windows(20))
    if writer in ("float", "weights"):
        return FloatWriter(cell, "", int8 if writer == "weights" else None).step()
    if writer == "products":
        return ProductWriter(cell, "", int8, calibration.levels(0, FloatWriter(cell))).step()
    return IntegerWriter(cell, "", int8, calibration.levels(0, IntegerWriter(cell, "", int8, None))).step()


def reached(nodes: list[onnx.NodeProto], names: set[str]) -> set[str]:
    """All that depends on these names."""
    found = set(names)
    for node in nodes:  # in order of execution
        if found & set(node.input):
            found |= set(node.output)
    return found


@writers
@variants
def test_each_part_depends_on_what_it_may(variant: str, writer: str) -> None:
    step = step_of(networks.network(classifier(**VARIANTS[variant])).unit_scale(), writer)
    states = {port.name for port in step.states}
    made = [{name for node in part for name in node.output} for part in (step.shared, step.project, step.recur)]
    read = [{name for node in part for name in node.input} for part in (step.shared, step.project, step.recur)]
    assert read[0] <= step.constants.keys() | made[0], "shared: on the weights alone"
    assert read[1] <= step.constants.keys() | made[0] | made[1] | {step.x}, "project: on x too"
    driven = {port.name for port in step.driven}
    assert read[2] & made[1] == driven, "recur: on what project drives it with, and on no more of it"
    assert read[2] <= step.constants.keys() | made[0] | driven | made[2] | states
    everything = [*step.shared, *step.project, *step.recur]
    assert set(step.following) <= reached(everything, {step.x}) & reached(everything, states)


@writers
@variants
def test_what_recurs_depends_on_the_state(variant: str, writer: str) -> None:
    """What does not could be computed once for all steps."""
    step = step_of(networks.network(classifier(**VARIANTS[variant])).unit_scale(), writer)
    stateful = reached(step.recur, {port.name for port in step.states})
    idle = [node.op_type for node in step.recur if not stateful & set(node.output)]
    assert set(idle) <= {"DequantizeLinear"}, "of weights and of driven bytes, beside their readers"


@writers
@variants
def test_a_step_is_a_valid_model_with_nothing_unused(variant: str, writer: str) -> None:
    step = step_of(networks.network(classifier(**VARIANTS[variant])), writer)
    model = step.model()
    onnx.checker.check_model(model, full_check=True)
    nodes = model.graph.node
    read = {name for node in nodes for name in node.input} | set(step.following)
    made = {name for node in nodes for name in node.output} | step.constants.keys()
    assert made == read - {step.x, *(port.name for port in step.states)}
    in_bytes = writer == "integers"
    kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input[1:], *model.graph.output)}
    assert kinds == {TensorProto.UINT8 if in_bytes else TensorProto.FLOAT}


@pytest.mark.parametrize("rank", RANKS)
@variants
def test_factors_stay_factors(variant: str, rank: str) -> None:
    net = classifier(ranks=RANKS[rank], **VARIANTS[variant])
    step = step_of(networks.network(net), "float")
    stored = {name: numpy_helper.to_array(t) for name, t in step.constants.items() if name[0] in "WU"}
    trained = {name: p.detach().numpy() for name, p in net.rnn.cell.named_parameters() if name[0] in "WU"}
    assert stored.keys() == trained.keys()
    assert all(np.array_equal(stored[name], trained[name]) for name in stored)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("writer", ["weights", "products", "integers"])
@variants
def test_integers_are_stored_once(variant: str, writer: str, per_channel: bool) -> None:
    """Signs, factors and blocks of columns are made of them when the file is loaded."""
    (cell,) = networks.network(classifier(**VARIANTS[variant])).cells
    int8 = Int8(per_channel)
    step = step_of(networks.network(classifier(**VARIANTS[variant])), writer, int8)
    stored = {
        name: numpy_helper.to_array(t)
        for name, t in step.constants.items()
        if t.data_type == TensorProto.INT8 and len(t.dims) == 2
    }
    factors = dict(zip(("W1", "W2", "U1", "U2"), (*cell.w, *cell.u), strict=True))
    assert stored.keys() == {f"{name}_quantized" for name in factors}
    for name, factor in factors.items():
        assert np.array_equal(stored[f"{name}_quantized"], int8.quantized(factor)[0])


def test_a_bounded_state_needs_fewer_operators() -> None:
    general = networks.network(classifier(nu=0.0))
    unit = general.unit_scale()
    assert len(step_of(unit, "float").recur) == len(step_of(general, "float").recur) - 2
    assert len(step_of(unit, "integers").recur) <= len(step_of(general, "integers").recur)


@variants
def test_a_step_says_which_cell_it_is_of(variant: str) -> None:
    (cell,) = networks.network(classifier(**VARIANTS[variant])).cells
    names = [FloatWriter(cell, prefix).step().name for prefix in ("", "l1b_")]
    kind = VARIANTS[variant]["kind"].title()
    assert names == [f"{kind}Step", f"{kind}Stepl1b"]


ends = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@settings(max_examples=200)
@given(ends, ends)
def test_levels_span_a_range_and_zero(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    levels = Levels.spanning(low, high)
    assert 0 <= levels.zero <= 255
    assert np.float32(levels.scale) == levels.scale, "stored in float32 without a change"
    first, last = levels.scale * -levels.zero, levels.scale * (255 - levels.zero)
    if max(high, 0) - min(low, 0) > 1e-30:
        assert first == pytest.approx(min(low, 0), abs=0.51 * levels.scale)
        assert last == pytest.approx(max(high, 0), abs=0.51 * levels.scale)


@pytest.mark.parametrize("ends", [(0.0, 0.0), (1e-45, 1e-44), (-1e-44, 0.0), (-3.0, -3.0), (5.0, 5.0)])
def test_levels_of_next_to_nothing_are_usable(ends: tuple[float, float]) -> None:
    levels = Levels.spanning(*ends)
    assert levels.scale >= np.finfo(np.float32).tiny
    assert 0 <= levels.zero <= 255


def test_levels_are_those_of_quantize_static() -> None:
    for low, high in np.random.default_rng(0).normal(size=(50, 2)):
        low, high = min(low, high), max(low, high)
        zero, scale = compute_scale_zp(np.array(low), np.array(high), np.array(0), np.array(255))
        found = Levels.spanning(low, high)
        assert found.scale == pytest.approx(float(scale), rel=1e-6)
        assert found.zero == int(zero)


@pytest.mark.parametrize("levels", [None, Levels(float(np.float32(0.01)), 30)])
def test_a_port_writes_and_reads(levels: Levels | None) -> None:
    port, op = Port("h", 3, levels), Op("v")
    port.read(op, port.write(op, "x"))
    x = np.array([[-1.0, -0.304, 0.0], [0.017, 2.25, 9.0]], np.float32)
    if levels is None:
        assert not op.nodes
        assert port.dtype == TensorProto.FLOAT
        assert port.zero.tolist() == [0.0]
        return
    op.Identity(op.nodes[-1].output[0], output="y")
    (found,) = networks.session(op.model("port", {"x": ["N", 3]}, {"y": ["N", 3]})).run(None, {"x": x})
    assert found == pytest.approx(np.array([[-0.3, -0.3, 0.0], [0.02, 2.25, 2.25]]), abs=1e-6)
    assert port.dtype == TensorProto.UINT8
    assert port.zero.tolist() == [30]
