"""The training loop: fit a classifier, keep the weights that were best on validation subjects."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastzoo import metrics
from fastzoo.bundle import Metrics
from fastzoo.data import Dataset, Split
from fastzoo.errors import TrainingError
from fastzoo.nn import SequenceClassifier, model_size
from fastzoo.train import checkpoint, log, resume
from fastzoo.train.distillation import Teachers
from fastzoo.train.log import Epoch
from fastzoo.train.progress import progress_bars
from fastzoo.train.qat import FakeQuantizer
from fastzoo.train.settings import Settings, chosen
from fastzoo.train.sparsity import nonzeros
from fastzoo.train.trainer import Trainer

_FIGURES = "loss {task.fields[loss]:.3f}  validation {task.fields[accuracy]:.1f} %"


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
    teachers: Teachers | None = None

    @property
    def finished(self) -> bool:
        """Whether no epoch is left: all were done, or patience ended."""
        waited = self.settings.patience and self.best and self.history[-1].epoch - self.best.epoch
        return len(self.history) == self.settings.epochs or bool(waited and waited >= self.settings.patience)

    @property
    def answering(self) -> SequenceClassifier:
        """:attr:`net` as it will answer once exported: rounded, after quantization-aware training."""
        if not self.settings.qat:
            return self.net
        return FakeQuantizer.of_training(self.net, self.dataset.train.x, self.settings.qat).rounded()


def fit(
    net: SequenceClassifier,
    dataset: Dataset,
    settings: Settings | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resumed: bool = False,
    progress: bool = True,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    bundle: Mapping[str, str] | None = None,
    **overrides: Any,
) -> Run:
    """Train ``net`` on the training windows of ``dataset`` and keep the epoch that is best on its validation windows.

    Validation accuracy decides; of equals, the later epoch. Where the data set has no validation split, whole groups
    of the training split are held out; with ``validation_fraction`` 0 none are, and the last epoch is kept. With
    sparsity, an epoch counts once the weights are as sparse as they shall be; with ``qat``, in the last phase, and as
    its int8 file will answer. Ctrl-C ends the run early and keeps the best weights so far; so does an error.

    Args:
        net: changed in place.
        dataset: windows in raw units; mean and std per channel are taken from its training split.
        settings: defaults where None.
        out: folder for the checkpoint, rewritten whenever validation improves, the state after each epoch, and the
            log; None = nothing is written.
        resumed: go on from the state in ``out``, if there is one: the run ends with the bits that it would have had
            without a break (on the same kind of machine, with as many threads). Without it an earlier state is deleted.
        progress: show a progress bar.
        on_epoch: called after each epoch.
        bundle: kept in the checkpoint for the exporter: name, version, summary and licence of the published bundle.
        overrides: any field of :class:`Settings`, e.g. ``epochs=5``.

    Raises:
        TrainingError: the data does not fit the network, the loss is no longer finite, ``out`` cannot be written, or
            the state there is of another run.
        DataError: the data set cannot be split by group.
        UnknownModelError: no run, bundle or model has the name of a teacher.
        BundleError: a teacher's bundle is faulty.
        ValueError: a setting is out of range.
    """
    settings = replace(settings or Settings(), **overrides)
    source, dataset = dataset, settings.hold_out(dataset)
    _check_fit(net, dataset)
    run = Run(net, settings, source, dataset, folder=Path(out) if out is not None else None, bundle=bundle or {})
    run.teachers = find_teachers(settings, source, dataset)
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator, which is the caller's
        torch.manual_seed(settings.seed)
        _run(run, resumed, progress, on_epoch)
    return run


def find_teachers(settings: Settings, source: Dataset, dataset: Dataset) -> Teachers | None:
    """Those that the settings name, if any; ``dataset`` is ``source`` with its validation split.

    Raises:
        TrainingError: they do not know this data, or saw what is held out.
        UnknownModelError: no run, bundle or model has the name of a teacher.
        BundleError: a teacher's bundle is faulty.
    """
    if not settings.distillation:
        return None
    chosen = len(dataset.validation) and not len(source.validation)  # else the data set came with its validation split
    names = ("validation_fraction", "validation_seed")
    return Teachers(
        settings.distillation, dataset, {name: getattr(settings, name) for name in names} if chosen else None
    )


def _run(run: Run, resumed: bool, progress: bool, on_epoch: Callable[[Epoch], None]) -> None:
    """All epochs that are left."""
    net, dataset, settings = run.net, run.dataset, run.settings
    trainer = Trainer(net, dataset.train, dataset.channels, settings, run.teachers)
    best = trainer.weights()
    if run.folder is not None and resumed:
        best = _go_on(run, trainer) or best
    elif run.folder is not None:
        resume.clear(run.folder)
    record = log.Log(run.folder)
    with progress_bars(_FIGURES, progress) as bar:
        total = settings.epochs * trainer.batches
        task = bar.add_task("training", total=total, completed=trainer.steps_done, loss=math.nan, accuracy=math.nan)
        try:
            while not run.finished:
                loss = trainer.epoch(lambda loss: bar.update(task, advance=1, loss=loss))
                result = _judge(trainer.answering, dataset)
                epoch = _epoch(trainer, loss, result)
                bar.update(task, accuracy=100 * result.accuracy, description=_phase(trainer, epoch))
                run.history.append(epoch)
                better = not run.best or result.accuracy >= run.best.validation_accuracy
                if trainer.counts and (better or result.split == "training"):
                    _keep(run, trainer.judged, result)
                    best = trainer.weights()
                record.write(run.history)
                if run.folder is not None:
                    resume.save(run.folder, epoch.epoch, *_state(run, trainer, best))
                on_epoch(epoch)
        except KeyboardInterrupt:
            run.interrupted = True
            if run.best is None:  # not one epoch counts: what there is must do
                best = trainer.weights()
                result = _judge(trainer.answering, dataset)
                if not run.history:
                    run.history.append(Epoch(0, math.nan, result.accuracy, result.macro_f1))
                _keep(run, trainer.judged, result)
        finally:
            net.load_state_dict(best)


def evaluate(net: SequenceClassifier, part: Split, classes: Sequence[str], name: str) -> Metrics:
    """Accuracy, macro F1, per-class figures and confusion of a torch model on one part of a data set."""
    return metrics.evaluate(predict(net, part.x), part.y, classes, name)


def _judge(net: SequenceClassifier, dataset: Dataset) -> Metrics:
    """On the validation windows; on those of training where none are held out."""
    held_out = dataset.validation
    if len(held_out):
        return evaluate(net, held_out, dataset.classes, "validation")
    return evaluate(net, dataset.train, dataset.classes, "training")


def predict(net: SequenceClassifier, x: npt.NDArray[Any], batch_size: int = 1024) -> npt.NDArray[np.int64]:
    """Class numbers [N] of raw windows ``x [N, T, D]``."""
    was_training = net.training
    net.eval()
    with torch.no_grad():
        parts = [net(torch.from_numpy(x[i : i + batch_size]).float()).argmax(1) for i in range(0, len(x), batch_size)]
    net.train(was_training)
    return torch.cat(parts).numpy()


def _epoch(trainer: Trainer, loss: float, result: Metrics) -> Epoch:
    """The record of the epoch that ``trainer`` just finished."""
    shares = trainer.thresholder.final
    return Epoch(
        epoch=trainer.steps_done // trainer.batches,
        loss=loss,
        validation_accuracy=result.accuracy,
        validation_macro_f1=result.macro_f1,
        learning_rate=trainer.optimizer.param_groups[0]["lr"],
        phase=trainer.phase,
        nonzeros=nonzeros(trainer.judged, shares) if shares else None,
    )


def _phase(trainer: Trainer, epoch: Epoch) -> str:
    """Phase and sparsity in a few words."""
    if epoch.nonzeros is None:
        return "training" if epoch.phase == "dense" else epoch.phase
    entries = sum(p.numel() for name, p in trainer.net.named_parameters() if name in trainer.thresholder.final)
    return f"{epoch.phase}, {100 * epoch.nonzeros / entries:.0f} % non-zero"


def _state(run: Run, trainer: Trainer, best: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that the rest of the run depends on: tensors by name, and what JSON can hold."""
    tensors, numbers = trainer.state()
    record = {
        **_identity(run),
        "trainer": numbers,
        "history": [asdict(epoch) for epoch in run.history],
        "best": asdict(run.best) if run.best else None,
    }
    return tensors | {f"best.{name}": value for name, value in best.items()}, record


