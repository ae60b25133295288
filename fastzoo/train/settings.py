"""The numbers that define a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fastzoo._values import is_number, is_whole
from fastzoo.train.augment import Augmentation

LARGEST_SEED = 2**32 - 1  # NumPy and torch both take it


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
        at_rest: how far the scale of a channel follows its movement inside a window rather than over all windows, 0 to
            1 (:meth:`fastzoo.nn.SequenceClassifier.set_normalisation`).
        augmentation: what is done to the windows.
        validation_fraction: share of the training windows held out, by whole groups, where the data set has no
            validation split of its own.
        validation_seed: which groups; keep it fixed to compare seeds.
        seed: of the order of the windows and of the augmentation.

    Raises:
        ValueError: settings have the wrong type or are out of range, all of them in one message.
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
    at_rest: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation_fraction: float = 0.2
    validation_seed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be {wanted}, not {getattr(self, name)!r}"
            for name, good, wanted in (
                ("epochs", is_whole(self.epochs, 1), "a whole number of at least 1"),
                ("batch_size", is_whole(self.batch_size, 1), "a whole number of at least 1"),
                ("optimizer", self.optimizer in ("adamw", "adam"), "'adamw' or 'adam'"),
                ("learning_rate", is_number(self.learning_rate) and self.learning_rate > 0, "a positive number"),
                ("weight_decay", is_number(self.weight_decay, 0), "a number of at least 0"),
                ("schedule", self.schedule in ("onecycle", "step"), "'onecycle' or 'step'"),
                ("decay_epochs", is_whole(self.decay_epochs, 1), "a whole number of at least 1"),
                ("decay_rate", is_number(self.decay_rate) and 0 < self.decay_rate <= 1, "a number in (0, 1]"),
                ("average", is_number(self.average) and 0 <= self.average < 1, "a number in [0, 1)"),
                ("label_smoothing", is_number(self.label_smoothing) and 0 <= self.label_smoothing < 1, "in [0, 1)"),
                ("at_rest", is_number(self.at_rest, 0) and self.at_rest <= 1, "a number from 0 to 1"),
                ("augmentation", isinstance(self.augmentation, Augmentation), "an Augmentation"),
                (
                    "validation_fraction",
                    is_number(self.validation_fraction) and 0 < self.validation_fraction < 1,
                    "a number in (0, 1)",
                ),
                ("validation_seed", is_whole(self.validation_seed, 0, LARGEST_SEED), "a seed, 0 to 2^32 - 1"),
                ("seed", is_whole(self.seed, 0, LARGEST_SEED), "a seed, 0 to 2^32 - 1"),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(faults))
