"""The same integers in signed bytes: uint8 activations (U8S8) become int8 (S8S8), every level 128 lower."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn every uint8 tensor of a model into int8; what it means stays the same."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for graph in _graphs(made.graph):
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.UINT8:
                lowered = (numpy_helper.to_array(tensor).astype(np.int16) - 128).astype(np.int8)
                tensor.CopyFrom(numpy_helper.from_array(lowered, tensor.name))
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == TensorProto.UINT8:
                value.type.tensor_type.elem_type = TensorProto.INT8
    return made


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
