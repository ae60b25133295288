"""The training loop: fit a classifier, keep the weights that were best on validation subjects."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fastzoo import metrics
from fastzoo.bundle import Metrics
from fastzoo.data import Dataset, Split
from fastzoo.errors import TrainingError
from fastzoo.nn import SequenceClassifier, model_size
from fastzoo.train import checkpoint
from fastzoo.train.augment import xyz_triples
from fastzoo.train.settings import Settings

MAX_GRADIENT_NORM = 1.0  # one bad batch near the peak learning rate must not throw the recurrence off


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave."""

    epoch: int  # counted from 1
    loss: float  # mean training loss
    validation_accuracy: float


@dataclass
class Run:
    """A finished (or interrupted) training run; ``net`` has the weights that were best on validation."""

    net: SequenceClassifier
    settings: Settings
    source: Dataset  # as it was given
    dataset: Dataset  # with the validation split that was used
    history: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    validation: Metrics | None = None
    interrupted: bool = False
    folder: Path | None = None
    bundle: Mapping[str, str] = field(default_factory=dict)


def fit(
    net: SequenceClassifier,
    dataset: Dataset,
    settings: Settings | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    bundle: Mapping[str, str] | None = None,
    **overrides: Any,
) -> Run:
    """Train ``net`` on the training windows of ``dataset`` and keep the epoch that is best on its validation windows.

    Validation accuracy decides; of equals, the later epoch. Where the data set has no validation split, whole groups
    of the training split are held out. Ctrl-C ends the run early and keeps the best weights so far; so does an error.

    Args:
        net: changed in place.
        dataset: windows in raw units; mean and std per channel are taken from its training split.
        settings: defaults where None.
        out: folder for the checkpoint, rewritten whenever validation improves; None = nothing is written.
        progress: show a progress bar.
        bundle: kept in the checkpoint for the exporter: name, version, summary and licence of the published bundle.
        overrides: any field of :class:`Settings`, e.g. ``epochs=5``.

    Raises:
        TrainingError: the data does not fit the network, or the loss is no longer finite.
        DataError: the data set cannot be split by group.
        ValueError: a setting is out of range.
    """
    settings = replace(settings or Settings(), **overrides)
    source, dataset = dataset, dataset.with_validation(settings.validation_fraction, settings.validation_seed)
    _check_fit(net, dataset)
    run = Run(net, settings, source, dataset, folder=Path(out) if out is not None else None, bundle=bundle or {})
    trainer = _Trainer(net, dataset.train, xyz_triples(dataset.channels), settings)
    best = trainer.weights()
    with _progress(progress) as bar:
        task = bar.add_task("training", total=settings.epochs * trainer.steps, loss=math.nan, accuracy=math.nan)
        try:
            for epoch in range(1, settings.epochs + 1):
                loss = trainer.epoch(lambda loss: bar.update(task, advance=1, loss=loss))
                result = evaluate(trainer.judged, dataset.validation, dataset.classes, "validation")
                bar.update(task, accuracy=100 * result.accuracy)
                run.history.append(Epoch(epoch, loss, result.accuracy))
                if run.best is None or result.accuracy >= run.best.validation_accuracy:
                    _keep(run, trainer.judged, result)
                    best = trainer.weights()
        except KeyboardInterrupt:
            run.interrupted = True
            if run.best is None:  # not one epoch is finished: what there is must do
                best = trainer.weights()
                result = evaluate(trainer.judged, dataset.validation, dataset.classes, "validation")
                run.history.append(Epoch(0, math.nan, result.accuracy))
                _keep(run, trainer.judged, result)
        finally:
            net.load_state_dict(best)
    return run


def evaluate(net: SequenceClassifier, part: Split, classes: Sequence[str], name: str) -> Metrics:
    """Accuracy, macro F1, per-class figures and confusion of a torch model on one part of a data set."""
    return metrics.evaluate(predict(net, part.x), part.y, classes, name)


def predict(net: SequenceClassifier, x: npt.NDArray[Any], batch_size: int = 1024) -> npt.NDArray[np.int64]:
    """Class numbers [N] of raw windows ``x [N, T, D]``."""
    was_training = net.training
    net.eval()
    with torch.no_grad():
        parts = [net(torch.from_numpy(x[i : i + batch_size]).float()).argmax(1) for i in range(0, len(x), batch_size)]
    net.train(was_training)
    return torch.cat(parts).numpy()


