"""What a network weighs: one set of figures for training, bundles and the registry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fastzoo.nn.cell import Cell
from fastzoo.nn.classifier import SequenceClassifier


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a network: the factors of its matrices, its biases and its head.

    zeta, nu, alpha and beta are folded into other numbers when a network is exported, and are counted in
    ``sparse_bytes`` alone; the normalisation is not counted.
    """

    parameters: int
    nonzeros: int
    dense_bytes: int  # in float32
    sparse_bytes: int  # by EdgeML's rule
    int8_bytes: int  # matrices in int8 with one float32 scale each, biases in float32
    macs_per_step: int  # multiply-accumulates of the matrix products in the cells
    macs_per_window: int | None  # of all steps and the head; None where nobody said how many steps

    def __str__(self) -> str:
        kept = 100 * self.nonzeros / self.parameters
        return (
            f"{self.parameters} parameters ({kept:.0f} % not zero); {self.dense_bytes} bytes in float32, "
            f"{self.int8_bytes} in int8, {self.sparse_bytes} sparse; {self.macs_per_step} multiply-adds a step"
        )


def model_size(model: nn.Module, steps: int | None = None) -> ModelSize:
    """Count what a network of FastCells weighs, as it is: zeros are found, not promised.

    Args:
        model: a :class:`SequenceClassifier`, a sequence module, a cell, or any module that holds some.
        steps: T, samples of a window.

    EdgeML's rule for ``sparse_bytes`` (``countnnZ`` in its trainers): a matrix that lost more than half of its entries
    takes 8 bytes, value and index, for each that is left; everything else, scalars too, takes 4 bytes a number.
    """
    parameters = [p.detach() for p in model.parameters()]
    matrices = [p for p in parameters if p.dim() == 2]
    stored = sum(p.numel() for p in parameters if p.dim() > 0)
    products = sum(p.numel() for p in matrices)
    kept = [int(torch.count_nonzero(p)) for p in matrices]
    saved = sum(p.numel() - 2 * n for p, n in zip(matrices, kept, strict=True) if 2 * n < p.numel())
    cells = [module for module in model.modules() if isinstance(module, Cell)]
    in_cells = sum(factor.numel() for cell in cells for factor in (*cell.w, *cell.u))
    step = sum(cell.macs for cell in cells)
    brick = model.brick if isinstance(model, SequenceClassifier) else 1
    return ModelSize(
        parameters=stored,
        nonzeros=sum(int(torch.count_nonzero(p)) for p in parameters if p.dim() > 0),
        dense_bytes=4 * stored,
        sparse_bytes=4 * (sum(p.numel() for p in parameters) - saved),
        int8_bytes=products + 4 * len(matrices) + 4 * (stored - products),
        macs_per_step=step,
        macs_per_window=None if steps is None else steps // brick * step + products - in_cells,
    )
