"""Measure the files of a bundle on data sets related to the one it was trained on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fastzoo import data
from fastzoo.bundle import Bundle, CrossCheck
from fastzoo.data import Dataset, choice, cross
from fastzoo.data.cross import Relation
from fastzoo.errors import DataError
from fastzoo.metrics import evaluate
from fastzoo.model import Model


def checked(content: Bundle, folder: Path) -> Bundle:
    """The bundle with the cross-checks whose data sets are prepared and fit it; the others are left out."""
    for relation in relations(content):
        with suppress(DataError):
            content = recorded(content, folder, relation, data.load(relation.id))
    return content


def relations(content: Bundle) -> tuple[Relation, ...]:
    """The cross-checks that a bundle should have."""
    return cross.relations(content.dataset.id if content.dataset else None)


def recorded(content: Bundle, folder: Path, relation: Relation, dataset: Dataset) -> Bundle:
    """The bundle with one cross-check measured, in every precision.

    Raises:
        DataError: the data set does not fit the model.
    """
    precisions = {}
    for name, precision in content.precisions.items():
        found = measured(content, folder, name, relation, dataset)
        checks = {**(precision.cross_checks or {}), **({relation.id: found} if found else {})}
        precisions[name] = replace(precision, cross_checks=checks or None)
    return replace(content, precisions=precisions)


def measured(content: Bundle, folder: Path, precision: str, relation: Relation, dataset: Dataset) -> CrossCheck | None:
    """What the fastest layout of a precision is worth on a related data set; None where there is only ``step``.

    Raises:
        DataError: the data set does not fit the model, or has no windows of people who were not trained on.
    """
    layout = content.fastest(precision)
    if layout is None:
        return None
    part = relation.test(choice.fitted(dataset, content)[0])
    if not len(part):
        raise DataError(
            f"data set {dataset.id!r} has no test windows of people outside the training split of {relation.of!r}"
        )
    found = evaluate(Model(folder, precision, layout).logits(part.x).argmax(1), part.y, content.labels)
    about = data.about(dataset.id)
    return CrossCheck(
        layout, found.split, found.n, found.accuracy, found.macro_f1, dataset.sha256, about.variant if about else None
    )
