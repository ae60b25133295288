"""``har2``: the windows of ``har`` in the two groups of the FastGRNN paper; nothing of its own is downloaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastzoo.data.prepared import Dataset
from fastzoo.errors import DataError

CLASSES = ("other", "sitting_laying_upstairs")
SECOND = ("sitting", "laying", "walking_upstairs")


def make(har: Dataset) -> Dataset:
    """The same windows, groups and splits, labelled 1 where the person sits, lies or walks upstairs.

    Raises:
        DataError: ``har`` has other classes.
    """
    if missing := [name for name in SECOND if name not in har.classes]:
        raise DataError(
            f"'har2' is made from 'har', but the prepared 'har' has no class {', '.join(missing)}: fetch it again with "
            "`fastzoo data fetch har`"
        )
    codes = [har.classes.index(name) for name in SECOND]
    return replace(har, id="har2", y=np.isin(har.y, codes).astype(np.int64), classes=CLASSES)