class _Trainer:
    """Optimiser, schedule, augmentation and weight averaging around one network."""

    def __init__(
        self, net: SequenceClassifier, train: Split, axes: Sequence[Sequence[int]], settings: Settings
    ) -> None:
        self.net, self.axes, self.settings = net, axes, settings
        self.x, self.y = torch.from_numpy(train.x).float(), torch.from_numpy(train.y)  # [N, T, D], [N]
        net.set_normalisation(self.x, settings.at_rest)
        self.steps = -(-len(self.x) // settings.batch_size)
        optimizer = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = optimizer(
            net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.scheduler: LRScheduler
        if settings.schedule == "onecycle":
            total = settings.epochs * self.steps
            self.scheduler = OneCycleLR(self.optimizer, settings.learning_rate, total_steps=total)
        else:
            self.scheduler = StepLR(self.optimizer, settings.decay_epochs * self.steps, settings.decay_rate)
        self.average: AveragedModel | None = None
        if settings.average:
            running_mean = get_ema_multi_avg_fn(settings.average)
            self.average = AveragedModel(net, multi_avg_fn=running_mean)
        self.generator = torch.Generator().manual_seed(settings.seed)

    @property
    def judged(self) -> SequenceClassifier:
        """The network that is validated and kept: the running average, where there is one."""
        return cast(SequenceClassifier, self.average.module) if self.average else self.net

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.judged.state_dict().items()}

    def epoch(self, report: Callable[[float], None]) -> float:
        """One pass over the training windows in random order; the mean loss."""
        self.net.train()
        total = 0.0
        order = torch.randperm(len(self.x), generator=self.generator)
        for rows in torch.split(order, self.settings.batch_size):
            batch = self.settings.augmentation(self.x[rows], self.axes, self.net.std, self.generator)
            loss = self.step(batch, self.y[rows])
            total += loss * len(rows)
            report(loss)
        if not all(value.isfinite().all() for value in self.judged.state_dict().values()):
            raise self._diverged("weights became NaN or infinite")
        return total / len(self.x)

    def step(self, x: Tensor, y: Tensor) -> float:
        """One update of the weights; the loss before it."""
        loss = cross_entropy(self.net(x), y, label_smoothing=self.settings.label_smoothing)
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss became {loss.item()}")
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.net.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.scheduler.step()
        if self.average:
            self.average.update_parameters(self.net)
        return loss.item()

    def _diverged(self, how: str) -> TrainingError:
        return TrainingError(
            f"{how}; the network and the checkpoint keep the best weights so far. "
            f"Check the data for extreme values, or try a smaller learning rate than {self.settings.learning_rate}."
        )


def _keep(run: Run, net: SequenceClassifier, result: Metrics) -> None:
    epoch = run.history[-1]
    if run.folder is not None:
        data = checkpoint.DataRecord.of(run.source)
        checkpoint.save(run.folder, net, data, _training_record(run, epoch, result))
    run.best, run.validation = epoch, result  # last: Ctrl-C in the first save must find nothing kept yet


def _training_record(run: Run, epoch: Epoch, result: Metrics) -> dict[str, Any]:
    return {
        "settings": asdict(run.settings),
        "epoch": epoch.epoch,
        "size": asdict(model_size(run.net, run.source.x.shape[1])),
        "validation": {"accuracy": result.accuracy, "macro_f1": result.macro_f1, "n": result.n},
        "bundle": dict(run.bundle),
    }


def _check_fit(net: SequenceClassifier, dataset: Dataset) -> None:
    _, steps, features = dataset.x.shape
    faults = []
    if features != net.rnn.input_size:
        faults.append(f"the data has {features} channels, the network takes {net.rnn.input_size}")
    if len(dataset.classes) != net.head.out_features:
        faults.append(f"the data has {len(dataset.classes)} classes, the network {net.head.out_features}")
    if net.pool > steps:
        faults.append(f"the network pools over {net.pool} steps, the windows have {steps}")
    if missing := [name for i, name in enumerate(dataset.classes) if i not in dataset.train.y]:
        faults.append(f"no training window of class {', '.join(missing)}")
    if faults:
        raise TrainingError(f"cannot train on {dataset.id!r}: " + "; ".join(faults))


@contextmanager
def _progress(visible: bool) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  validation {task.fields[accuracy]:.1f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        yield bar
