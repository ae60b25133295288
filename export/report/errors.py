"""Where an int8 file departs from fp32: both run over the same windows, and their tensors are compared step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from fastzoo.export.calibrate import Calibration
from fastzoo.export.graph import Op
from fastzoo.export.integers import CLIP, SIGMOID, IntegerWriter, Value
from fastzoo.export.layouts import INTEGERS, WEIGHTS, Builder, Form, Scheme
from fastzoo.export.network import Cell, Floats, Network
from fastzoo.export.report.pictures import MOVES, SHORT, known, numbered, of_x
from fastzoo.export.step import Levels, Step
from fastzoo.export.weights import Int8

WINDOWS = 64  # at most so many are compared


class Watched(NamedTuple):
    """A tensor and what its bytes mean; None: it is float32."""

    name: str
    levels: Levels | None = None


class Pair(NamedTuple):
    """A tensor as people read it, and where it is found in the step of fp32 and in that of int8."""

    label: str
    exact: Watched
    rounded: Watched
    state: bool = False


@dataclass(frozen=True)
class Trace:
    """The signal and the noise of one tensor at each step, summed over windows and units."""

    label: str
    signal: Floats  # [T], squares
    noise: Floats  # [T]
    state: bool = False

    @property
    def sqnr(self) -> Floats:
        """In dB at each step: infinite where both agree, NaN where fp32 is all zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = 10 * np.log10(self.signal / self.noise)
        found[self.signal == 0] = np.nan
        return found

    @property
    def finite(self) -> Floats:
        """The steps where it is a number."""
        every = self.sqnr
        return every[np.isfinite(every)]

    @property
    def mean(self) -> float:
        """Over the steps; infinite where fp32 and int8 agree."""
        return float(self.finite.mean()) if len(self.finite) else float("inf")

    @property
    def worst(self) -> tuple[float, int]:
        """The least, and at which step."""
        every = np.where(np.isfinite(self.sqnr), self.sqnr, np.inf)
        at = int(every.argmin())
        return float(every[at]), at

    @property
    def noise_to_signal(self) -> float:
        """Over all steps together."""
        return float(self.noise.sum() / max(self.signal.sum(), 1e-300))


