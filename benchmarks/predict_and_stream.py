"""The runtime on windows and streams: throughput, threads, what `predict` adds, the cost of a sample.

    python benchmarks/predict_and_stream.py

One thread unless stated, contestants in turns, onnxruntime's own best as the baseline. About two minutes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from latency import Peer, session
from timing import show, take_turns, verdict
from torch import nn

import fastzoo
from fastzoo.export import export
from fastzoo.export.layouts import Builder, Form
from fastzoo.export.plain import plain_network
from fastzoo.model import Model
from fastzoo.nn import FastGRNN, SequenceClassifier

Floats = npt.NDArray[np.float32]
STEPS, CHANNELS, CLASSES, RATE = 128, 6, 6, 50.0
MANY, ROUNDS = 10_000, 5
SINGLES = 2000
HOPS = (1, 4, 16, 64)
LAYOUTS = ("fused", "scan", "unrolled", "step")
SIGNAL = 4000  # samples pushed one by one


class GRU(Peer):
    """`nn.GRU(6, 64)` with a head."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(CHANNELS, 64, batch_first=True), nn.Linear(64, CLASSES)


def throughput(x: Floats) -> None:
    """10 000 windows at once."""
    model = fastzoo.load("fastgrnn-har-int8")
    peer = session(Builder(plain_network(GRU(), STEPS), x[:64]).build(Form("fp32", "fused")).SerializeToString(), {})

    def of_peer() -> None:
        for first in range(0, MANY, 128):
            peer.run(["logits"], {"x": x[first : first + 128]})

    times = take_turns(
        {
            "nn.GRU(6, 64) exported, chunks of 128": of_peer,
            "predict, one thread": lambda: model.predict(x),
            "predict, two threads": lambda: model.predict(x, threads=2),
        },
        ROUNDS,
        warmup=1,
    )
    median = {name: float(np.median(seconds)) for name, seconds in times.items()}
    base, one, two = median.values()
    notes = ["", verdict(one / base, 0.6) + " of nn.GRU", verdict(one / two, 1.7, at_least=True) + " x one thread"]
    rows = [
        [name, f"{1e6 * seconds / MANY:.1f} us", f"{MANY / seconds:.0f}", note]
        for (name, seconds), note in zip(median.items(), notes, strict=True)
    ]
    show(f"{MANY} windows of har, fastgrnn-har-int8", ["", "a window", "windows/s", ""], rows)


def overhead(x: Floats) -> None:
    """One window at a time: `predict` against the session alone."""
    model = fastzoo.load("fastgrnn-har-int8")
    bare = model.session
    windows, turn = list(x[:64]), iter(range(10**9))
    times = take_turns(
        {
            "session.run": lambda: bare.run(["logits"], {"x": windows[next(turn) % 64][np.newaxis]}),
            "model.predict": lambda: model.predict(windows[next(turn) % 64]),
        },
        SINGLES // 20,
        block=20,
    )
    run, predict = (1e6 * np.median(seconds) for seconds in times.values())
    rows = [
        ["session.run", f"{run:.1f} us", f"{1e6 * np.percentile(times['session.run'], 95):.1f} us", ""],
        [
            "model.predict",
            f"{predict:.1f} us",
            f"{1e6 * np.percentile(times['model.predict'], 95):.1f} us",
            verdict(float(predict - run), 20, " us") + " more",
        ],
    ]
    show("one window, fastgrnn-har-int8, fused", ["", "p50", "p95", ""], rows)


def streams(x: Floats) -> None:
    """Samples pushed one by one, as a sensor delivers them."""
    torch.manual_seed(0)
    rnn = FastGRNN(CHANNELS, 64, w_rank=6, u_rank=16, nu=0.0, gate_bias=(0, 4))
    labels = [str(number) for number in range(CLASSES)]
    channels = [f"channel_{number}" for number in range(CHANNELS)]
    signal = x.reshape(-1, CHANNELS)[:SIGNAL]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        net = SequenceClassifier(rnn, CLASSES, pool=64)
        bundle = Path(folder) / "h64"
        export(net, bundle, calibration=x[:256], labels=labels, channels=channels, rate=RATE)
        for layout in LAYOUTS:
            row = [layout]
            for hop in HOPS:
                stream = Model(bundle, "int8", layout).stream(hop)
                for sample in signal[:STEPS]:
                    stream.push(sample[np.newaxis])
                seconds, cpu = time.perf_counter(), time.process_time()
                for sample in signal:
                    stream.push(sample[np.newaxis])
                microseconds = 1e6 * (time.perf_counter() - seconds) / SIGNAL
                core = 100 * (time.process_time() - cpu) / (SIGNAL / RATE)
                text = f"{microseconds:.0f} us, {core:.2f} %"
                if (layout, hop) == ("fused", 16):
                    text = f"{verdict(microseconds, 40, ' us')}, {verdict(core, 0.5, ' %')}"
                row.append(text)
            rows.append(row)
    show(
        "a stream of 50 Hz, FastGRNN with H = 64, int8: time per sample, share of one core",
        ["layout", *(f"hop {hop}" for hop in HOPS)],
        rows,
    )


def main() -> None:
    x = np.random.default_rng(0).normal(size=(MANY, STEPS, CHANNELS)).astype(np.float32)
    throughput(x)
    overhead(x)
    streams(x)


if __name__ == "__main__":
    main()
