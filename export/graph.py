"""A thin builder over onnx: nodes are written as expressions, ``op.Add(op.MatMul(x, W), b)``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

# onnxruntime 1.16 loads these, and with it every board image since 2023.
IR_VERSION = 8
OPSET = 17

FLOAT = TensorProto.FLOAT
Array = npt.NDArray[Any]


class Op:
    """Collects nodes and constants; ``op.Tanh(x)`` adds a node and returns the name of its output."""

    def __init__(self, prefix: str, constants: dict[str, onnx.TensorProto] | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {} if constants is None else constants
        self._fresh = (f"{prefix}{i}" for i in itertools.count())

    def name(self) -> str:
        """A name that nothing has yet."""
        return next(self._fresh)

    def __getattr__(self, op_type: str) -> Callable[..., str]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def add(*inputs: str, output: str | None = None, **attributes: Any) -> str:
            name = output or self.name()
            self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
            return name

        return add

    def split(self, x: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """``x`` in pieces of these sizes."""
        if len(sizes) == 1:
            return [x]
        names = [self.name() for _ in sizes]
        even = len(set(sizes)) == 1
        inputs = [x] if even else [x, self.constant(f"sizes_{'_'.join(map(str, sizes))}", np.array(sizes))]
        self.nodes.append(helper.make_node("Split", inputs, names, name=names[0], axis=axis))
        return names

    def constant(self, name: str, value: Array | np.generic | float) -> str:
        """A named constant, stored once; a plain number becomes float32.

        A name may be given again only with the same value.
        """
        array = np.asarray(value, np.float32) if isinstance(value, float) else np.asarray(value)
        tensor = numpy_helper.from_array(array, name)
        if self.constants.setdefault(name, tensor) != tensor:
            raise ValueError(f"two different constants are called {name!r}")
        return name

    def model(
        self,
        name: str,
        inputs: Mapping[str, list[Any]],
        outputs: Mapping[str, list[Any]],
        functions: Iterable[onnx.FunctionProto] = (),
    ) -> onnx.ModelProto:
        """The collected graph as a model with float inputs and outputs of the given shapes."""
        functions = list(functions)
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(key, FLOAT, shape) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(key, FLOAT, shape) for key, shape in outputs.items()],
            list(self.constants.values()),
        )
        domains = [helper.make_opsetid("", OPSET)]
        domains += [helper.make_opsetid(domain, 1) for domain in sorted({f.domain for f in functions})]
        return helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=domains, functions=functions, producer_name="fastzoo"
        )


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    """The initializers of a graph, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs once all local functions are inlined; other domains as ``domain::Operator``."""
    counts: dict[str, int] = {}
    for node in nodes((onnx.inliner.inline_local_functions(model) if model.functions else model).graph):
        key = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of loop bodies included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