def traces(builder: Builder, scheme: Scheme | None, windows: Floats) -> list[list[Trace]]:
    """Of every cell, in the order of the network, states first.

    Args:
        builder: of the files.
        scheme: what is compared with fp32; None compares fp32 with itself.
        windows: raw windows [n, T, D].
    """
    network = builder.network
    every = slice(None, None, -(-len(windows) // WINDOWS))
    x: Floats = network.read(windows[every]).astype(np.float32)
    exact_x, rounded_x, found = x, x, []
    ways = network.directions
    for layer in range(len(network.layers)):
        outputs: list[tuple[Floats, Floats]] = []
        for way in range(ways):
            back = slice(None, None, -1 if way else 1)
            exact, rounded, pairs = _steps(builder, scheme, layer * ways + way)
            entries = Form("int8", "scan", scheme).session if scheme else {}
            one = _run(exact, exact_x[back], [pair.exact for pair in pairs], {})
            other = _run(rounded, rounded_x[back], [pair.rounded for pair in pairs], entries)
            found.append([
                Trace(pair.label, *_compared(one[pair.exact.name], other[pair.rounded.name]), pair.state)
                for pair in pairs
            ])  # fmt: skip
            outputs.append((one[exact.following[0]][back], other[rounded.following[0]][back]))
        exact_x, rounded_x = (np.concatenate(side, axis=2) for side in zip(*outputs, strict=True))
    return found


def _compared(exact: Floats, rounded: Floats) -> tuple[Floats, Floats]:
    one, other = exact.astype(np.float64), rounded.astype(np.float64)
    return (one**2).sum(axis=(1, 2)), ((one - other) ** 2).sum(axis=(1, 2))


def _steps(builder: Builder, scheme: Scheme | None, index: int) -> tuple[Step, Step, list[Pair]]:
    """The step of fp32, that of int8, and which tensors of both mean the same."""
    if scheme is not None and scheme.kind == INTEGERS:
        return _integers(builder.network, builder.windows, scheme, index)
    exact, rounded = builder.steps(None)[index], builder.steps(scheme)[index]
    return exact, rounded, [*_states(exact, rounded), *_operators(exact, rounded, scheme)]


def _states(exact: Step, rounded: Step) -> Iterator[Pair]:
    for port, one, other, wide in zip(rounded.states, exact.following, rounded.following, exact.states, strict=True):
        yield Pair(wide.name.removeprefix(exact.x[:-1]), Watched(one), Watched(other, port.levels), True)


def _operators(exact: Step, rounded: Step, scheme: Scheme | None) -> Iterator[Pair]:
    """Steps of the same equation in the same order; nothing where they are not."""
    one, other = list(_computed(exact)), list(_computed(rounded))
    if [kind for kind, _ in one] != [kind for kind, _ in other]:
        return
    named, step = (exact, one) if scheme is None or scheme.kind == WEIGHTS else (rounded, other)
    operators = {name: node.op_type for node in named.recur for name in node.output}
    numbers, bytes_of = numbered(named), _bytes(rounded)
    for port in exact.states:
        if (read := bytes_of.get(port.name)) is not None:
            short = port.name.removeprefix(exact.x[:-1])
            yield Pair(f"{short}, as it is read in 8 bits", Watched(port.name), read)
    following = {*exact.following}
    for (_, wide), (_, narrow), (_, name) in zip(one, other, step, strict=True):
        if wide and narrow and name and wide not in following:
            label = f"{operators[name]} {numbers[name]}".strip()
            yield Pair(label, Watched(wide), bytes_of.get(narrow, Watched(narrow)))


def _computed(step: Step) -> Iterator[tuple[str, str | None]]:
    """Operators and what they make, whether the addition stands in a Gemm or beside it."""
    for node in step.recur:
        if node.op_type == "Gemm":
            tensor = step.constants.get(node.input[2])
            adds = tensor is None or numpy_helper.to_array(tensor).any()
            yield "MatMul", None if adds else node.output[0]
            if adds:
                yield "Add", node.output[0]
        elif node.op_type not in SHORT and node.op_type not in MOVES:
            yield node.op_type, node.output[0]


def _bytes(step: Step) -> dict[str, Watched]:
    """The bytes that a float tensor becomes."""
    found = {}
    for node in step.recur:
        if node.op_type == "QuantizeLinear":
            scale, zero = (numpy_helper.to_array(step.constants[name]) for name in node.input[1:3])
            found[node.input[0]] = Watched(node.output[0], Levels(float(scale), int(zero)))
    return found


class _Noted(IntegerWriter):
    """Remembers all its tensors of bytes by key, whether it writes bytes or their twins in float32."""

    def __init__(self, cell: Cell, prefix: str, int8: Int8, levels: Mapping[str, Levels] | None) -> None:
        super().__init__(cell, prefix, int8, levels)
        self.noted: dict[str, tuple[str, Value]] = {}

    def _bytes(self, real: str, key: str, levels: Levels | None = None, op: Op | None = None) -> Value:
        value = super()._bytes(real, key, levels, op)
        if key or levels in (SIGMOID, CLIP):
            self.noted[key or self._key("curve")] = (real, value)
        return value


def _integers(network: Network, windows: Floats, scheme: Scheme, index: int) -> tuple[Step, Step, list[Pair]]:
    cell, prefix = network.cells[index], network.prefix(index)
    plain: Any = IntegerWriter(cell, prefix, scheme.weights, None)
    levels = Calibration(network, windows, scheme.method).levels(index, plain)
    twin = _Noted(cell, prefix, scheme.weights, None)
    writer = _Noted(cell, prefix, scheme.weights, levels)
    exact, rounded = twin.step(), writer.step()
    operators = {name: node.op_type for node in rounded.recur for name in node.output}
    driven = of_x(rounded)
    numbers, following = numbered(rounded), {*exact.following}
    pairs = list(_states(exact, rounded))
    for key, (real, value) in writer.noted.items():
        if key in twin.noted and twin.noted[key][0] not in following:
            label = driven.get(value.name) or f"{operators[real]} {numbers[real]}".strip()
            pairs.append(Pair(label, Watched(twin.noted[key][0]), Watched(value.name, value.levels)))
    return exact, rounded, pairs


def _run(step: Step, x: Floats, watched: Sequence[Watched], entries: Mapping[str, str]) -> dict[str, Floats]:
    """What tensors hold at each step, [T, n, k], over ``x`` [T, n, D]; states that are watched, before the step."""
    model, session = _session(step, watched, entries)
    names = [value.name for value in model.graph.output]
    state = {port.name: np.full((x.shape[1], port.size), port.zero[0]) for port in step.states}
    levels = {name: levels for name, levels in watched if levels is not None}
    levels |= {name: port.levels for name, port in zip(step.following, step.states, strict=True) if port.levels}
    held: dict[str, list[Floats]] = {name: [] for name in (*state, *names)}
    for x_t in x:
        found = dict(zip(names, session.run(names, {step.x: np.ascontiguousarray(x_t), **state}), strict=True))
        for name, value in {**state, **found}.items():
            held[name].append(value)
        state = {port.name: found[name] for port, name in zip(step.states, step.following, strict=True)}
    return {name: _real(np.stack(values), levels.get(name)) for name, values in held.items() if values}


def _real(values: Floats, levels: Levels | None) -> Floats:
    if levels is None:
        return values
    return (values.astype(np.float32) - np.float32(levels.zero)) * np.float32(levels.scale)


def _session(
    step: Step, watched: Sequence[Watched], entries: Mapping[str, str]
) -> tuple[onnx.ModelProto, onnxruntime.InferenceSession]:
    model, tensors = step.model(), known(step)
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    for name in dict.fromkeys(tensor.name for tensor in watched):
        if name not in there:
            model.graph.output.append(helper.make_tensor_value_info(name, tensors[name].dtype, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return model, onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def schemes_of(forms: Sequence[Form]) -> list[Scheme]:
    """What int8 files compute, weights alone first: with them the share of activations is told apart."""
    found = list(dict.fromkeys(replace(form.scheme, signed=False) for form in forms if form.scheme))
    if found and all(scheme.kind != WEIGHTS for scheme in found):
        found.append(Scheme(WEIGHTS, per_channel=found[0].per_channel))
    return sorted(found, key=lambda scheme: scheme.kind != WEIGHTS)
