"""Every file is checked before it may be published: a file that fails is not written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
from onnx import TensorProto

from fastzoo import _session
from fastzoo.errors import BundleError, ExportError
from fastzoo.export import reference
from fastzoo.export.graph import IR_VERSION, OPSET, constants, operators
from fastzoo.export.kernels import kernels_of_a_step
from fastzoo.export.layouts import WEIGHTS, Form
from fastzoo.export.network import Floats, Network
from fastzoo.export.stepwise import state_size

# Standard operators that every runtime of the last years has; a graph needs no other.
ALLOWED_OPERATORS = frozenset({
    "Add", "Clip", "Concat", "ConstantOfShape", "DequantizeLinear", "Div", "Expand", "GRU", "Gemm", "HardSigmoid",
    "Identity", "LSTM", "MatMul", "Mul", "Neg", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Scan", "Shape",
    "Sigmoid", "Slice", "Split", "Sub", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip

BATCH = 256  # windows per run
STEP_WINDOWS = 64  # windows that the layout step runs over, T calls each
BATCHES = (1, 64)  # windows in a run must not change the answer
ALONE = 9  # windows that are looked at one by one
REFERENCE_WINDOWS = 2  # for onnx's own implementation in NumPy, which is slow
FP32_TOLERANCE = 1e-4  # largest difference of a logit from torch, and between files of the same arithmetic
# An activation that lies half-way between two levels may be rounded either way, and what follows from it may differ:
# of files with 8-bit activations, so large a part of the logits' range.
ROUNDING_TOLERANCE = 0.25


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
    reference_difference: float  # from onnx's reference evaluator, on a few windows
    unoptimised_difference: float  # from onnxruntime without graph optimisation
    kernels_per_step: Mapping[str, int]


def verify(model: onnx.ModelProto, network: Network, form: Form, reference: Reference) -> Verification:
    """Check one file against its network and against torch.

    Args:
        model: the file's content.
        network: what it was built from, in unit scale.
        form: what it is meant to be.
        reference: windows with torch's answer.

    Raises:
        ExportError: with all faults found.
    """
    faults = [*_form(model, network, form), *_int8(model, network, form)]
    if faults:
        raise _failure(form, faults)
    checked = _Checked(model, network, form, reference)
    if checked.faults:
        raise _failure(form, checked.faults)
    return checked.verification()


def _failure(form: Form, faults: list[str]) -> ExportError:
    return ExportError(f"the {form.precision} file {form.layout!r} failed verification: " + "; ".join(faults))


def _form(model: onnx.ModelProto, network: Network, form: Form) -> list[str]:
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
    if shapes != (wanted := _shapes(network, form.layout)):
        faults.append(f"inputs and outputs are {shapes} instead of {wanted}")
    return faults


def _shapes(network: Network, layout: str) -> dict[str, list[str | int]]:
    """The inputs and outputs that a layout promises."""
    inputs: dict[str, list[str | int]] = {"x": ["N", "T" if layout == "scan" else network.steps, network.input_size]}
    outputs: dict[str, list[str | int]] = {"logits": ["N", network.num_classes]}
    if layout == "step":
        state: list[str | int] = ["N", state_size(network)]
        inputs = {"x": ["N", network.input_size], "state": state}
        outputs["state_next"] = state
    return inputs | outputs


def _int8(model: onnx.ModelProto, network: Network, form: Form) -> list[str]:
    """All weights in int8 or none: a quantizer can leave a graph in fp32 without a word."""
    matrices = network.matrices() if form.scheme else {}
    wanted, found = sum(matrix.size for matrix in matrices.values()), int8_count(model)
    if found != wanted:
        return [f"{found} weights are stored in int8, expected are {wanted}"]
    stored, faults = constants(model), []
    for name, matrix in matrices.items():
        assert form.scheme is not None
        integers, scale = form.scheme.weights.quantized(matrix)
        if not np.array_equal(stored[f"{name}_quantized"], integers):
            faults.append(f"the int8 weights of {name} are not the network's, rounded")
        # A nonlinearity may have its factor, a power of two, in the scale: tanh(a) = 2 sigmoid(2 a) - 1.
        meant = np.multiply.outer(np.float32([0.5, 1, 2]), scale)  # type: ignore[arg-type]
        read = [value for key, value in stored.items() if key.startswith(f"{name}_scale")]
        if not read or not all(np.isin(value, meant).all() for value in read):
            faults.append(f"the scale of {name} is not that of its int8 weights")
    quantizes, rounds = "QuantizeLinear" in operators(model), form.scheme is not None and form.scheme.kind != WEIGHTS
    if quantizes != rounds:
        faults.append(
            f"activations are {'' if quantizes else 'not '}quantized, unlike in its scheme: {form.quantization}"
        )
    return faults


def int8_count(model: onnx.ModelProto) -> int:
    """How many numbers are stored as int8 in matrices."""
    return sum(
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2
    )


def answer(model: onnx.ModelProto, network: Network, form: Form, x: Floats) -> Floats:
    """Logits [n, C] of windows [n, T, D], from onnxruntime set up as the runtime sets it up."""
    if form.layout == "step":
        return _answer_stepwise(_plain_session(model, form.session), network, x)
    path = Path(form.file)
    contract = _session.Contract.of_windows(network.steps, network.input_size, network.num_classes)
    opened = _session.Backend("onnxruntime").start(model.SerializeToString(), form.session, contract, path)
    parts = [_session.run(opened, ["logits"], {"x": x[i : i + BATCH]}, path)[0] for i in range(0, len(x), BATCH)]
    logits: Floats = np.concatenate(parts)
    return logits


def _answer_stepwise(session: onnxruntime.InferenceSession, network: Network, x: Floats) -> Floats:
    return _stepwise(lambda feeds: session.run(["logits", "state_next"], feeds), network, x)


def _stepwise(run: Callable[[dict[str, Floats]], Sequence[Floats]], network: Network, x: Floats) -> Floats:
    """The head is linear: a window's logits are the mean of those of its last steps."""
    state = np.zeros((len(x), state_size(network)), np.float32)
    last = []
    for t in range(x.shape[1]):
        logits, state = run({"x": np.ascontiguousarray(x[:, t]), "state": state})
        last.append(logits)
    pooled: Floats = np.mean(last[-network.pool :], axis=0, dtype=np.float32)
    return pooled


