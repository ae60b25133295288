"""What a network's numbers weigh, as files store them."""

from __future__ import annotations

import numpy as np

from fastzoo.export.network import Network
from fastzoo.export.weights import Int8
from fastzoo.records import Size


def weights_bytes(network: Network, int8: Int8 | None) -> int:
    """Matrices and biases: all in float32, or matrices in int8 with float32 scales."""
    matrices = network.matrices().values()
    numbers, vectors = sum(matrix.size for matrix in matrices), sum(bias.size for bias in network.vectors())
    if int8 is None:
        return 4 * (numbers + vectors)
    return numbers + 4 * sum(int8.quantized(matrix)[1].size for matrix in matrices) + 4 * vectors


def size(network: Network) -> Size:
    """The figures of ``fastzoo.nn.model_size``, for networks that are no ``fastzoo.nn`` module."""
    matrices, vectors = list(network.matrices().values()), network.vectors()
    stored = sum(array.size for array in (*matrices, *vectors))
    saved = sum(max(0, matrix.size - 2 * int(np.count_nonzero(matrix))) for matrix in matrices)
    step = sum(factor.size for cell in network.cells for factor in (*cell.w, *cell.u))
    return Size(
        parameters=stored,
        nonzeros=sum(int(np.count_nonzero(array)) for array in (*matrices, *vectors)),
        dense_bytes=weights_bytes(network, None),
        sparse_bytes=4 * (stored - saved),
        int8_bytes=weights_bytes(network, Int8()),
        macs_per_step=step,
        macs_per_window=network.count * step + network.head_weight.size,
    )
