"""The numbers that define a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fastzoo.train.augment import Augmentation


@dataclass(frozen=True)
class Settings:
    """Settings of :func:`fastzoo.train.fit`; every one can be given there as a keyword.

    Args:
        epochs: passes over the training windows.
        batch_size: windows per step.
        optimizer: ``"adamw"`` or ``"adam"``.
        learning_rate: the peak of the one-cycle schedule, or the start of the step schedule.
        weight_decay: pull of the weights to zero, decoupled (AdamW) or in the gradient (Adam).
        schedule: ``"onecycle"`` (up for the first 30 % of the steps, then down to almost nothing) or ``"step"``.
        decay_epochs: with ``"step"``, epochs between two decays (EdgeML: 200).
        decay_rate: with ``"step"``, the factor of a decay (EdgeML: 0.1).
        average: decay per step of the running average of the weights that is validated and kept; 0 = no averaging.
        label_smoothing: share of the target that is spread evenly over all classes.
        augmentation: what is done to the windows.
        validation_fraction: share of the training windows held out, by whole groups, where the data set has no
            validation split of its own.
        validation_seed: which groups; keep it fixed to compare seeds.
        seed: of the order of the windows and of the augmentation.
    """

    epochs: int = 60
    batch_size: int = 128
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    schedule: Literal["onecycle", "step"] = "onecycle"
    decay_epochs: int = 200
    decay_rate: float = 0.1
    average: float = 0.0
    label_smoothing: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation_fraction: float = 0.2
    validation_seed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be {wanted}, not {getattr(self, name)!r}"
            for name, good, wanted in (
                ("epochs", self.epochs >= 1, "at least 1"),
                ("batch_size", self.batch_size >= 1, "at least 1"),
                ("optimizer", self.optimizer in ("adamw", "adam"), "'adamw' or 'adam'"),
                ("learning_rate", 0 < self.learning_rate < float("inf"), "positive"),
                ("weight_decay", 0 <= self.weight_decay < float("inf"), "zero or more"),
                ("schedule", self.schedule in ("onecycle", "step"), "'onecycle' or 'step'"),
                ("decay_epochs", self.decay_epochs >= 1, "at least 1"),
                ("decay_rate", 0 < self.decay_rate <= 1, "in (0, 1]"),
                ("average", 0 <= self.average < 1, "in [0, 1)"),
                ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(faults))