def _identity(run: Run) -> dict[str, Any]:
    """What must stay the same for a run to go on."""
    same = {"settings": asdict(run.settings), "network": run.net.config(), "data": run.source.sha256}
    return same | ({"teachers": run.teachers.sha256} if run.teachers else {})


def _has_checkpoint(folder: Path) -> bool:
    try:
        checkpoint.load(folder)
    except TrainingError:
        return False
    return True


def _go_on(run: Run, trainer: Trainer) -> dict[str, Tensor] | None:
    """Take up the state in the run's folder; its best weights, or None where there is no state."""
    assert run.folder is not None
    found = resume.load(run.folder)
    if found is None:
        return None
    tensors, record = found
    mine = json.loads(json.dumps(_identity(run)))  # as JSON gives it back: tuples are lists
    default = json.loads(json.dumps(asdict(Settings())))
    for identity in (mine, record):
        identity["settings"] = chosen(identity["settings"], default)
    if other := [what for what, value in mine.items() if record[what] != value]:
        raise TrainingError(
            f"the run in {run.folder} has other {' and '.join(other)} than this one: go on with the same, or train "
            "anew into another folder"
        )
    whole = _has_checkpoint(run.folder)  # looked at first: reading one draws random numbers
    trainer.restore(tensors, record["trainer"])
    run.history[:] = [Epoch(**epoch) for epoch in record["history"]]
    best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
    if record["best"]:
        run.best = Epoch(**record["best"])
        net = copy.deepcopy(run.net)
        net.load_state_dict(best)
        judged = trainer.quantizer.rounded(net) if trainer.quantizer else net
        run.validation = _judge(judged, run.dataset)
        if not whole:  # the state is, and so the checkpoint can be made again
            data = checkpoint.DataRecord.of(run.source)
            checkpoint.save(run.folder, net, data, _training_record(run, net, run.best, run.validation))
    return best


