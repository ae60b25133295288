"""What training costs beside the training: an epoch with sparsity, logs and states against a plain loop of its steps.

python benchmarks/overhead.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from timing import show, verdict
from torch.nn.functional import cross_entropy

from fastzoo.data import Dataset
from fastzoo.nn import FastGRNN, SequenceClassifier
from fastzoo.train import Epoch, Settings, fit
from fastzoo.train.log import Log
from fastzoo.train.loop import evaluate
from fastzoo.train.resume import save
from fastzoo.train.sparsity import Sparsity
from fastzoo.train.trainer import Trainer

BATCHES, BATCH, STEPS, FEATURES, HIDDEN, W_RANK, U_RANK, CLASSES = 46, 128, 128, 6, 64, 6, 16, 6  # those of har
ROUNDS, WARMUP, THREADS, LIMIT = 12, 2, 1, 5.0
SETTINGS = Settings(
    epochs=ROUNDS + WARMUP,
    batch_size=BATCH,
    sparsity=Sparsity(w=0.3, u=0.3, begin=0, end=1),  # thresholds every 15 steps, all the time
)


def data() -> Dataset:
    """Noise of the size of har; a validation split as small as it may be, since judging is no overhead."""
    random = np.random.default_rng(0)
    train, count = BATCHES * BATCH, BATCHES * BATCH + CLASSES
    return Dataset(
        id="noise",
        x=random.standard_normal((count, STEPS, FEATURES), np.float32),
        y=np.arange(count) % CLASSES,
        group=(np.arange(count) >= train).astype(np.int64),
        split=(np.arange(count) >= train).astype(np.uint8),
        classes=tuple("abcdef"),
        channels=tuple("uvwxyz"),
        rate=50.0,
    )


def network() -> SequenceClassifier:
    torch.manual_seed(0)
    return SequenceClassifier(FastGRNN(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK, nu=0.0), CLASSES, pool=64)


def plain(dataset: Dataset) -> Iterator[float]:
    """Seconds of each epoch of a loop as one writes it: batch, loss, gradient, its norm, AdamW, one-cycle."""
    net, generator = network(), torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(dataset.train.x), torch.from_numpy(dataset.train.y)
    net.set_normalisation(x)
    optimizer = torch.optim.AdamW(net.parameters(), lr=SETTINGS.learning_rate, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SETTINGS.learning_rate, SETTINGS.epochs * BATCHES)
    while True:
        begin = time.perf_counter()
        for rows in torch.split(torch.randperm(len(x), generator=generator), BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), SETTINGS.clip)
            optimizer.step()
            schedule.step()
            loss.item()
        yield time.perf_counter() - begin


def steps(dataset: Dataset, settings: Settings) -> Iterator[float]:
    """Seconds of each epoch of the trainer's steps alone."""
    trainer = Trainer(network(), dataset.train, dataset.channels, settings)
    while True:
        begin = time.perf_counter()
        trainer.epoch(lambda loss: None)
        yield time.perf_counter() - begin


def everything(dataset: Dataset, folder: Path) -> Iterator[float]:
    """Seconds of each epoch with what `fit` does after it: judge, log, write the state and, as if best, keep it."""
    trainer, history = Trainer(network(), dataset.train, dataset.channels, SETTINGS), list[Epoch]()
    log = Log(folder)
    while True:
        begin = time.perf_counter()
        loss = trainer.epoch(lambda loss: None)
        judged = evaluate(trainer.judged, dataset.validation, dataset.classes, "validation")
        history.append(Epoch(len(history) + 1, loss, judged.accuracy, judged.macro_f1, 0.01, trainer.phase, 0))
        best = {f"best.{name}": value for name, value in trainer.weights().items()}
        log.write(history)
        tensors, numbers = trainer.state()
        save(folder, len(history), tensors | best, numbers)
        yield time.perf_counter() - begin


def whole(dataset: Dataset, folder: Path) -> float:
    """Seconds of an epoch of `fit` itself, the first ones left out."""
    ends: list[float] = []
    fit(
        network(),
        dataset,
        SETTINGS,
        out=folder,
        progress=False,
        on_epoch=lambda epoch: ends.append(time.perf_counter()),
    )
    return float(np.median(np.diff(ends)[WARMUP:]))


def main() -> None:
    torch.set_num_threads(THREADS)
    dataset = data()
    with tempfile.TemporaryDirectory() as folder:
        turns = {
            "plain loop": plain(dataset),
            "the trainer's steps, dense": steps(dataset, replace(SETTINGS, sparsity=Sparsity())),
            "the trainer's steps, sparse": steps(dataset, SETTINGS),
            "everything: sparse, judged, logged, state written": everything(dataset, Path(folder) / "turns"),
        }
        times: dict[str, list[float]] = {name: [] for name in turns}
        for round_ in range(WARMUP + ROUNDS):
            for name, epochs in turns.items():  # they take turns, so that noise hits all alike
                seconds = next(epochs)
                if round_ >= WARMUP:
                    times[name].append(seconds)
        for epochs in turns.values():
            epochs.close()  # type: ignore[attr-defined]
        fitted = whole(dataset, Path(folder) / "fit")
    reference = np.array(times["plain loop"])
    rows = []
    cost = 0.0
    for name, values in times.items():
        cost = 100 * (float(np.median(np.array(values) / reference)) - 1)
        judged = (
            verdict(cost, LIMIT, " %")
            if name.startswith("everything")
            else ""
            if name == "plain loop"
            else f"{cost:.1f} %"
        )
        rows.append([name, f"{1e3 * float(np.median(values)):.0f} ms", judged])
    rows.append(["fit, alone", f"{1e3 * fitted:.0f} ms", ""])
    sizes = (
        f"{BATCHES} batches of {BATCH}, T {STEPS}, D {FEATURES}, H {HIDDEN}, ranks {W_RANK}/{U_RANK}, {THREADS} thread"
    )
    show(f"an epoch of training: {sizes}", ["", "median", "over the plain loop"], rows)


if __name__ == "__main__":
    main()
