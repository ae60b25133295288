"""Pixel-by-pixel MNIST, T = 784: seconds of an epoch and peak memory, on random pixels.

python benchmarks/long_sequences.py [BATCHES]

Without an argument 12 of the 235 batches are run and the epoch is 235 times their median.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import torch
from timing import show, verdict
from torch.nn.functional import cross_entropy

from fastzoo.nn import FastGRNN, SequenceClassifier

IMAGES, BATCH, STEPS, HIDDEN, U_RANK, CLASSES = 60_000, 256, 784, 128, 30, 10
THREADS = 2


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    net = SequenceClassifier(FastGRNN(1, HIDDEN, w_rank=1, u_rank=U_RANK), CLASSES)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    epoch = -(-IMAGES // BATCH)
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    seconds = []
    for _ in range(batches + 1):
        x, y = torch.rand(BATCH, STEPS, 1), torch.randint(CLASSES, (BATCH,))
        begin = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    median = float(np.median(seconds[1:]))  # the first one may have compiled the kernels
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    show(
        f"pixel by pixel: batch {BATCH}, T {STEPS}, H {HIDDEN}, rank {U_RANK}, {THREADS} threads, {batches} batches",
        ["", "a batch", f"an epoch of {IMAGES} images", "peak memory"],
        [
            [
                "FastGRNN",
                f"{1e3 * median:.0f} ms",
                verdict(epoch * median, 240, " s"),
                verdict(peak, 3, " GB"),
            ]
        ],
    )


if __name__ == "__main__":
    main()