def _keep(run: Run, net: SequenceClassifier, result: Metrics) -> None:
    epoch = run.history[-1]
    if run.folder is not None:
        data = checkpoint.DataRecord.of(run.source)
        checkpoint.save(run.folder, net, data, _training_record(run, net, epoch, result))
    run.best, run.validation = epoch, result  # last: Ctrl-C in the first save must find nothing kept yet


def _training_record(run: Run, net: SequenceClassifier, epoch: Epoch, result: Metrics) -> dict[str, Any]:
    return {
        "settings": asdict(run.settings),
        "epoch": epoch.epoch,
        "size": asdict(model_size(net, run.source.x.shape[1])),
        result.split: {"accuracy": result.accuracy, "macro_f1": result.macro_f1, "n": result.n},
        "bundle": dict(run.bundle),
        **({"teachers": run.teachers.sha256} if run.teachers else {}),
    }


def _check_fit(net: SequenceClassifier, dataset: Dataset) -> None:
    _, steps, features = dataset.x.shape
    faults = []
    if features != net.input_size:
        faults.append(f"the data has {features} channels, the network takes {net.input_size}")
    if len(dataset.classes) != net.head.out_features:
        faults.append(f"the data has {len(dataset.classes)} classes, the network {net.head.out_features}")
    if fault := net.misfit(steps):
        faults.append(fault)
    if missing := [name for i, name in enumerate(dataset.classes) if i not in dataset.train.y]:
        faults.append(f"no training window of class {', '.join(missing)}")
    if faults:
        raise TrainingError(f"cannot train on {dataset.id!r}: " + "; ".join(faults))
