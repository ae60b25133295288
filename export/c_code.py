"""A step's nodes as C: vectors of known size, products as calls, what is done element by element as one loop.

Knows nothing of cells or files: :mod:`fastzoo.export.c` puts the functions together.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import Template
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fastzoo.errors import ExportError
from fastzoo.export.graph import Array
from fastzoo.export.network import Floats

WIDTH = 110  # columns of a line


# How C writes things.


def utf8(text: str) -> bytes:
    """The bytes that a C string of this text has."""
    return text.encode("utf-8", "replace")  # a lone surrogate is no character


def string_literal(text: str) -> str:
    """A literal, in ASCII, that is safe in comments too: it ends none and begins none, and has no trigraphs."""
    escaped = []
    before = ""
    for byte in utf8(text):
        letter = chr(byte)
        if letter in '"\\' or before + letter == "??":
            escaped.append("\\" + letter)
        elif 32 <= byte < 127 and before + letter not in ("*/", "/*"):
            escaped.append(letter)
        else:
            escaped.append(f"\\{byte:03o}")
        before = letter
    return f'"{"".join(escaped)}"'


def number(value: float) -> str:
    """A float32 with the 9 digits that tell it from all others."""
    if not math.isfinite(value):
        raise ExportError(f"a weight is {value}, which is not finite; train the network again")
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def identifier(name: str) -> str:
    """A name in a graph as a part of a name in C."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


SUM, PRODUCT, ATOM = range(3)  # how tightly an expression holds together


class Expression(NamedTuple):
    """C for one element of a tensor."""

    text: str
    holds: int = ATOM

    def within(self, holds: int) -> str:
        """The text, in brackets where what is around it holds more tightly."""
        return self.text if self.holds >= holds else f"({self.text})"


def _infix(sign: str, holds: int) -> Callable[..., Expression]:
    """Of two operands. Sums on the right stay in brackets: rounding depends on the order."""
    return lambda a, b: Expression(f"{a.within(holds)} {sign} {b.within(holds + 1)}", holds)


def _hard_sigmoid(a: Expression, alpha: float = 0.2, beta: float = 0.5) -> Expression:
    return Expression(f"${{name}}_clip({number(alpha)} * {a.within(PRODUCT)} + {number(beta)}, 0.0f, 1.0f)")


# What is done to each element, by ONNX's operator.
ELEMENTWISE: dict[str, Callable[..., Expression]] = {
    "Add": _infix("+", SUM),
    "Sub": _infix("-", SUM),
    "Mul": _infix("*", PRODUCT),
    "Div": _infix("/", PRODUCT),
    "Neg": lambda a: Expression(f"-{a.within(ATOM)}", PRODUCT),
    "Tanh": lambda a: Expression(f"tanhf({a.text})"),
    "Sigmoid": lambda a: Expression(f"${{name}}_sigmoid({a.text})"),
    "HardSigmoid": _hard_sigmoid,
    "Clip": lambda a, low, high: Expression(f"${{name}}_clip({a.text}, {low.text}, {high.text})"),
    "Relu": lambda a: Expression(f"${{name}}_relu({a.text})"),
}

