"""Optimiser, schedule, augmentation, sparsity and weight averaging around one network; all of it can be put aside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fastzoo.data import Split
from fastzoo.errors import TrainingError
from fastzoo.nn import SequenceClassifier
from fastzoo.train.augment import Channels
from fastzoo.train.distillation import Teachers
from fastzoo.train.qat import FakeQuantizer
from fastzoo.train.settings import Settings
from fastzoo.train.sparsity import Thresholder


class Trainer:
    """One network in training.

    Args:
        net: changed in place.
        train: the training windows.
        channels: their names, by which the augmentation finds the sensors.
        settings: of the run.
        teachers: whose answers are learnt; None = labels alone.
    """

    def __init__(
        self,
        net: SequenceClassifier,
        train: Split,
        channels: Sequence[str],
        settings: Settings,
        teachers: Teachers | None = None,
    ) -> None:
        self.net, self.settings = net, settings
        self.x, self.y = torch.from_numpy(train.x).float(), torch.from_numpy(train.y)  # [N, T, D], [N]
        self.teachers = teachers
        net.set_normalisation(self.x, settings.at_rest)
        self.channels = Channels(tuple(channels), net.mean, net.std)
        self.batches = -(-len(self.x) // settings.batch_size)
        self.steps_done = 0
        optimizer = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = optimizer(
            net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        steps = settings.epochs * self.batches
        self.scheduler: LRScheduler
        if settings.schedule == "onecycle":
            self.scheduler = OneCycleLR(self.optimizer, settings.learning_rate, total_steps=steps)
        else:
            self.scheduler = StepLR(self.optimizer, settings.decay_epochs * self.batches, settings.decay_rate)
        self.thresholder = Thresholder(net, settings.sparsity, steps)
        self.quantizer: FakeQuantizer | None = None
        if settings.qat:
            self.quantizer = FakeQuantizer.of_training(net, self.x, settings.qat)
        self.average: AveragedModel | None = None
        if settings.average:
            self.average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        self.generator = torch.Generator().manual_seed(settings.seed)
        counts = torch.bincount(self.y, minlength=net.head.out_features)
        self.class_weights = len(self.y) / (len(counts) * counts)  # [C]; 1 where all are equally frequent

    @property
    def judged(self) -> SequenceClassifier:
        """The network that is validated and kept: the running average, where there is one."""
        return cast(SequenceClassifier, self.average.module) if self.average else self.net

    @property
    def rounds(self) -> bool:
        """Whether weights and activations are rounded: in the last phase of quantization-aware training."""
        return self.quantizer is not None and self.steps_done >= self.thresholder.end

    @property
    def answering(self) -> SequenceClassifier:
        """:attr:`judged` as it will answer once exported: rounded, where training rounds."""
        return self.quantizer.rounded(self.judged) if self.quantizer and self.rounds else self.judged

    @property
    def counts(self) -> bool:
        """Whether the network is what was asked for by now: sparse, and rounded, so that an epoch can be kept."""
        return self.thresholder.done and (self.rounds or self.quantizer is None)

    @property
    def phase(self) -> str:
        """Of the step that was done last."""
        phase = self.thresholder.phase(self.steps_done - 1)
        rounded = self.quantizer is not None and self.steps_done > self.thresholder.end
        return phase if not rounded else "quantized" if phase == "dense" else f"{phase}, quantized"

    def weights(self) -> dict[str, Tensor]:
        """A copy of what is validated and kept."""
        return {name: value.clone() for name, value in self.judged.state_dict().items()}

    def epoch(self, report: Callable[[float], None]) -> float:
        """One pass over the training windows in random order; the mean loss.

        Raises:
            TrainingError: the loss or the weights are no longer finite.
        """
        self.net.train()
        if self.quantizer:
            self.quantizer.refresh()
        total = 0.0
        for rows in torch.split(self._order(), self.settings.batch_size):
            batch = self.x[rows]
            for augmentation in self.settings.augmentations:
                batch = augmentation(batch, self.channels, self.generator)
            loss = self._step(batch, rows)
            total += loss * len(rows)
            report(loss)
        if not all(value.isfinite().all() for value in self.judged.state_dict().values()):
            raise self._diverged(self.steps_done - 1, "weights became NaN or infinite")
        return total / len(self.x)

    def _order(self) -> Tensor:
        """The windows of an epoch: all of them in random order, or as many drawn so that classes are equally likely."""
        if self.settings.balance == "sampling":
            chances = self.class_weights[self.y]
            return torch.multinomial(chances, len(self.x), replacement=True, generator=self.generator)
        return torch.randperm(len(self.x), generator=self.generator)

    def _step(self, x: Tensor, rows: Tensor) -> float:
        """One update of the weights; the loss before it."""
        weight = self.class_weights if self.settings.balance == "loss" else None
        logits = self.quantizer(x) if self.quantizer and self.rounds else self.net(x)
        y = self.y[rows]
        loss = cross_entropy(logits, y, weight=weight, label_smoothing=self.settings.label_smoothing)
        if self.teachers:
            of_windows = weight if weight is None else weight[y]
            loss = self.settings.distillation.loss(logits, self.teachers(x), loss, of_windows)
        if not torch.isfinite(loss):
            bad = [int(row) for row, fine in zip(rows, logits.isfinite().all(dim=1), strict=True) if not fine]
            where = f" for training windows {', '.join(map(str, bad[:5]))}{', ...' * (len(bad) > 5)}" if bad else ""
            raise self._diverged(self.steps_done, f"the loss became {loss.item()}{where}")
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.net.parameters(), self.settings.gradient_norm)
        self.optimizer.step()
        self.scheduler.step()
        if self.average:
            self.average.update_parameters(self.net)
        average = cast(SequenceClassifier, self.average.module) if self.average else None
        self.thresholder.after_step(self.steps_done, self.net, self.optimizer, average)
        self.steps_done += 1
        return loss.item()

    def _diverged(self, step: int, how: str) -> TrainingError:
        epoch, batch = divmod(step, self.batches)
        return TrainingError(
            f"epoch {epoch + 1}, batch {batch + 1}: {how}; the network and the checkpoint keep the best weights so "
            "far. Check the data for extreme values, or try a smaller learning rate than "
            f"{self.settings.learning_rate}."
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next epoch depends on: tensors by name, and what JSON can hold."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        for index, values in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        tensors |= {f"support.{name}": value for name, value in self.thresholder.supports.items()}
        tensors |= {"random.own": self.generator.get_state(), "random.torch": torch.get_rng_state()}  # dropout's
        numbers = {
            "steps_done": self.steps_done,
            "threshold_share": self.thresholder.share,
            "groups": optimizer["param_groups"],
            "scheduler": {key: value for key, value in self.scheduler.state_dict().items() if not callable(value)},
        }
        return tensors, numbers

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go back to where :meth:`state` was taken, with the same network, data and settings."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

        self.net.load_state_dict(part("net."))
        if self.average:
            self.average.load_state_dict(part("average."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": numbers["groups"]})
        self.scheduler.load_state_dict(dict(numbers["scheduler"]))
        self.thresholder.supports = part("support.")
        self.thresholder.share = numbers["threshold_share"]
        self.steps_done = numbers["steps_done"]
        self.generator.set_state(tensors["random.own"])
        torch.set_rng_state(tensors["random.torch"])
