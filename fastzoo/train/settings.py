"""The numbers that define a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fastzoo._values import is_number, is_whole
from fastzoo.data import Dataset
from fastzoo.train.augment import Augmentation
from fastzoo.train.distillation import Distillation
from fastzoo.train.sparsity import Sparsity

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
        gradient_norm: the largest norm of a step's gradient; a longer one is shortened to it, so that one bad batch
            near the peak of the learning rate does not throw the recurrence off.
        balance: rare classes count as much as frequent ones: ``"loss"`` weighs their windows, ``"sampling"`` draws them
            more often; ``"none"``.
        patience: epochs without a better validation accuracy after which training ends; 0 = never. With sparsity they
            are counted from the moment when the weights are as sparse as they shall be.
        sparsity: how sparse the weights become, and when.
        qat: in the last phase (from ``sparsity.end`` on, with or without sparsity) train with weights and activations
            rounded as the exporter will round them (:mod:`fastzoo.train.qat`); ``"weights"`` = weights alone: no
            layout but ``unrolled`` rounds more, and a FastGRNN takes a third of the time.
        distillation: teachers whose answers are learnt beside the labels (:mod:`fastzoo.train.distillation`).
        at_rest: how far the scale of a channel follows its movement inside a window rather than over all windows, 0 to
            1 (:meth:`fastzoo.nn.SequenceClassifier.set_normalisation`).
        augmentation: what is done to the windows; several are done one after the other.
        validation_fraction: share of the training windows held out, by whole groups, where the data set has no
            validation split of its own. 0 = none: once settings are chosen, all subjects are trained on, and the last
            epoch is kept; its accuracy is that on the training windows, and says so.
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
    gradient_norm: float = 1.0
    balance: Literal["none", "loss", "sampling"] = "none"
    patience: int = 0
    sparsity: Sparsity = field(default_factory=Sparsity)
    qat: bool | Literal["weights"] = False
    distillation: Distillation = field(default_factory=Distillation)
    at_rest: float = 0.0
    augmentation: Augmentation | tuple[Augmentation, ...] = field(default_factory=Augmentation)
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
                ("gradient_norm", is_number(self.gradient_norm) and self.gradient_norm > 0, "a positive number"),
                ("balance", self.balance in ("none", "loss", "sampling"), "'none', 'loss' or 'sampling'"),
                ("patience", is_whole(self.patience, 0), "a whole number of at least 0"),
                ("sparsity", isinstance(self.sparsity, Sparsity), "a Sparsity"),
                ("distillation", isinstance(self.distillation, Distillation), "a Distillation"),
                ("qat", isinstance(self.qat, bool) or self.qat == "weights", "true, false or 'weights'"),
                ("at_rest", is_number(self.at_rest, 0) and self.at_rest <= 1, "a number from 0 to 1"),
                (
                    "augmentation",
                    all(isinstance(part, Augmentation) for part in self.augmentations),
                    "an Augmentation or a tuple of them",
                ),
                (
                    "validation_fraction",
                    is_number(self.validation_fraction) and 0 <= self.validation_fraction < 1,
                    "a number in [0, 1)",
                ),
                ("validation_seed", is_whole(self.validation_seed, 0, LARGEST_SEED), "a seed, 0 to 2^32 - 1"),
                ("seed", is_whole(self.seed, 0, LARGEST_SEED), "a seed, 0 to 2^32 - 1"),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(faults))

    def hold_out(self, dataset: Dataset) -> Dataset:
        """The same data with a validation split, where there shall be one.

        Raises:
            DataError: there are fewer than two training groups.
        """
        if not self.validation_fraction:
            return dataset
        return dataset.with_validation(self.validation_fraction, self.validation_seed)

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """The augmentations in their order."""
        return self.augmentation if isinstance(self.augmentation, tuple) else (self.augmentation,)


def chosen(settings: Any, default: Any) -> Any:
    """What is not at its default: what a record from before a setting existed, which had its default, compares by.

    Args:
        settings: of :class:`Settings` or of a part of them, as JSON.
        default: ``Settings()`` or its part, as the same JSON.
    """
    if isinstance(settings, list) and isinstance(default, dict):  # several augmentations
        return [chosen(each, default) for each in settings]
    if not (isinstance(settings, dict) and isinstance(default, dict)):
        return settings
    own = {name: chosen(value, default.get(name)) for name, value in settings.items() if value != default.get(name)}
    return {name: value for name, value in own.items() if value != {}}
