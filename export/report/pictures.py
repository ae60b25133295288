"""What is drawn of a step: its operators as they are written, or the kernels that a runtime makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from fastzoo.export.kernels import FREE
from fastzoo.export.report.diagram import Box, Chip, Diagram, Wire
from fastzoo.export.step import Step

BYTES = (TensorProto.UINT8, TensorProto.INT8)
SHORT = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ"}
MOVES = frozenset({"Split", "Concat", "Slice", "Transpose", "Expand", "Unsqueeze", "Squeeze", *FREE})
PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "MatMulNBits")
CURVES = ("Sigmoid", "Tanh", "Relu", "Clip", "HardSigmoid")


@dataclass(frozen=True)
class Known:
    """A tensor's type and shape; None where it is open."""

    dtype: int
    shape: tuple[int | None, ...]

    @property
    def size(self) -> str:
        """Its last axis, as text."""
        return "" if not self.shape or self.shape[-1] is None else str(self.shape[-1])


def known(step: Step) -> dict[str, Known]:
    """Every tensor of a step."""
    graph = onnx.shape_inference.infer_shapes(step.model()).graph
    found = {tensor.name: Known(tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
        found[value.name] = Known(kind.elem_type, shape)
    return found


def numbered(step: Step) -> dict[str, str]:
    """The number of each operator among its like, "" for the only one: by its outputs, and by the bytes of these."""
    nodes = [node for node in (*step.project, *step.recur) if node.op_type not in SHORT]
    like: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        like.setdefault(node.op_type, []).append(node)
    numbers = {
        name: str(i) if len(same) > 1 else ""
        for same in like.values()
        for i, node in enumerate(same, 1)
        for name in node.output
    }
    for node in (*step.project, *step.recur):
        if node.op_type == "QuantizeLinear" and node.input[0] in numbers:
            numbers[node.output[0]] = numbers[node.input[0]]
    return numbers


def of_step(step: Step) -> Diagram:
    """All operators of a step as it is written, but those on weights alone: what they make is a chip."""
    inputs = {step.x: "x", **{port.name: _short(step, port.name) for port in step.states}}
    outputs = {name: f"{_short(step, port.name)}\u2032" for name, port in zip(step.following, step.states, strict=True)}
    draw = _Draw(step, {tensor.name: tensor for tensor in step.constants.values()})
    return draw.diagram([*step.project, *step.recur], inputs, outputs)


def of_kernels(step: Step, model: onnx.ModelProto, number: int) -> Diagram | None:
    """The kernels of a step in an optimised file of the layout scan; None where it has no such loop.

    Args:
        step: what the file was built from.
        model: as :func:`fastzoo.export.kernels.optimised` returns it.
        number: which of the file's loops.
    """
    bodies = [attribute.g for node in model.graph.node for attribute in node.attribute if attribute.HasField("g")]
    named = [body for body in bodies if body.name == step.name]
    body = named[0] if len(named) == 1 else bodies[number] if number < len(bodies) else None
    if body is None:
        return None
    alias = {node.output[0]: node.input[0] for node in body.node if node.op_type in FREE}
    nodes = []
    for node in body.node:
        if node.op_type not in FREE:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [alias.get(name, name) for name in node.input]
            nodes.append(copy)
    names = [value.name for value in body.input]
    texts = [_short(step, port.name) for port in step.states]
    texts += of_x(step).values()
    following = [alias.get(value.name, value.name) for value in body.output]
    outputs = {name: f"{text}\u2032" for name, text in zip(following, texts[: len(step.states)], strict=False)}
    constants = {tensor.name: tensor for tensor in (*model.graph.initializer, *body.initializer)}
    return _Draw(step, constants).diagram(nodes, dict(zip(names, texts, strict=False)), outputs)


def of_x(step: Step) -> dict[str, str]:
    """What ``recur`` reads of x, as people read it."""
    several = len(step.driven) > 1
    return {port.name: f"from x {i}" if several else "from x" for i, port in enumerate(step.driven, 1)}


def _short(step: Step, name: str) -> str:
    """Without the prefix of a cell."""
    return name.removeprefix(step.x[:-1])


class _Draw:
    def __init__(self, step: Step, constants: Mapping[str, onnx.TensorProto]) -> None:
        self.step, self.constants = step, constants
        self.known, self.numbers = known(step), numbered(step)
        self.origins: dict[str, list[str]] = {
            name: [name] for name, tensor in step.constants.items() if len(tensor.dims) == 2
        }
        for node in step.shared:
            found = dict.fromkeys(origin for name in node.input for origin in self.origins.get(name, []))
            self.origins.update({name: list(found) for name in node.output})
        self.shared = {name for node in step.shared for name in node.output}

    def diagram(self, nodes: Sequence[onnx.NodeProto], inputs: dict[str, str], outputs: dict[str, str]) -> Diagram:
        """These nodes between pills for inputs and outputs."""
        made = {name for node in nodes for name in node.output}
        read = {name for node in nodes for name in node.input}
        flowing = made | inputs.keys()
        of_x = self._of_x(nodes, inputs)
        boxes = [
            Box(f"in {name}", text, "pill", (), (name,), hint=f"{text}: {self._what(name)}")
            for name, text in inputs.items()
            if name in read or name in outputs
        ]
        boxes += [self._box(node, flowing, node.output[0] in of_x) for node in nodes]
        boxes += [
            Box(f"out {text}", text, "pill", (name,), hint=f"{text}: {self._what(name)}", late=True)
            for name, text in outputs.items()
        ]
        wires = {name: self._wire(name) for name in flowing}
        return Diagram(boxes, wires)

    def _of_x(self, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, str]) -> set[str]:
        """What does not depend on a state."""
        states = {port.name for port in self.step.states}
        depends = states & inputs.keys() if self.step.x in inputs else set(inputs)
        for node in nodes:
            if depends & set(node.input):
                depends.update(node.output)
        return {name for node in nodes for name in node.output if name not in depends}

    def _box(self, node: onnx.NodeProto, flowing: set[str], of_x: bool) -> Box:
        operator = node.op_type
        inputs = list(dict.fromkeys(name for name in _data(node) if name in flowing))
        over, title = "", SHORT.get(operator, operator)
        for family in ("QLinear", "Fused"):
            if operator.startswith(family) and operator != family:
                over, title = family, operator.removeprefix(family)
        plain = title.removeprefix("Q")
        if operator in SHORT:
            kind = "convert"
        elif plain in PRODUCTS:
            kind = "projected" if of_x else "product"
        else:
            kind = "curve" if plain in CURVES else "move" if plain in MOVES else "each"
        return Box(
            node.output[0], title, kind, tuple(inputs), tuple(node.output), tuple(self._chips(node, flowing)), over,
            self.numbers.get(node.output[0], ""), f"{operator}: " + ", ".join(map(self._what, node.output)),
        )  # fmt: skip

    def _chips(self, node: onnx.NodeProto, flowing: set[str]) -> Iterator[Chip]:
        """Its weights, and other constants in small."""
        for name in _data(node):
            if name in flowing or not name:
                continue
            found = self.known.get(name)
            tensor = self.constants.get(name)
            if tensor is not None:
                found = Known(tensor.data_type, tuple(tensor.dims))
            if found is None or found.dtype == TensorProto.INT64:
                continue
            dims = found.shape
            if len(dims) == 2 and dims[0] != 1:
                origins = "".join(dict.fromkeys(map(self._weight, self.origins.get(name, [name]))))
                yield Chip(f"{origins} {dims[0]}\u00d7{dims[1]}", "int8" if self._stored_in_bytes(name) else "weight")
            elif dims and max(d or 0 for d in dims) > 1:
                yield Chip(f"+ b {dims[-1]}" if node.op_type != "Mul" else f"\u00d7 {dims[-1]}", "bias")
            elif tensor is not None and (value := _value(tensor)) is not None:
                yield Chip(f"{value:.4g}".replace("-", "\u2212"), "bias")

    def _stored_in_bytes(self, name: str) -> bool:
        return any(self.step.constants[origin].data_type in BYTES for origin in self.origins.get(name, []))

    def _weight(self, name: str) -> str:
        return _short(self.step, name).removesuffix("_quantized")

    def _wire(self, name: str) -> Wire:
        found = self.known.get(name)
        return Wire() if found is None else Wire(found.size, "bytes" if found.dtype in BYTES else "floats")

    def _what(self, name: str) -> str:
        found = self.known.get(name)
        if found is None:
            return name
        return f"{name} [N, {found.size or '?'}] {TensorProto.DataType.Name(found.dtype).lower()}"


def _data(node: onnx.NodeProto) -> list[str]:
    """Inputs but scales and zero points."""
    if node.op_type in SHORT:
        return list(node.input[:1])
    if node.op_type == "QGemm":
        return list(node.input[:7:3])
    if node.op_type.startswith("QLinear"):
        return list(node.input[: 4 if len(node.input) > 5 else 1 : 3])
    return list(node.input)


def _value(tensor: onnx.TensorProto) -> float | None:
    """Of a single number in floats that is not zero."""
    array: npt.NDArray[np.float32] = numpy_helper.to_array(tensor)
    if array.size != 1 or array.dtype != np.float32 or not array.any():
        return None
    return float(array.reshape(()))