def _plain_session(
    model: onnx.ModelProto, entries: Mapping[str, str], optimised: bool = True
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class _Checked:
    """A file's answers, and what is wrong with them."""

    def __init__(self, model: onnx.ModelProto, network: Network, form: Form, wanted: Reference) -> None:
        self.model, self.network, self.form = model, network, form
        count = STEP_WINDOWS if form.layout == "step" else len(wanted.x)
        self.x, self.wanted = wanted.x[:count], wanted.logits[:count]
        self.faults: list[str] = []
        try:
            self.logits = answer(model, network, form, self.x)
        except BundleError as error:
            self.faults.append(str(error))
            return
        if self.logits.shape != self.wanted.shape:
            self.faults.append(f"logits of shape {self.logits.shape} instead of {self.wanted.shape}")
        elif not np.isfinite(self.logits).all():
            self.faults.append("it answers NaN or infinity")
        elif not np.isfinite(self.wanted).all():
            self.faults.append("torch itself answers NaN or infinity")
        else:
            self.scale = max(1.0, float(np.ptp(self.wanted)))
            self.faults += self._faults()

    @property
    def rounds(self) -> bool:
        """Whether activations have 8 bits."""
        return self.form.scheme is not None and self.form.scheme.kind != WEIGHTS

    def _faults(self) -> Iterator[str]:
        tolerance = self.scale * (ROUNDING_TOLERANCE if self.rounds else FP32_TOLERANCE)
        self.difference = float(np.abs(self.logits - self.wanted).max())
        if self.form.scheme is None and self.difference > tolerance:
            yield f"its logits differ from torch's by {self.difference:.2g}, allowed are {tolerance:.2g}"
        for size in BATCHES:
            if self._depends_on_batch(size):
                yield f"{size} window(s) alone get another answer than in a larger batch"
        few, head = self.x[:REFERENCE_WINDOWS], self.logits[:REFERENCE_WINDOWS]
        self.of_reference = self._compare(self._by_reference(few), head)
        self.unoptimised = max(
            self._compare(self._by(entries, optimised, few), head)
            for entries, optimised in itertools.product([{}, self.form.session], [False, True])
        )
        for name, difference in (
            ("onnx's reference evaluator", self.of_reference),
            ("onnxruntime with other settings", self.unoptimised),
        ):
            if difference > tolerance:
                yield f"{name} answers otherwise, by {difference:.2g}; allowed are {tolerance:.2g}"

    def _depends_on_batch(self, size: int) -> bool:
        """Of windows whose activations are rounded, one may have lain near a border; most must not change."""
        count = ALONE if size == 1 else size
        opened = _plain_session(self.model, self.form.session)
        parts = [self._run(opened, self.x[i : i + size]) for i in range(0, min(count, len(self.x)), size)]
        alone = np.concatenate(parts)
        changes = np.abs(alone - self.logits[: len(alone)]).max(axis=1)  # [n]
        worst = np.median(changes) if self.rounds else changes.max()
        return bool(worst > self.scale * FP32_TOLERANCE)

    def _compare(self, one: Floats, other: Floats) -> float:
        return float(np.abs(one - other).max())

    def _by(self, entries: Mapping[str, str], optimised: bool, x: Floats) -> Floats:
        return self._run(_plain_session(self.model, entries, optimised), x)

    def _run(self, session: onnxruntime.InferenceSession, x: Floats) -> Floats:
        if self.form.layout == "step":
            return _answer_stepwise(session, self.network, x)
        logits: Floats = session.run(["logits"], {"x": x})[0]
        return logits

    def _by_reference(self, x: Floats) -> Floats:
        if self.form.layout != "step":
            return reference.evaluate(self.model, {"x": x})[0]
        return _stepwise(lambda feeds: reference.evaluate(self.model, feeds), self.network, x)

    def verification(self) -> Verification:
        """For the record."""
        return Verification(
            windows=len(self.x),
            max_logit_difference=self.difference,
            same_class=float((self.logits.argmax(1) == self.wanted.argmax(1)).mean()),
            int8_weights=int8_count(self.model),
            reference_difference=self.of_reference,
            unoptimised_difference=self.unoptimised,
            kernels_per_step=kernels_of_a_step(self.model, self.form.layout, self.form.session, self.network.count),
        )