# What these and the products call; a file has those that it needs.
HELPERS = {
    "sigmoid": """\
static float ${name}_sigmoid(float a)
{
    return 1.0f / (1.0f + expf(-a));
}
""",
    "clip": """\
static float ${name}_clip(float a, float low, float high)
{
    return a < low ? low : a > high ? high : a;
}
""",
    "relu": """\
static float ${name}_relu(float a)
{
    return a < 0.0f ? 0.0f : a;
}
""",
}
MULTIPLY = Template("""\
/* y [n] = x [m] w, where w is m rows of n numbers, `stride` numbers apart.
 * Four rows at a time, element by element: compilers make vector instructions of it without reordering sums. */
static void ${name}_${multiply}(const float *x, int m, const ${type} *w, int stride, float *y, int n)
{
    for (int j = 0; j < n; ++j)
        y[j] = 0.0f;
    for (; m >= 4; m -= 4, x += 4, w += 4 * stride) {
        const ${type} *const w1 = w + stride, *const w2 = w1 + stride, *const w3 = w2 + stride;
        const float x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
        for (int j = 0; j < n; ++j)
            y[j] += x0 * ${as}w[j] + x1 * ${as}w1[j] + x2 * ${as}w2[j] + x3 * ${as}w3[j];
    }
    for (; m > 0; --m, ++x, w += stride) {
        const float x0 = x[0];
        for (int j = 0; j < n; ++j)
            y[j] += x0 * ${as}w[j];
    }
}
""")
HELPERS["multiply"] = MULTIPLY.safe_substitute({"multiply": "multiply", "type": "float", "as": ""})
HELPERS["multiply_int8"] = MULTIPLY.safe_substitute({"multiply": "multiply_int8", "type": "int8_t", "as": "(float)"})


class Constants:
    """The constant arrays of a file, by the name they have in the graph."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}

    def store(self, name: str, values: Array) -> str:
        """The array's identifier; what is stored already under this name is not stored again."""
        if not np.isfinite(values).all():
            raise ExportError(f"the weights {name} are not all finite; train the network again")
        key = identifier(name)
        while not np.array_equal(self.arrays.setdefault(key, values), values):
            key += "_"
        return f"${{name}}_{key}"

    @property
    def bytes(self) -> int:
        """Of all arrays together."""
        return sum(values.nbytes for values in self.arrays.values())

    def definitions(self) -> Iterable[str]:
        """One for each array."""
        for key, values in self.arrays.items():
            kind, write = ("int8_t", str) if values.dtype == np.int8 else ("float", number)
            shape = f" /* {len(values)} rows of {values.shape[1]} */" if values.ndim == 2 and len(values) > 1 else ""
            body = textwrap.fill(", ".join(write(value) for value in values.ravel()), WIDTH - 4)
            head = f"static const {kind} ${{name}}_{key}[{values.size}] = {{"
            yield f"{head}{shape}\n{textwrap.indent(body, '    ')}\n}};\n"


class Vector(NamedTuple):
    """A tensor [1, size] that lies in an array, from ``first`` on."""

    array: str
    size: int
    first: int = 0

    @property
    def pointer(self) -> str:
        """To its first element."""
        return f"{self.array} + {self.first}" if self.first else self.array

    @property
    def element(self) -> Expression:
        """Its i-th element."""
        return Expression(f"{self.array}[{self.first} + i]" if self.first else f"{self.array}[i]")


class Columns(NamedTuple):
    """Neighbouring columns of a stored matrix."""

    name: str
    stored: Array
    first: int
    width: int


class Matrix(NamedTuple):
    """A matrix [m, n]: columns side by side, and what each is multiplied by [n]."""

    parts: tuple[Columns, ...]
    scale: Floats

    @property
    def rows(self) -> int:
        """m"""
        return len(self.parts[0].stored)

    def columns(self, first: int, end: int) -> Matrix:
        """Some of its columns."""
        found, at = [], 0
        for part in self.parts:
            low, high = max(first - at, 0), min(end - at, part.width)
            if low < high:
                found.append(part._replace(first=part.first + low, width=high - low))
            at += part.width
        return Matrix(tuple(found), self.scale[first:end])

    @classmethod
    def beside(cls, matrices: Sequence[Matrix]) -> Matrix:
        """Matrices side by side; neighbours become one again."""
        parts: list[Columns] = []
        for part in itertools.chain.from_iterable(matrix.parts for matrix in matrices):
            if parts and parts[-1].name == part.name and parts[-1].first + parts[-1].width == part.first:
                parts[-1] = parts[-1]._replace(width=parts[-1].width + part.width)
            else:
                parts.append(part)
        return cls(tuple(parts), np.concatenate([matrix.scale for matrix in matrices]))


