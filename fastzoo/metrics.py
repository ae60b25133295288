"""How good predictions are: accuracy, macro F1, per class, confusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError
from fastzoo.records import ClassMetrics, Metrics


def evaluate(predicted: npt.ArrayLike, y: npt.ArrayLike, classes: Sequence[str], split: str = "test") -> Metrics:
    """Compare predicted class indices with the true ones.

    A ratio with nothing below the line is 0. The macro F1 is the mean over the classes that occur in ``y`` or in
    ``predicted``; a class that occurs in neither has no F1 to count.

    Args:
        predicted: class indices [N].
        y: true class indices [N].
        classes: the C class names.
        split: what the windows are, for the record.

    Raises:
        InputError: no windows, different lengths, or indices that are not of these classes.
    """
    guess, truth = _indices("predicted", predicted, len(classes)), _indices("y", y, len(classes))
    if len(guess) != len(truth) or len(truth) == 0:
        raise InputError(f"{len(guess)} predictions for {len(truth)} labels; one for each, and at least one, is needed")
    confusion = np.bincount(truth * len(classes) + guess, minlength=len(classes) ** 2).reshape(len(classes), -1)
    right = confusion.diagonal()
    called, present = confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = _ratio(right, called), _ratio(right, present)
    f1 = _ratio(2 * right, called + present)
    return Metrics(
        split=split,
        n=len(truth),
        accuracy=float(right.sum() / len(truth)),
        macro_f1=float(f1[called + present > 0].mean()),
        per_class={
            name: ClassMetrics(float(precision[i]), float(recall[i]), float(f1[i]), int(present[i]))
            for i, name in enumerate(classes)
        },
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def _indices(name: str, values: npt.ArrayLike, classes: int) -> npt.NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"{name} must be class indices [N], not {array.dtype} of shape {list(array.shape)}")
    if array.size and (array.min() < 0 or array.max() >= classes):
        raise InputError(f"{name} must lie between 0 and {classes - 1}, not {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
