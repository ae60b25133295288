"""Cross-checks: data sets on which models of another one are measured, too, because both record the same activities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastzoo.data import hapt
from fastzoo.data.prepared import Dataset, Split


@dataclass(frozen=True)
class Relation:
    """Models of the data set ``of`` can be measured on the data set ``id``.

    Channels and classes are found by their names (:func:`fastzoo.data.choice.fitted`).

    Args:
        id: the data set to measure on.
        of: the one that the models were trained on.
        unseen: groups of ``id`` that are not among the training groups of ``of``; only they count.
    """

    id: str
    of: str
    unseen: tuple[int, ...]

    def test(self, data: Dataset) -> Split:
        """The windows of the test split that count."""
        part = data.test
        rows = np.isin(part.group, self.unseen)
        return Split(part.x[rows], part.y[rows], part.group[rows])


# The same thirty people, by the same numbers, and the same official split.
RELATIONS = (Relation("ucihar", of="har", unseen=hapt.TEST_USERS),)


def relations(of: str | None) -> tuple[Relation, ...]:
    """The cross-checks of models that were trained on the data set ``of``."""
    return tuple(relation for relation in RELATIONS if relation.of == of)
