"""Every file is checked before it may be published: a file that fails is not written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto

from fastzoo import _session
from fastzoo.errors import BundleError, ExportError
from fastzoo.export.graph import IR_VERSION, OPSET, constants, operators
from fastzoo.export.network import Floats, Network

# Standard operators that every runtime of the last years has; a graph needs no other.
ALLOWED_OPERATORS = frozenset({
    "Add", "Clip", "Concat", "ConstantOfShape", "DequantizeLinear", "Div", "GRU", "Gemm", "HardSigmoid", "MatMul",
    "Mean", "Mul", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Split", "Sub",
    "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip

BATCH = 256  # windows per run
FP32_TOLERANCE = 1e-4  # largest difference of a logit from torch


@dataclass(frozen=True)
class Reference:
    """Windows [n, T, D] and torch's logits [n, C] for them."""

    x: Floats
    logits: Floats


@dataclass(frozen=True)
class Verification:
    """What was found; ``same_class`` is the share of windows with torch's class."""

    windows: int
    max_logit_difference: float
    same_class: float
    int8_weights: int


def verify(
    model: onnx.ModelProto, network: Network, precision: str, session: Mapping[str, str], reference: Reference
) -> Verification:
    """Check one file against its network and against torch.

    Args:
        model: the file's content.
        network: what it was built from.
        precision: ``"fp32"`` or ``"int8"``.
        session: the session config entries it is published with.
        reference: windows with torch's answer.

    Raises:
        ExportError: with all faults found.
    """
    faults = [*_form(model, network), *_int8(model, network, precision)]
    if not faults:
        logits, batch_faults = _answers(model, network, session, reference)
        faults += batch_faults
    if not faults:
        difference = float(np.abs(logits - reference.logits).max())
        if not np.isfinite(difference):
            faults.append("torch itself answers NaN or infinity")
        elif precision == "fp32" and difference > FP32_TOLERANCE:
            faults.append(f"its logits differ from torch's by {difference:.2g}, allowed are {FP32_TOLERANCE:.2g}")
    if faults:
        raise ExportError(f"the {precision} file {model.graph.name!r} failed verification: " + "; ".join(faults))
    same = float((logits.argmax(1) == reference.logits.argmax(1)).mean())
    return Verification(len(logits), difference, same, int8_count(model))


def _form(model: onnx.ModelProto, network: Network) -> list[str]:
    """Valid, of the promised versions, standard operators only, the promised inputs and outputs."""
    faults = []
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.checker.check_model(onnx.inliner.inline_local_functions(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return [f"onnx finds it invalid: {error}"]
    opset = next((entry.version for entry in model.opset_import if entry.domain == ""), None)
    if (model.ir_version, opset) != (IR_VERSION, OPSET):
        faults.append(f"IR {model.ir_version}, opset {opset} instead of {IR_VERSION}, {OPSET}")
    if foreign := sorted(operators(model).keys() - ALLOWED_OPERATORS):
        faults.append(f"operators outside the allowed list: {', '.join(foreign)}")
    shapes = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    wanted = {"x": ["N", network.steps, network.cell.input_size], "logits": ["N", network.num_classes]}
    if shapes != wanted:
        faults.append(f"inputs and outputs are {shapes} instead of {wanted}")
    return faults


def _int8(model: onnx.ModelProto, network: Network, precision: str) -> list[str]:
    """All weights in int8 or none: ``quantize_static`` can leave a graph in fp32 without a word."""
    matrices = network.unit_zeta().matrices() if precision == "int8" else {}
    wanted, found = sum(matrix.size for matrix in matrices.values()), int8_count(model)
    if found != wanted:
        return [f"{found} weights are stored in int8, expected are {wanted}"]
    stored = constants(model)
    return [
        f"the int8 weights of {name} are not the network's, rounded"
        for name, matrix in matrices.items()
        if np.abs(stored[f"{name}_quantized"] * stored[f"{name}_scale"] - matrix).max() > 0.51 * stored[f"{name}_scale"]
    ]


def int8_count(model: onnx.ModelProto) -> int:
    """How many numbers are stored as int8 in matrices."""
    return sum(
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2
    )


def answer(model: onnx.ModelProto, network: Network, session: Mapping[str, str], x: Floats) -> Floats:
    """Logits [n, C] of windows [n, T, D], from onnxruntime set up as the runtime sets it up."""
    contract = _session.Contract(network.steps, network.cell.input_size, network.num_classes)
    path = Path(f"{model.graph.name}.onnx")
    opened = _session.start(model.SerializeToString(), session, contract, path)
    parts = [_session.run(opened, x[i : i + BATCH], path) for i in range(0, len(x), BATCH)]
    logits: Floats = np.concatenate(parts)
    return logits


def _answers(
    model: onnx.ModelProto, network: Network, session: Mapping[str, str], reference: Reference
) -> tuple[Floats, list[str]]:
    """The file's logits for all windows, and whether one window alone gets the same, whatever the settings."""
    try:
        logits = answer(model, network, session, reference.x)
        alone = answer(model, network, session, reference.x[:1])
        default = answer(model, network, {}, reference.x[:1])
    except BundleError as error:
        return reference.logits, [str(error)]
    if logits.shape != reference.logits.shape:
        return logits, [f"logits of shape {logits.shape} instead of {reference.logits.shape}"]
    if not np.isfinite(logits).all():
        return logits, ["it answers NaN or infinity"]
    faults = []
    if np.abs(alone - logits[:1]).max() > FP32_TOLERANCE:
        faults.append("one window alone gets another answer than the same window in a batch")
    if np.abs(default - alone).max() > FP32_TOLERANCE:
        faults.append("it answers otherwise under onnxruntime's default settings")
    return logits, faults
