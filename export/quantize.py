"""int8: quantize the step once with onnxruntime's ``quantize_static``, then compose.

Scales are found on (x, h) pairs from real windows and shared over time by construction.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fastzoo.errors import ExportError
from fastzoo.export.frame import int8_weight
from fastzoo.export.graph import Op
from fastzoo.export.network import Floats, Network
from fastzoo.export.unrolled import split_step


def quantize_step(step: onnx.ModelProto, x: Floats, h: Floats) -> onnx.ModelProto:
    """A QDQ int8 version of a step: recurrent products in 8 bits, the state itself in fp32.

    Weights are int8, symmetric; activations uint8, with the range seen in calibration (U8S8: the fast form on x86).
    An 8-bit state would lose its small updates, so what is quantized is the product's copy of it. Samples reach far
    beyond what they mostly are, and 8 bits would swallow the small movements: the products that depend on ``x`` alone
    (one for all steps, once a layout has hoisted them) have int8 weights and fp32 arithmetic.

    Args:
        step: a step graph with inputs ``x`` and ``h``.
        x: normalised samples, [M, D].
        h: the states before them, [M, H].
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), quiet_logging():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "step.onnx"
        quantize_static(
            copy.deepcopy(step),  # it is moved to a temporary file and left without its weights
            path,
            _Pairs(x, h),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in split_step(step)[0]],
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return _input_weights_in_int8(_state_in_fp32(onnx.load(path)))


def _state_in_fp32(step: onnx.ModelProto) -> onnx.ModelProto:
    """Let only the products read the 8-bit copy of the state; ``quantize_static`` reroutes every reader to it."""
    copies = {node.output[0] for node in step.graph.node if node.input[:1] == ["h_QuantizeLinear_Output"]}
    for node in step.graph.node:
        if node.op_type != "MatMul":
            node.input[:] = ["h" if name in copies else name for name in node.input]
    return step


def _input_weights_in_int8(step: onnx.ModelProto) -> onnx.ModelProto:
    """The weights that ``quantize_static`` left alone, as int8 behind DequantizeLinear.

    Their products become Gemm with a bias of zero: from a MatMul onnxruntime makes MatMulNBits, which rounds the
    samples to 8 bits after all.
    """
    op = Op("w")
    left = {tensor.name: tensor for tensor in step.graph.initializer}
    for node in step.graph.node:
        if node.op_type == "MatMul" and node.input[1] in left:
            name = node.input[1]
            node.op_type = "Gemm"
            weight = int8_weight(op, name, numpy_helper.to_array(left[name]))
            node.input[1:] = [weight, op.constant("no_bias", np.zeros(1, np.float32))]
            step.graph.initializer.remove(left[name])
    step.graph.initializer.extend(op.constants.values())
    nodes = [*op.nodes, *step.graph.node]
    del step.graph.node[:]
    step.graph.node.extend(nodes)
    return step


def recurrent_inputs(network: Network, step: onnx.ModelProto, windows: Floats) -> tuple[Floats, Floats]:
    """What a step sees while it runs over windows, from running it: x [M, D] and h [M, H], M = windows x steps.

    Raises:
        ExportError: the state becomes infinite.
    """
    session = onnxruntime.InferenceSession(step.SerializeToString(), providers=["CPUExecutionProvider"])
    x = ((windows - network.mean) / network.std).transpose(1, 0, 2).astype(np.float32)  # [T, n, D]
    h = np.zeros((len(x) + 1, x.shape[1], network.cell.hidden_size), np.float32)  # [T + 1, n, H]
    for t, x_t in enumerate(x):
        (h[t + 1],) = session.run(None, {"x": x_t, "h": h[t]})
    if not np.isfinite(h).all():
        raise ExportError("the state overflows on the calibration windows; train again, with bounded nonlinearities")
    return x.reshape(-1, x.shape[-1]), h[:-1].reshape(-1, h.shape[-1])


@contextmanager
def quiet_logging() -> Iterator[None]:
    """quantize_static tells the root logger about preprocessing that a graph built from weights does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Pairs(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: Floats, h: Floats) -> None:
        self.feeds: Iterator[dict[str, Floats]] = iter([{"x": x, "h": h}])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self.feeds, None)
