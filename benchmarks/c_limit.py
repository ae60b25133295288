"""The practical limit of a window's latency: the network's own C header under an optimizing compiler, one thread.

python benchmarks/c_limit.py

Flags allow what a header cannot ask for by itself: this processor's instructions, and sums in any order.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from timing import show

from fastzoo.export.c import c_header
from fastzoo.export.from_torch import from_torch
from fastzoo.export.network import Network
from fastzoo.export.weights import Int8
from fastzoo.nn import FastGRNN, SequenceClassifier

Floats = npt.NDArray[np.float32]

STEPS, FEATURES, HIDDEN, W_RANK, U_RANK, CLASSES = 128, 9, 64, 8, 16, 6
FAST = ("-O3", "-march=native", "-ffast-math")
RUNS, WARMUP = 5000, 200


def network() -> Network:
    """Random weights in the sizes of the design page's table."""
    torch.manual_seed(0)
    rnn = FastGRNN(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK, nu=0.0)
    return from_torch(SequenceClassifier(rnn, CLASSES), STEPS)


class Compiled:
    """A network's ``predict`` in C: takes a window [T, D], returns the logits [C].

    The logits lie in one array, which the next call overwrites.

    Raises:
        FileNotFoundError: there is no such compiler.
        subprocess.CalledProcessError: it failed.
    """

    def __init__(
        self, network: Network, int8: Int8 | None = None, flags: Sequence[str] = FAST, compiler: str = "gcc"
    ) -> None:
        if shutil.which(compiler) is None:
            raise FileNotFoundError(f"this needs a C compiler, and there is no {compiler} on the PATH")
        self.shape = (network.steps, network.input_size)
        labels, channels = ([str(i) for i in range(n)] for n in (network.num_classes, network.input_size))
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "limit.h"), Path(folder, "limit.so")
            source.write_text(c_header(network, "limit", labels, channels, 50.0, int8), encoding="ascii")
            unit = Path(folder, "limit.o")
            command = [compiler, "-std=c99", *flags, "-c", "-fPIC", "-x", "c", "-DLIMIT_IMPLEMENTATION"]
            subprocess.run([*command, str(source), "-o", str(unit)], check=True)
            # Linked without the flags: -ffast-math would let the library flush denormals in the whole process.
            subprocess.run([compiler, "-shared", str(unit), "-o", str(library), "-lm"], check=True)
            self.call = ctypes.CDLL(str(library)).limit_predict
        self.logits = np.empty(network.num_classes, np.float32)
        self.after = ctypes.c_void_p(self.logits.ctypes.data)
        self.before: list[ctypes.c_void_p] = []
        if network.directions > 1 and len(network.layers) > 1:
            self.workspace = np.empty((2, network.steps, 2 * network.hidden_size), np.float32)
            self.before = [ctypes.c_void_p(self.workspace.ctypes.data)]

    def __call__(self, window: Floats) -> Floats:
        """The logits of one window, in raw units."""
        if window.shape != self.shape or window.dtype != np.float32 or not window.flags.c_contiguous:
            raise ValueError(f"windows are contiguous float32 {list(self.shape)}")
        self.call(*self.before, ctypes.c_void_p(window.ctypes.data), self.after)
        return self.logits


def c_limit_us(
    network: Network, int8: Int8 | None = None, flags: Sequence[str] = FAST, runs: int = RUNS
) -> tuple[float, float]:
    """Microseconds of one window: median and 95th percentile."""
    predict = Compiled(network, int8, flags)
    random = np.random.default_rng(0)
    x = network.mean + network.std * random.standard_normal((network.steps, network.input_size))
    window, times = x.astype(np.float32), np.empty(WARMUP + runs)
    for i in range(len(times)):
        begin = time.perf_counter()
        predict(window)
        times[i] = time.perf_counter() - begin
    median, p95 = 1e6 * np.percentile(times[WARMUP:], [50, 95])
    return float(median), float(p95)


def main() -> None:
    made = network()
    rows = []
    for flags in (FAST, ("-O3", "-march=native"), ("-O2",), ("-Os",)):
        for precision, int8 in (("fp32", None), ("int8", Int8()), ("int8 per channel", Int8(per_channel=True))):
            median, p95 = c_limit_us(made, int8, flags)
            rows.append([f"{precision}, {' '.join(flags)}", f"{median:.0f}", f"{p95:.0f}"])
    sizes = f"FastGRNN, H {HIDDEN}, ranks {W_RANK}/{U_RANK}, D {FEATURES}, T {STEPS}, one thread"
    show(f"one window in C, us: {sizes}", ["", "median", "p95"], rows)


if __name__ == "__main__":
    main()
