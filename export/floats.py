"""Steps in float32: with weights in float32 or int8, and with recurrent products in 8 bits around a float32 state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastzoo.export.cells import Block
from fastzoo.export.network import Cell, Floats
from fastzoo.export.step import Levels, Port
from fastzoo.export.weights import Int8, dequantized
from fastzoo.export.writer import Piece, Writer, nonlinearity


class FloatWriter(Writer[str]):
    """Values are names of float32 tensors."""

    def state(self, port: Port) -> str:
        """As it is."""
        return port.name

    def output(self, value: str, port: Port) -> str:
        """As it is."""
        return value

    def activate(self, h: str, blocks: Sequence[Block]) -> list[str]:
        """All blocks from one product; where they share columns (FastGRNN), a bias more for each but the last."""
        columns = list(dict.fromkeys(block.columns for block in blocks))
        if len(columns) < len(blocks):
            *others, last = blocks
            pre = self._pre(h, [last])
            biases = self.cell.biases
            shifts = [biases[other.bias] - biases[last.bias] for other in others]
            each = [self.op.Add(pre, self._bias(f"shift{i}", shift)) for i, shift in enumerate(shifts)]
            return [self.apply(block.nonlinearity, a) for block, a in zip(blocks, [*each, pre], strict=True)]
        pre = self._pre(h, blocks)
        sizes = [self.hidden] * len(blocks)
        if len({block.nonlinearity for block in blocks}) == 1:
            return self.op.split(self.apply(blocks[0].nonlinearity, pre), sizes)
        parts = self.op.split(pre, sizes)
        return [self.apply(block.nonlinearity, part) for block, part in zip(blocks, parts, strict=True)]

    def _pre(self, h: str, blocks: Sequence[Block]) -> str:
        """``x W + h U + b`` of these blocks, side by side."""
        pieces = [Piece(block.columns, block.bias) for block in blocks]
        name = self.drive(Port(self.request(pieces), len(pieces) * self.hidden))
        return self._recurrent(h, [block.columns for block in blocks], name)

    def _recurrent(self, h: str, columns: Sequence[int], added: str | None) -> str:
        """``h U`` of these columns, plus ``added``."""
        *first, (name, factor) = self.u.items()
        called = self._called(h)
        a = self._watched(h, called)
        for i, (key, matrix) in enumerate(first, 1):
            a = self._watched(self.matmul(self.op, a, self.weight(key, matrix)), f"{called}U{i}")
        last = self._columns(self.weight(name, factor), columns)
        return self.matmul(self.op, a, last, added)

    def _columns(self, matrix: str, columns: Sequence[int]) -> str:
        blocks = self.cell.u[-1].shape[1] // self.hidden
        return self.columns(self.shared, matrix, [(block, 1.0) for block in columns], blocks)

    def _watched(self, name: str, key: str) -> str:
        """Let calibration look at what a recurrent product reads."""
        self.observed[key] = name
        return name

    def _called(self, operand: str) -> str:
        """What multiplies U is h, and in a GRU r h, too."""
        return "h" if operand == f"{self.prefix}h" else "rh"

    def _bias(self, name: str, bias: Floats) -> str:
        return self.op.constant(f"{self.prefix}{name}", bias)

    def projected(self, block: Block) -> str:
        """``x W + b`` of one block."""
        return self.drive(Port(self.request([Piece(block.columns, block.bias)]), self.hidden))

    def product(self, h: str, columns: int, bias: Floats | None = None) -> str:
        """``h U`` of one block of columns, plus a bias."""
        return self._recurrent(h, [columns], None if bias is None else self._bias("bu", bias))

    def apply(self, name: str, a: str) -> str:
        """One operator."""
        return nonlinearity(self.op, name, a)

    def blend(self, z: str, c: str, h: str) -> str:
        """``c + z (h - c)``, which is one operator fewer."""
        return self.op.Add(c, self.op.Mul(z, self.op.Sub(h, c)))

    def complement(self, z: str) -> str:
        """``1 - z``"""
        return self.op.Sub(self.op.constant("one", np.float32(1)), z)

    def add(self, a: str, b: str) -> str:
        """``a + b``"""
        return self.op.Add(a, b)

    def multiply(self, a: str, b: str) -> str:
        """``a b``"""
        return self.op.Mul(a, b)

    def affine(self, a: str, factor: float, shift: float = 0.0) -> str:
        """``factor a + shift``"""
        if factor != 1:
            a = self.op.Mul(a, self.op.constant(f"times_{factor:.9g}", np.float32(factor)))
        return a if shift == 0 else self.op.Add(a, self.op.constant(f"plus_{shift:.9g}", np.float32(shift)))


class ProductWriter(FloatWriter):
    """Recurrent products in 8 bits, everything else in float32: an 8-bit state would lose its small updates.

    Weights are int8, symmetric; what the products read is uint8, with the range seen in calibration. x and its products
    stay in float32: samples reach far beyond what they mostly are, and 8 bits would swallow the small movements.

    Args:
        cell: the weights.
        prefix: what all names begin with.
        int8: how weights are stored.
        levels: of what each product reads, by its key.
    """

    def __init__(self, cell: Cell, prefix: str, int8: Int8, levels: Mapping[str, Levels]) -> None:
        super().__init__(cell, prefix, int8)
        self.levels, self.stored = levels, int8

    def _recurrent(self, h: str, columns: Sequence[int], added: str | None) -> str:
        a, called = h, self._called(h)
        for i, (name, factor) in enumerate(self.u.items()):
            key = f"{called}U{i}" if i else called
            port = Port(f"{self.prefix}{key}", 0, self.levels[key])
            again = self.named("bytes", a)
            a = port.read(self.op, again or self.keep(port.write(self.op, a), "bytes", a))
            wanted = columns if i == len(self.u) - 1 else None
            a = self.op.MatMul(a, self._int8(name, factor, wanted))
        return a if added is None else self.op.Add(a, added)

    def _int8(self, name: str, factor: Floats, columns: Sequence[int] | None) -> str:
        """A matrix, or blocks of its columns, behind a DequantizeLinear beside its reader, where runtimes fuse both."""
        integers, scale = self.stored.quantized(factor)
        stored = self.op.constant(f"{name}_quantized", integers)
        if columns is not None:
            stored = self._columns(stored, columns)
            if scale.ndim:
                scale = np.concatenate([scale.reshape(-1, self.hidden)[block] for block in columns])
        suffix = "" if columns is None or not scale.ndim else "".join(map(str, columns))
        return dequantized(self.op, stored, f"{name}_scale{suffix}", scale)
