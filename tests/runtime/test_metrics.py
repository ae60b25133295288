"""Metrics agree with scikit-learn, and refuse what cannot be counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from fastzoo.errors import InputError
from fastzoo.metrics import evaluate

CLASSES = ("a", "b", "c", "d")

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@settings(deadline=None)
@given(pairs=PAIRS)
def test_metrics_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, y = np.array(pairs).T
    found = evaluate(predicted, y, CLASSES, "validation")
    assert (found.split, found.n) == ("validation", len(pairs))
    assert found.accuracy == pytest.approx(accuracy_score(y, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(y, predicted, average="macro", zero_division=0))
    assert found.confusion == tuple(map(tuple, confusion_matrix(y, predicted, labels=range(4)).tolist()))
    expected = precision_recall_fscore_support(y, predicted, labels=range(4), zero_division=0)
    columns = zip(*((of.precision, of.recall, of.f1, of.n) for of in found.per_class.values()), strict=True)
    for column, reference in zip(columns, expected, strict=True):
        np.testing.assert_allclose(column, reference)


def test_a_class_that_does_not_occur_has_no_say_in_the_macro_f1() -> None:
    assert evaluate([0, 1, 1], [0, 1, 1], CLASSES).macro_f1 == 1
    assert evaluate([0, 1, 2], [0, 1, 1], CLASSES).macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize(
    ("predicted", "y", "message"),
    [
        ([], [], "must be class indices"),
        (np.zeros(0, int), np.zeros(0, int), "at least one"),
        ([0, 1], [0], "2 predictions for 1 labels"),
        ([4], [0], "predicted must lie between 0 and 3"),
        ([0], [-1], "y must lie between 0 and 3"),
        ([0.0], [0], "not float64"),
        ([[0]], [0], "shape"),
        (["a"], [0], "must be class indices"),
        ([True], [0], "not bool"),
    ],
)
def test_what_cannot_be_counted_is_refused(predicted: Any, y: npt.ArrayLike, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(predicted, y, CLASSES)
