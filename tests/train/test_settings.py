from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from fastzoo.train import Augmentation, Distillation, Settings
from fastzoo.train.sparsity import Sparsity


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(epochs=1, learning_rate=1, weight_decay=0, average=0, decay_rate=1),
        Settings(optimizer="adam", schedule="step", seed=2**32 - 1, augmentation=Augmentation(0.25, 0.1, 0.05)),
        Settings(learning_rate=np.float64(0.01)),
        Settings(sparsity=Sparsity(0.3, 0.2, 0, 1, 4, "cubic"), balance="loss", patience=3),
        Settings(distillation=Distillation(("gru-har", "runs/har"), 0.5, 4.0)),
    ],
)
def test_settings_survive_json(settings: Settings) -> None:
    values = json.loads(json.dumps(asdict(settings)))
    kinds = {"augmentation": Augmentation, "sparsity": Sparsity, "distillation": Distillation}
    parts: dict[str, Any] = {name: kind(**values.pop(name)) for name, kind in kinds.items()}
    assert Settings(**values, **parts) == settings


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", (0, -1, 1.5, "ten", True, None, math.nan, np.int64(5))),
        ("batch_size", (0, 0.5, "128", False)),
        ("optimizer", ("sgd", "Adam", 1, None, ["adam"])),
        ("learning_rate", (0, -0.1, math.nan, math.inf, "1e-2", True)),
        ("weight_decay", (-1e-3, math.nan, math.inf, "no")),
        ("schedule", ("cosine", 0, None)),
        ("decay_epochs", (0, 2.5)),
        ("decay_rate", (0, 1.1, math.nan, "half")),
        ("average", (-0.1, 1, 1.5, math.nan, True)),
        ("label_smoothing", (-0.1, 1, "little")),
        ("gradient_norm", (0, -1, float("nan"), "short")),
        ("balance", ("weights", None, True)),
        ("patience", (-1, 1.5, "soon", True)),
        ("qat", ("activations", "True", None, 1)),
        ("distillation", (None, "gru-har", {"teachers": []})),
        ("sparsity", (None, 0.3, {"w": 0.3})),
        ("at_rest", (-0.1, 1.1, math.nan, "yes", True)),
        ("augmentation", (None, {}, 0.25)),
        ("validation_fraction", (1, -0.2, 20, "0.2", math.nan)),
        ("validation_seed", (-1, 1.0, 2**32, "0")),
        ("seed", (-1, 0.5, 2**32, None)),
    ],
)
def test_an_impossible_value_is_named(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be ") as caught:
            replace(Settings(), **{name: value})
        assert repr(value) in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"epochs must be .*; optimizer must be .*; average must be "):
        Settings(epochs=0, optimizer="sgd", average=1.0)  # type: ignore[arg-type]