# What a graph is made into before it is written. Names are those of the graph.


class Product(NamedTuple):
    """``output = x matrix``; ``result`` is what its scale and bias make of it."""

    output: str
    x: str
    matrix: Matrix
    result: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.x,)


class Each(NamedTuple):
    """One operator on each element."""

    output: str
    operator: str
    inputs: tuple[str, ...]
    attributes: Attributes


class View(NamedTuple):
    """Some columns of a vector, where they lie."""

    output: str
    x: str
    first: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.x,)


class Join(NamedTuple):
    """Vectors side by side, in an array of their own."""

    output: str
    inputs: tuple[str, ...]


Attributes = Mapping[str, Any]
Reader = Callable[["Function", onnx.NodeProto, Attributes], None]


class Function:
    """Writes nodes of a graph as the body of a C function.

    Args:
        constants: of the file.
        tensors: the constants of the graph.
        inputs: the arrays that are given to the function.
    """

    def __init__(
        self, constants: Constants, tensors: Mapping[str, onnx.TensorProto], inputs: Mapping[str, Vector]
    ) -> None:
        self.constants = constants
        self.weights: dict[str, Array | Matrix] = {name: numpy_helper.to_array(t) for name, t in tensors.items()}
        self.vectors = dict(inputs)
        self.given = {vector.array for vector in inputs.values()}
        self.sizes = {name: vector.size for name, vector in inputs.items()}
        self.parts: list[Product | Each | View | Join] = []
        self.pending: dict[str, Each] = {}  # not written yet: later loops may take more at once
        self.places: dict[str, Vector] = {}  # where a value has to lie
        self.arrays: dict[str, int] = {}  # local ones, and their sizes
        self.lines: list[str] = []

    def body(self, nodes: Iterable[onnx.NodeProto], outputs: Mapping[str, Vector]) -> list[str]:
        """The lines of the function, which leaves each output in its array; that may be an input's."""
        for node in nodes:
            self._read(node)
        self.outputs = outputs
        self.readers: dict[str, list[Product | Each | View | Join]] = {}
        for part in self.parts:
            for name in part.inputs:
                self.readers.setdefault(name, []).append(part)
        self.places = {name: vector for name, vector in outputs.items() if vector.array not in self.given}
        for part in self.parts:
            if isinstance(part, Each):
                self.pending[part.output] = part
            else:
                self._loop(part.inputs)
                self._write(part)
        self._finish()
        local = [f"float {name}[{size}];" for name, size in self.arrays.items()]
        return [*local, *([""] if local else []), *self.lines]

    @property
    def floats(self) -> int:
        """In its local arrays."""
        return sum(self.arrays.values())

    # From ONNX's operators to products, views and what is done to each element.

    def _read(self, node: onnx.NodeProto) -> None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        of_weights = all(name in self.weights for name in node.input if name)
        table = self.OF_WEIGHTS if of_weights else self.OF_VECTORS
        if read := table.get(node.op_type):
            read(self, node, attributes)
        elif node.op_type in ELEMENTWISE and not of_weights:
            self._each(node.output[0], node.op_type, node.input, attributes)
        else:
            raise ExportError(f"the operator {node.op_type}{' of weights' * of_weights} is not written in C")

    def _each(self, output: str, operator: str, inputs: Iterable[str], attributes: Attributes | None = None) -> None:
        part = Each(output, operator, tuple(inputs), attributes or {})
        sizes = {self._size(name) for name in part.inputs} - {1}
        if len(sizes) > 1 or any(self.sizes.get(name) == 1 for name in part.inputs if sizes):
            raise ExportError(f"{operator} of vectors of different sizes is not written in C")
        self.parts.append(part)
        self.sizes[output] = sizes.pop() if sizes else 1

    def _size(self, name: str) -> int:
        weight = self.weights.get(name)
        if isinstance(weight, np.ndarray):
            return weight.size
        if name not in self.sizes:
            raise ExportError(f"an operator reads {name or 'an input that it lacks'}, which is no vector")
        return self.sizes[name]

    def _product(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        """Gemm and MatMul: a product, then by element what its columns are scaled by and what is added."""
        x, w, *added = node.input
        (output,) = node.output
        if attributes or x not in self.sizes or w not in self.weights:
            raise ExportError(f"a {node.op_type} of other than a vector and weights is not written in C")
        matrix = self._matrix(w)
        if self.sizes[x] != matrix.rows:
            raise ExportError(f"{node.op_type} of a vector [{self.sizes[x]}] and a matrix of {matrix.rows} rows")
        then: list[tuple[str, str]] = []
        if (matrix.scale != 1).any():
            then.append(("Mul", self._scale(matrix, output)))
        if added and (added[0] not in self.weights or self._array(added[0]).any()):
            then.append(("Add", added[0]))
        name = f"{output}_sum" if then else output
        self.parts.append(Product(name, x, matrix, output))
        self.sizes[name] = len(matrix.scale)
        for i, (operator, operand) in enumerate(then, 1):
            following = output if i == len(then) else f"{output}_scaled"
            self._each(following, operator, (name, operand))
            name = following

    def _scale(self, matrix: Matrix, output: str) -> str:
        """A matrix's scale as a constant: one number if all columns have the same."""
        part = matrix.parts[0]
        name = f"{part.name.removesuffix('_quantized')}_scale"
        if len(matrix.scale) != part.stored.shape[1]:
            name += f"_{part.first}_{part.first + len(matrix.scale)}"
        key = f"{name}*{output}"  # what follows * is not a part of the name in C
        self.weights[key] = matrix.scale[:1] if (matrix.scale == matrix.scale[0]).all() else matrix.scale
        return key

    def _split(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        x, *given = node.input
        size = self.sizes[x] // len(node.output)
        sizes = self._array(given[0]).tolist() if given else [size] * len(node.output)
        self._columns_only(attributes.get("axis", 0))
        for output, first, count in zip(node.output, np.cumsum([0, *sizes]), sizes, strict=False):
            self._view(output, x, int(first), count)

    def _view(self, output: str, x: str, first: int, size: int) -> None:
        self.parts.append(View(output, x, first))
        self.sizes[output] = size

    def _slice(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        first, end = self._range(node, self.sizes[node.input[0]])
        self._view(node.output[0], node.input[0], first, end - first)

    def _identity(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        self._view(node.output[0], node.input[0], 0, self.sizes[node.input[0]])

    def _concat(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        self._columns_only(attributes["axis"])
        self.parts.append(Join(node.output[0], tuple(node.input)))
        self.sizes[node.output[0]] = sum(map(self._size, node.input))

    # Weights: columns of stored matrices.

    def _matrix(self, name: str) -> Matrix:
        weight = self.weights[name]
        if isinstance(weight, Matrix):
            return weight
        if weight.ndim != 2 or weight.dtype not in (np.float32, np.int8):
            raise ExportError(f"the weights {name} are no matrix in float32 or int8")
        columns = weight.shape[1]
        return Matrix((Columns(name, weight, 0, columns),), np.ones(columns, np.float32))

    def _dequantized(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        scale, *zero_point = map(self._array, node.input[1:])
        matrix = self._matrix(node.input[0])
        if any(zero.any() for zero in zero_point):
            raise ExportError("int8 weights with a zero point are not written in C")
        if scale.ndim:
            self._columns_only(attributes.get("axis", 1))
        self.weights[node.output[0]] = matrix._replace(scale=matrix.scale * scale)

    def _columns_of(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        matrix = self._matrix(node.input[0])
        self.weights[node.output[0]] = matrix.columns(*self._range(node, len(matrix.scale)))

    def _beside(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        self._columns_only(attributes["axis"])
        self.weights[node.output[0]] = Matrix.beside([self._matrix(name) for name in node.input])

    def _times(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        matrix, factor = self._matrix(node.input[0]), self._array(node.input[1])
        if factor.size != 1:
            raise ExportError("Mul of weights by other than a number is not written in C")
        self.weights[node.output[0]] = matrix._replace(scale=matrix.scale * np.float32(factor.item()))

    def _same(self, node: onnx.NodeProto, attributes: Attributes) -> None:
        self.weights[node.output[0]] = self.weights[node.input[0]]

    def _array(self, name: str) -> Array:
        """A constant of the graph as it is."""
        weight = self.weights.get(name)
        if not isinstance(weight, np.ndarray):
            raise ExportError(f"an operator on weights that reads {name}, which is no constant, is not written in C")
        return weight

    def _range(self, node: onnx.NodeProto, size: int) -> tuple[int, int]:
        """The columns that a Slice takes of ``size``."""
        (first,), (end,), *rest = (self._array(name).tolist() for name in node.input[1:])
        self._columns_only(rest[0][0] if rest else 0)
        if rest[1:] not in ([], [[1]]):
            raise ExportError("Slice with steps is not written in C")
        low, high, _ = slice(first, end).indices(size)
        return low, high

    def _columns_only(self, axis: object) -> None:
        if axis not in (1, -1):
            raise ExportError("Split, Slice, Concat and scales are written in C along the columns, not the rows")

    OF_WEIGHTS: ClassVar[dict[str, Reader]] = {
        "DequantizeLinear": _dequantized, "Slice": _columns_of, "Concat": _beside, "Mul": _times, "Identity": _same,
    }  # fmt: skip
    OF_VECTORS: ClassVar[dict[str, Reader]] = {
        "Gemm": _product, "MatMul": _product, "Split": _split, "Slice": _slice, "Identity": _identity,
        "Concat": _concat,
    }  # fmt: skip

    # From these to C.

    def _write(self, part: Product | View | Join) -> None:
        if isinstance(part, View):
            x = self._vector(part.x)
            self.vectors[part.output] = Vector(x.array, self.sizes[part.output], x.first + part.first)
        elif isinstance(part, Join):
            to = self._declared(part.output)
            for x in map(self._vector, part.inputs):
                self.lines.append(f"memcpy({to.pointer}, {x.pointer}, {x.size} * sizeof(float));")
                to = to._replace(first=to.first + x.size)
        else:
            self._multiply(part)

    def _multiply(self, part: Product) -> None:
        # Where the result has to be in an array, it takes the place of the product.
        if part.result in self.places or any(not isinstance(r, Each) for r in self.readers.get(part.result, ())):
            y = self._declared(part.result)
            self.vectors[part.output] = self.places[part.result] = y
        else:
            y = self._declared(part.output)
        x = self._vector(part.x)
        for columns in part.matrix.parts:
            rows, stride = columns.stored.shape
            multiply = "multiply_int8" if columns.stored.dtype == np.int8 else "multiply"
            w = Vector(self.constants.store(columns.name, columns.stored), stride, columns.first)
            call = f"{multiply}({x.pointer}, {rows}, {w.pointer}, {stride}, {y.pointer}, {columns.width});"
            equation = f"{y.array} [{columns.width}] = {part.x} [{rows}] {columns.name.removesuffix('_quantized')}"
            if columns.width < stride:
                equation += f", columns {columns.first} to {columns.first + columns.width - 1}"
            self.lines += [f"/* {equation} */", f"${{name}}_{call}"]
            y = y._replace(first=y.first + columns.width)

    def _vector(self, name: str) -> Vector:
        """Where a value lies; a constant is stored."""
        weight = self.weights.get(name)
        if isinstance(weight, np.ndarray):
            return Vector(self.constants.store(name.partition("*")[0], np.asarray(weight, np.float32)), weight.size)
        return self.vectors[name]

    def _declared(self, name: str) -> Vector:
        """The array that a value is computed into: that of an output, or a local one."""
        if name not in self.places:
            self.places[name] = Vector(identifier(name), self.sizes[name])
            self.arrays[identifier(name)] = self.sizes[name]
        self.vectors[name] = self.places[name]
        return self.places[name]

    def _needed(self, names: Iterable[str]) -> dict[str, Each]:
        """What has to be computed for these, of what is not yet written, in order."""
        wanted = set(names)
        for part in reversed(self.pending.values()):
            if part.output in wanted:
                wanted.update(part.inputs)
        return {name: part for name, part in self.pending.items() if name in wanted}

    def _finish(self) -> None:
        """Compute the outputs, in the place of the states that they follow where that is safe."""
        group = self._needed(self.outputs)
        if len({self.sizes[name] for name in group}) > 1:
            self._loop(self.outputs)  # a state must not change before the last loop that reads it
        self._loop(self.outputs, last=True)
        for name, to in self.outputs.items():
            if (vector := self.vectors.get(name, to)) != to:
                if vector.array in self.given:
                    raise ExportError("a step whose next state is another state is not written in C")
                self.lines.append(f"memcpy({to.pointer}, {vector.pointer}, {to.size} * sizeof(float));")

    def _loop(self, names: Iterable[str], last: bool = False) -> None:
        """Write the loops that leave these values, if they are not yet computed, in arrays."""
        needed = self._needed(names)
        for _, parts in itertools.groupby(needed.values(), lambda part: self.sizes[part.output]):
            self._one_loop({part.output: part for part in parts}, last)
        for name in needed:
            del self.pending[name]

    def _one_loop(self, group: Mapping[str, Each], last: bool) -> None:
        """One loop over the elements. What is used once is written where it is used, the rest has a name."""
        inlined: dict[str, Expression] = {}
        statements: list[str] = []
        final: list[str] = []
        for name, part in group.items():
            readers = self.readers.get(name, [])
            inside = sum(part.inputs.count(name) for part in readers if part.output in group)
            value = self._expression(part, inlined)
            in_place = last and name in self.outputs and self.outputs[name].array in self.given
            if in_place:
                if inside or final:  # another output may have overwritten what it reads
                    statements.append(f"const float {identifier(name)} = {value.text};")
                    inlined[name] = value = Expression(identifier(name))
                final.append(f"{self.outputs[name].element.text} = {value.text};")
            elif name in self.outputs or any(reader.output not in group for reader in readers):
                to = self._declared(name)
                statements.append(f"{to.element.text} = {value.text};")
                inlined[name] = to.element
            elif inside == 1:
                inlined[name] = value
            else:
                statements.append(f"const float {identifier(name)} = {value.text};")
                inlined[name] = Expression(identifier(name))
        statements += final
        several = len(statements) > 1
        (size,) = {self.sizes[name] for name in group}
        self.lines.append(f"for (int i = 0; i < {size}; ++i)" + " {" * several)
        self.lines += [f"    {statement}" for statement in statements]
        self.lines += ["}"] * several

    def _expression(self, part: Each, inlined: Mapping[str, Expression]) -> Expression:
        operands = []
        for name in part.inputs:
            weight = self.weights.get(name)
            if isinstance(weight, np.ndarray) and weight.size == 1:
                operands.append(Expression(number(weight.item())))
            else:
                operands.append(inlined[name] if name in inlined else self._vector(name).element)
        return ELEMENTWISE[part.operator](*operands, **part.attributes)


def indented(lines: Iterable[str]) -> list[str]:
    """Lines one level deeper."""
    return [f"    {line}" if line else "" for line in lines]


def written(signature: str, comment: str, lines: Iterable[str]) -> str:
    """A function of the file, with its comment."""
    return f"/* {comment} */\nstatic void ${{name}}_{signature}\n{{\n" + "\n".join(indented(lines)) + "\n}\n"
