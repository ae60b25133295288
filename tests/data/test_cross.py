"""Which windows of a related data set count, and that the related ones hold the same people by the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from fastzoo import data
from fastzoo.data import choice, cross, hapt

from .conftest import prepared


def test_models_of_har_are_checked_on_uci_har() -> None:
    assert [relation.id for relation in cross.relations("har")] == ["ucihar"]
    assert cross.relations("har2") == cross.relations(None) == ()


def test_only_test_windows_of_people_who_were_not_trained_on_count() -> None:
    made = data.Dataset(
        id="ucihar",
        x=np.arange(8, dtype=np.float32).reshape(8, 1, 1),
        y=np.arange(8) % 2,
        group=np.array([1, 1, 2, 2, 3, 3, 31, 31]),
        split=np.array([0, 0, 2, 2, 2, 2, 2, 2], np.uint8),
        classes=("a", "b"),
        channels=("c",),
        rate=50.0,
    )
    (relation,) = cross.relations("har")
    part = relation.test(made)
    assert part.group.tolist() == [2, 2]  # 3 is one of har's training people, 31 nobody that is known
    assert part.x.ravel().tolist() == [2, 3]
    assert part.y.tolist() == [0, 1]


@pytest.mark.real_data
def test_the_official_splits_of_har_and_uci_har_hold_the_same_people() -> None:
    har, ucihar = prepared("har"), prepared("ucihar")
    for split in ("train", "test"):
        assert set(getattr(har, split).group) == set(getattr(ucihar, split).group)
    (relation,) = cross.relations("har")
    assert set(relation.unseen).isdisjoint(har.train.group.tolist())
    assert len(relation.test(ucihar)) == len(ucihar.test)


@pytest.mark.real_data
def test_uci_har_lacks_the_turning_on_stairs_that_har_has() -> None:
    """Which is why models of ``har`` confuse stairs there."""
    har = prepared("har")
    ucihar, _ = choice.chosen(prepared("ucihar"), hapt.CHANNELS)
    up, down = hapt.CLASSES.index("walking_upstairs"), hapt.CLASSES.index("walking_downstairs")
    turning = {
        made.id: [float(made.test.x[made.test.y == label, :, 3].mean()) for label in (up, down)]
        for made in (har, ucihar)
    }  # rad/s around the axis along the body
    assert turning["har"][0] > 0.2
    assert turning["har"][1] < -0.2
    assert max(map(abs, turning["ucihar"])) < 0.1
