"""Steps in integers: states, activations and products are bytes, and each operator is one fused kernel of a runtime.

Every operator stands between DequantizeLinear and QuantizeLinear, which runtimes fuse into one integer kernel. What an
affine function of a byte means is only another scale and zero point, so much costs no kernel at all:

- ``tanh(a) = 2 sigmoid(2 a) - 1``: the bytes of a sigmoid, read with twice the scale and zero point 127;
- ``1 - sigmoid(a) = sigmoid(-a)``: a block more of the same product, with the columns of U negated;
- ``quant_tanh`` and ``quant_sigmoid``: a clip is what QuantizeLinear does anyway, so that a step whose nonlinearities
  are all of that kind has not even a kernel for them;
- scalars: ``alpha c`` is c with another scale.

So a FastGRNN step with nu = 0 is eight kernels: two products, the addition of x W + b, one sigmoid over ``[z, 1 - z,
c]``, a split, two multiplications and an addition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastzoo.export.cells import POINT_SYMMETRIC, Block
from fastzoo.export.graph import Op
from fastzoo.export.network import Cell, Floats
from fastzoo.export.step import Levels, Port
from fastzoo.export.weights import Int8, dequantized
from fastzoo.export.writer import Piece, Writer

# A sigmoid in 255 levels, 0 and 1 among them; read as a tanh, -1, 0 and 1 are levels. A 256th level beyond 1 is never
# taken: a gate of more than 1 would let the state grow.
SIGMOID = Levels(float(np.float32(1 / 254)), 0)
# -1 to 1, clipped; a level below -1 is left, since one above 1 would make a gate of more than 1.
CLIP = Levels(float(np.float32(1 / 127)), 128)


class Curve(NamedTuple):
    """A nonlinearity as ``scale * shape(factor a) + shift`` of the shape that a kernel computes."""

    shape: str  # sigmoid, clip (to -1 .. 1) or relu
    factor: float
    scale: float
    shift: float


CURVES = {
    "sigmoid": Curve("sigmoid", 1, 1, 0),
    "tanh": Curve("sigmoid", 2, 2, -1),
    "quant_tanh": Curve("clip", 1, 1, 0),
    "quant_sigmoid": Curve("clip", 1, 0.5, 0.5),
    "quant_sigmoid4": Curve("clip", 0.5, 0.5, 0.5),
    "relu": Curve("relu", 1, 1, 0),
}


class Value(NamedTuple):
    """A tensor of bytes and what they mean; while calibration looks on, a float32 tensor."""

    name: str
    levels: Levels | None
    complement: tuple[Value, ...] = ()


class IntegerWriter(Writer[Value]):
    """Values are bytes.

    Args:
        cell: the weights.
        prefix: what all names begin with.
        int8: how weights are stored.
        levels: of each tensor, by its key; None = write the same operators in float32, for calibration to watch.
    """

    def __init__(self, cell: Cell, prefix: str, int8: Int8, levels: Mapping[str, Levels] | None) -> None:
        super().__init__(cell, prefix, int8 if levels is not None else None)
        self.stored, self.levels = int8, levels
        self._scales: dict[float, int] = {}
        self._counts: dict[str, int] = {}

    # Bytes and what they mean.

    def _real(self, value: Value) -> str:
        """The float32 values of bytes: a DequantizeLinear for each reader, which fuses them."""
        if value.levels is None:
            return value.name
        return self.op.DequantizeLinear(value.name, *self._scale_and_zero(value.levels))

    def _scale_and_zero(self, levels: Levels) -> tuple[str, str]:
        """Constants with short names, for ``unrolled`` repeats them T times."""
        number = self._scales.setdefault(levels.scale, len(self._scales))
        scale = self.op.constant(f"{self.prefix}k{number}", np.float32(levels.scale))
        return scale, self.op.constant(f"z{levels.zero}", np.uint8(levels.zero))

    def _bytes(self, real: str, key: str, levels: Levels | None = None, op: Op | None = None) -> Value:
        """Float32 values as bytes, with the levels that calibration found under ``key``, or fixed ones."""
        op = op or self.op
        if self.levels is None:
            if levels is None:
                self.observed[key] = real
            return Value(real, None)
        found = levels or self.levels[key]
        return Value(op.QuantizeLinear(real, *self._scale_and_zero(found)), found)

    def affine(self, value: Value, factor: float, shift: float = 0.0) -> Value:
        """``factor a + shift``: the same bytes, where the shift is a whole number of levels."""
        key = self._key("affine")
        if value.levels is None:
            name = self.op.Mul(value.name, self.op.constant(f"times_{factor:.9g}", np.float32(factor)))
            return self._bytes(self.op.Add(name, self.op.constant(f"plus_{shift:.9g}", np.float32(shift))), key)
        if factor == 0:
            return self._constant(np.array([shift], np.float32), f"only_{shift:.9g}")
        scale = np.float32(factor) * np.float32(value.levels.scale)
        zero = value.levels.zero - shift / float(scale)
        if abs(zero - round(zero)) < 1e-3 and 0 <= round(zero) <= 255:
            return Value(value.name, Levels(float(scale), round(zero)))
        scaled = Value(value.name, Levels(float(scale), value.levels.zero))
        only = self._constant(np.array([shift], np.float32), f"only_{shift:.9g}")
        return self._bytes(self.op.Add(self._real(scaled), self._real(only)), key)

    def _constant(self, values: Floats, name: str) -> Value:
        levels = Levels.spanning(float(values.min()), float(values.max()))
        integers = np.clip(np.rint(values / np.float32(levels.scale)) + levels.zero, 0, 255).astype(np.uint8)
        return Value(self.op.constant(name, integers), levels)

    # States.

    def state_port(self, name: str) -> Port:
        """Bytes."""
        return Port(f"{self.prefix}{name}", self.hidden, self.levels[name] if self.levels else None)

    def state(self, port: Port) -> Value:
        """As it is."""
        return Value(port.name, port.levels)

    def output(self, value: Value, port: Port) -> str:
        """The bytes of the next state, whose levels are those of the state."""
        if value.levels is None:
            self.observed[port.name.removeprefix(self.prefix)] = value.name
            return value.name
        if value.levels == port.levels:
            return value.name
        return self._bytes(self._real(value), "", port.levels).name

    # Operators.

    def add(self, a: Value, b: Value) -> Value:
        """``a + b``"""
        return self._bytes(self.op.Add(self._real(a), self._real(b)), self._key("sum"))

    def multiply(self, a: Value, b: Value) -> Value:
        """``a b``"""
        return self._bytes(self.op.Mul(self._real(a), self._real(b)), self._key("product"))

    def blend(self, z: Value, c: Value, h: Value) -> Value:
        """``(1 - z) c + z h``"""
        return self.add(self.multiply(self.complement(z), c), self.multiply(z, h))

    def complement(self, z: Value) -> Value:
        """``1 - z``: computed beside z, or where 1 - z is no curve of -a by an operator that runtimes do not fuse."""
        if z.complement:
            return z.complement[0]
        one = self.op.constant("one", np.float32(1))
        return self._bytes(self.op.Sub(one, self._real(z)), self._key("complement"))

    def activate(self, h: Value, blocks: Sequence[Block]) -> list[Value]:
        """All blocks, and the complements that are wanted, from one product, blocks of one shape side by side."""
        pieces: list[tuple[int, Piece]] = []  # which block it is, negative numbers for complements
        order = sorted(range(len(blocks)), key=lambda i: CURVES[blocks[i].nonlinearity].shape)
        for i in order:
            block = blocks[i]
            factor = CURVES[block.nonlinearity].factor
            pieces.append((i, Piece(block.columns, block.bias, factor)))
            if block.complemented and block.nonlinearity in POINT_SYMMETRIC:
                pieces.append((-1 - i, Piece(block.columns, block.bias, -factor)))
        shapes = [CURVES[blocks[i if i >= 0 else -1 - i].nonlinearity].shape for i, _ in pieces]
        product, driven = self._product(h, [p for _, p in pieces]), self._driven_by([p for _, p in pieces])
        total = self.op.Add(self._real(product), self._real(driven))
        # Alone, a clip is what QuantizeLinear does with these levels.
        clips = set(shapes) == {"clip"}
        total = self._clip(total) if clips and self.levels is None else total
        pre = self._bytes(total, "", CLIP) if clips else self._bytes(total, self._key("sum"))
        found: dict[int, Value] = {}
        first = 0
        counts = [shapes.count(shape) for shape in dict.fromkeys(shapes)]
        parts = self.op.split(pre.name, [count * self.hidden for count in counts])
        for shape, count, part in zip(dict.fromkeys(shapes), counts, parts, strict=True):
            value = Value(part, pre.levels)
            shaped = value if clips else self._shape(shape, value)
            names = self.op.split(shaped.name, [self.hidden] * count)
            for (i, _), name in zip(pieces[first : first + count], names, strict=True):
                curve = CURVES[blocks[i if i >= 0 else -1 - i].nonlinearity]
                found[i] = self._read(Value(name, shaped.levels), curve)
            first += count
        return [
            value._replace(complement=(found[-1 - i],)) if -1 - i in found else value
            for i, value in sorted((i, v) for i, v in found.items() if i >= 0)
        ]

    def apply(self, nonlinearity: str, a: Value) -> Value:
        """``nonlinearity(a)``"""
        curve = CURVES[nonlinearity]
        return self._read(self._shape(curve.shape, self.affine(a, curve.factor) if curve.factor != 1 else a), curve)

    def _shape(self, shape: str, a: Value) -> Value:
        real = self._real(a)
        if shape == "sigmoid":
            return self._bytes(self.op.Sigmoid(real), "", SIGMOID)
        if shape == "clip":
            return self._bytes(self._clip(real), "", CLIP)
        return self._bytes(self.op.Relu(real), self._key("relu"))

    def _clip(self, real: str) -> str:
        return self.op.Clip(real, self.op.constant("low", np.float32(-1)), self.op.constant("high", np.float32(1)))

    def _read(self, shaped: Value, curve: Curve) -> Value:
        """The nonlinearity from its shape."""
        return shaped if (curve.scale, curve.shift) == (1, 0) else self.affine(shaped, curve.scale, curve.shift)

    # Products.

    def projected(self, block: Block) -> Value:
        """``x W + b`` of one block."""
        return self._driven_by([Piece(block.columns, block.bias)])

    def product(self, h: Value, columns: int, bias: Floats | None = None) -> Value:
        """``h U`` of one block of columns, plus a bias."""
        made = self._product(h, [Piece(columns, 0)])
        if bias is None:
            return made
        if self.levels is None:
            return self._bytes(self.op.Add(made.name, self.op.constant(f"{self.prefix}bu", bias)), self._key("sum"))
        return self.add(made, self._constant(bias, f"{self.prefix}bu"))

    def _driven_by(self, pieces: Sequence[Piece]) -> Value:
        key = self._key("driven")
        value = self._bytes(self.request(pieces), key, op=self.project)
        self.drive(Port(value.name, len(pieces) * self.hidden, value.levels))
        return value

    def _product(self, h: Value, pieces: Sequence[Piece]) -> Value:
        *first, (name, factor) = self.u.items()
        for key, matrix in first:
            h = self._bytes(self.op.MatMul(self._real(h), self._matrix(key, matrix)), self._key("inner"))
        wanted = [(piece.columns, piece.factor) for piece in pieces]
        return self._bytes(self.op.MatMul(self._real(h), self._matrix(name, factor, wanted)), self._key("outer"))

    def _matrix(self, name: str, factor: Floats, wanted: Sequence[tuple[int, float]] | None = None) -> str:
        """A matrix, or blocks of its columns, behind a DequantizeLinear beside its reader.

        The integers are stored once: signs are a Neg that runs when the file is loaded, factors a scale.
        """
        blocks = factor.shape[1] // self.hidden if wanted is not None else 1
        if self.levels is None:
            stored = self.op.constant(name, factor)
            return stored if wanted is None else self.columns(self.shared, stored, wanted, blocks)
        integers, scale = self.stored.quantized(factor)
        stored = self.op.constant(f"{name}_quantized", integers)
        suffix = ""
        if wanted is not None:
            stored = self._signed(stored, [(block, np.sign(times)) for block, times in wanted], blocks)
            if scale.ndim or any(abs(times) != 1 for _, times in wanted):
                suffix = "".join(f"_{block}x{abs(times):g}" for block, times in wanted)
                by_column = np.broadcast_to(scale, factor.shape[1]).reshape(blocks, self.hidden)
                scale = np.concatenate([np.float32(abs(times)) * by_column[block] for block, times in wanted])
                if (scale == scale[0]).all():
                    scale = scale[0]
        return dequantized(self.op, stored, f"{name}_scale{suffix}", scale)

    def _signed(self, matrix: str, wanted: Sequence[tuple[int, float]], blocks: int) -> str:
        """Blocks of columns of an int8 matrix, some negated."""
        if wanted == [(i, 1) for i in range(blocks)]:
            return matrix
        op, parts = self.shared, []
        for block, sign in wanted:
            part = matrix if blocks == 1 else self._slice(op, matrix, block)
            parts.append(op.Neg(part) if sign < 0 else part)
        return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=1)

    def _key(self, kind: str) -> str:
        """The next key of a kind; an equation asks for them in the same order whenever it is run."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}{self._counts[kind]}"
