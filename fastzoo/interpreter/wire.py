"""Read an ``.onnx`` file: protobuf's wire format, and of ONNX's messages what a graph needs to run.

Bytes are hostile until shown otherwise: lengths, numbers of values and depths are bounded, and nothing is followed out
of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.errors import BundleError

Array = npt.NDArray[Any]

DEEPEST = 8  # graphs in graphs
LARGEST = 1 << 26  # values of one tensor
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"), 2: np.dtype("u1"), 3: np.dtype("i1"), 6: np.dtype("<i4"), 7: np.dtype("<i8"),
    9: np.dtype("?"), 11: np.dtype("<f8"),
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """An input or output: sizes are numbers, or names where they are open."""

    name: str
    type: str
    shape: list[int | str]


@dataclass(frozen=True)
class Node:
    """One operator, or the call of a function."""

    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]  # numbers, bytes, lists of them, arrays, graphs


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can run; a function has neither constants nor types."""

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    constants: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """A whole file."""

    graph: Graph
    functions: Mapping[tuple[str, str], Graph]  # by domain and name
    opset: int


def read(data: bytes) -> File:
    """The content of an ``.onnx`` file.

    Raises:
        BundleError: it is damaged, or holds what no exporter of fastzoo's writes.
    """
    try:
        message = _fields(memoryview(data))
        opsets = {_text(of, 1): _number(of, 2) for of in map(_fields, message.get(8, []))}
        functions = [_function(_fields(of)) for of in message.get(25, [])]
        return File(_graph(_fields(_one(message, 7)), 0), dict(functions), opsets.get("", 0))
    except (ValueError, TypeError, IndexError, KeyError, struct.error, OverflowError) as error:
        raise BundleError(f"the file is no ONNX model, or damaged ({error})") from None


def _fields(data: memoryview) -> dict[int, list[Any]]:
    """A message: the values of each field by its number; ints, or views of bytes."""
    if not isinstance(data, memoryview):
        raise ValueError("a number where a message was expected")
    found: dict[int, list[Any]] = {}
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value: Any
        if kind == 0:
            value, position = _varint(data, position)
        elif kind in (1, 2, 5):
            length, position = _varint(data, position) if kind == 2 else ({1: 8, 5: 4}[kind], position)
            if length > len(data) - position:
                raise ValueError("a field is longer than the file")
            value, position = data[position : position + length], position + length
        else:
            raise ValueError(f"wire type {kind}")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number without end")


def _signed(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes where a number was expected")
    number: int = value & ((1 << 64) - 1)
    return number - (1 << 64) if number >> 63 else number


def _one(message: Mapping[int, list[Any]], number: int) -> Any:
    if number not in message:
        raise ValueError(f"field {number} is missing")
    return message[number][-1]


def _number(message: Mapping[int, list[Any]], number: int) -> int:
    return _signed(message[number][-1]) if number in message else 0


def _text(message: Mapping[int, list[Any]], number: int) -> str:
    return str(bytes(message[number][-1]), "utf-8") if number in message else ""


def _texts(message: Mapping[int, list[Any]], number: int) -> tuple[str, ...]:
    return tuple(str(bytes(value), "utf-8") for value in message.get(number, []))


def _numbers(message: Mapping[int, list[Any]], number: int) -> list[int]:
    """Repeated integers, packed or not."""
    found = []
    for value in message.get(number, []):
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        position = 0
        while position < len(value):
            one, position = _varint(value, position)
            found.append(_signed(one))
    return found


def _floats(message: Mapping[int, list[Any]], number: int) -> list[float]:
    return [float(one) for value in message.get(number, []) for one in np.frombuffer(value, "<f4")]


def _graph(message: Mapping[int, list[Any]], depth: int) -> Graph:
    if depth > DEEPEST:
        raise ValueError("graphs are nested too deeply")
    if message.get(15):
        raise ValueError("sparse constants")
    return Graph(
        nodes=tuple(_node(_fields(of), depth) for of in message.get(1, [])),
        inputs=tuple(_value(_fields(of)) for of in message.get(11, [])),
        outputs=tuple(_value(_fields(of)) for of in message.get(12, [])),
        constants=dict(_tensor(_fields(of)) for of in message.get(5, [])),
    )


def _function(message: Mapping[int, list[Any]]) -> tuple[tuple[str, str], Graph]:
    if message.get(6) or message.get(11):
        raise ValueError("a function with attributes")
    names = [[Value(name, "", []) for name in _texts(message, number)] for number in (4, 5)]
    nodes = tuple(_node(_fields(of), 1) for of in message.get(7, []))
    return (_text(message, 10), _text(message, 1)), Graph(nodes, tuple(names[0]), tuple(names[1]))


def _node(message: Mapping[int, list[Any]], depth: int) -> Node:
    attributes = dict(_attribute(_fields(of), depth) for of in message.get(5, []))
    return Node(_text(message, 4), _text(message, 7), _texts(message, 1), _texts(message, 2), attributes)


def _attribute(message: Mapping[int, list[Any]], depth: int) -> tuple[str, Any]:
    name, kind = _text(message, 1), _number(message, 20)
    if kind == 1:
        return name, float(struct.unpack("<f", _one(message, 2))[0])
    if kind == 2:
        return name, _number(message, 3)
    if kind == 3:
        return name, _text(message, 4)
    if kind == 4:
        return name, _tensor(_fields(_one(message, 5)))[1]
    if kind == 5:
        return name, _graph(_fields(_one(message, 6)), depth + 1)
    if kind == 6:
        return name, _floats(message, 7)
    if kind == 7:
        return name, _numbers(message, 8)
    if kind == 8:
        return name, list(_texts(message, 9))
    raise ValueError(f"the attribute {name!r} is of a kind {kind} that is not known here")


def _value(message: Mapping[int, list[Any]]) -> Value:
    tensor = _fields(_one(_fields(_one(message, 2)), 1)) if 2 in message else {}
    shape: list[int | str] = []
    for of in map(_fields, _fields(_one(tensor, 2)).get(1, [])) if 2 in tensor else ():
        shape.append(_number(of, 1) if 1 in of else _text(of, 2))
    kind = "tensor(float)" if _number(tensor, 1) == 1 else f"tensor({_number(tensor, 1)})"
    return Value(_text(message, 1), kind, shape)


def _tensor(message: Mapping[int, list[Any]]) -> tuple[str, Array]:
    name, dims, kind = _text(message, 8), _numbers(message, 1), _number(message, 2)
    if message.get(13) or _number(message, 14):
        raise ValueError(f"the constant {name!r} lies in another file")
    if kind not in DTYPES:
        raise ValueError(f"the constant {name!r} is of a type {kind} that is not known here")
    count = 1
    for size in dims:
        if size < 0:
            raise ValueError(f"the constant {name!r} has a negative size")
        count *= size
        if count > LARGEST:
            raise ValueError(f"the constant {name!r} is too large")
    dtype = DTYPES[kind]
    array = np.frombuffer(_one(message, 9), dtype) if 9 in message else np.array([*_values(message, dtype)], dtype)
    if array.size != count:
        raise ValueError(f"the constant {name!r} has {array.size} values for the shape {dims}")
    return name, array.reshape(dims)


def _values(message: Mapping[int, list[Any]], dtype: np.dtype[Any]) -> Iterator[float | int]:
    if dtype == np.float32:
        yield from _floats(message, 4)
    elif dtype == np.float64:
        yield from (float(one) for value in message.get(10, []) for one in np.frombuffer(value, "<f8"))
    else:
        yield from _numbers(message, 7 if dtype == np.int64 else 5)
