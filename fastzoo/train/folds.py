"""Cross-validation over groups: no subject, speaker or record is on both sides of a fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastzoo.data import Dataset
from fastzoo.data.prepared import TEST, TRAIN, VALIDATION
from fastzoo.errors import DataError, require


def fold(dataset: Dataset, number: int, folds: int, seed: int) -> Dataset:
    """The same data with one of ``folds`` parts of its training and validation groups as the validation split.

    Parts are of about equal size and hold the classes in about equal shares (scikit-learn's
    ``StratifiedGroupKFold``). The test split stays as it is.

    Raises:
        DataError: there are fewer groups than folds.
        MissingExtraError: scikit-learn is not installed.
    """
    require("sklearn", extra="train", purpose="cross-validation")
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    rows = np.flatnonzero(dataset.split != TEST)
    groups = dataset.group[rows]
    if (count := len(np.unique(groups))) < folds:
        raise DataError(f"data set {dataset.id!r} has {count} groups besides the test split: too few for {folds} folds")
    y = dataset.y[rows]
    y = np.where(np.bincount(y)[y] < folds, -1, y)  # classes too rare to be in every part are no concern
    kind = StratifiedGroupKFold if (np.unique(y, return_counts=True)[1] >= folds).all() else GroupKFold
    held_out = rows[list(kind(folds, shuffle=True, random_state=seed).split(rows, y, groups))[number][1]]
    split = np.where(dataset.split == TEST, TEST, TRAIN).astype(np.uint8)
    split[held_out] = VALIDATION
    return replace(dataset, split=split)
