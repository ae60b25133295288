from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.train import Augmentation, ModelConfig, Recipe, Settings
from fastzoo.train.recipe import load, parse, read

from .task import MODEL, same, weights

FULL = """
seeds = 3

[data]
id = "har"

[model]
cell = "fastgrnn"
hidden_size = 64
w_rank = 6
u_rank = 16
gate_nonlinearity = "quant_sigmoid"
zeta = 1.0
nu = 0.0
gate_bias = [0.0, 4.0]
pool = 64

[train]
epochs = 5
optimizer = "adam"
schedule = "step"
learning_rate = 1

[train.augmentation]
rotate = 0.25

[bundle]
name = "fastgrnn-har"
version = "1.0.0"
summary = "Six activities"
weights_licence = "CC-BY-4.0"
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_recipe_says_everything(tmp_path: Path) -> None:
    assert read(written(tmp_path, FULL)) == Recipe(
        data="har",
        model=ModelConfig(
            hidden_size=64,
            w_rank=6,
            u_rank=16,
            gate_nonlinearity="quant_sigmoid",
            zeta=1.0,
            nu=0.0,
            gate_bias=[0.0, 4.0],
            pool=64,
        ),
        settings=Settings(
            epochs=5, optimizer="adam", schedule="step", learning_rate=1, augmentation=Augmentation(rotate=0.25)
        ),
        seeds=3,
        bundle={
            "name": "fastgrnn-har",
            "version": "1.0.0",
            "summary": "Six activities",
            "weights_licence": "CC-BY-4.0",
        },
    )


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    assert read(str(written(tmp_path, '[data]\nid = "digits"'))) == Recipe("digits")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_the_recipes_of_the_zoo_can_be_read(path: Path) -> None:
    assert read(path).bundle["name"] == path.stem


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot read the recipe .*nowhere\.toml: No such file"):
        read(tmp_path / "nowhere.toml")
    with pytest.raises(TrainingError, match="cannot read the recipe"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["seeds = ", "[data\n", b"\xff\xfe", "id = 1\nid = 2"])
def test_what_is_not_toml_is_refused(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the recipe .*recipe\.toml is not TOML: "):
        read(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = 5", r"recipe\.toml: data must be a table"),
        ("[[model]]", "model must be a table"),
        ('train = "x"', "train must be a table"),
        ("[train]\naugmentation = 3", r"\[train\]: augmentation must be a table"),
        ("bundle = []", "bundle must be a table"),
    ],
)
def test_a_document_whose_tables_are_none_is_not_even_loaded(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        load(written(tmp_path, text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 5, "wine": "red"}, "recipe: unknown epochs, wine; known are data, model, train, seeds, bundle"),
        ({"data": {"id": "har", "path": "x"}}, r"recipe \[data\]: unknown path; known are id"),
        ({"model": {"hidden": 64}}, r"recipe \[model\]: unknown hidden; known are cell, hidden_size, w_rank"),
        ({"train": {"epoch": 5, "lr": 0.1}}, r"recipe \[train\]: unknown epoch, lr; known are epochs, batch_size"),
        ({"train": {"augmentation": {"flip": 1}}}, r"recipe \[train.augmentation\]: unknown flip; known are rotate"),
        ({"bundle": {"licence": "MIT"}}, r"recipe \[bundle\]: unknown licence; known are name, version"),
        ({"data": {}}, r"\[data\] needs an id"),
        ({"data": {"id": 5}}, r"\[data\] needs an id"),
        ({"data": "har"}, "data must be a table"),
        ({"model": []}, "model must be a table"),
        ({"train": 5}, "train must be a table"),
        ({"train": {"augmentation": True}}, "augmentation must be a table"),
        ({"bundle": "x"}, "bundle must be a table"),
        ({"bundle": {"name": 5, "version": 1.0}}, r"\[bundle\]: name, version must be text"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, not 0"),
        ({"seeds": 2.0}, "seeds must be a whole number .* not 2.0"),
        ({"seeds": True}, "seeds must be a whole number .* not True"),
        ({"seeds": "five"}, "seeds must be a whole number .* not 'five'"),
        ({"train": {"epochs": "ten"}}, r"\[train\]: epochs must be a whole number of at least 1, not 'ten'"),
        ({"train": {"epochs": 1.5}}, "epochs must be a whole number of at least 1, not 1.5"),
        ({"train": {"epochs": True, "seed": -1}}, "epochs must be .*; seed must be a seed"),
        ({"train": {"learning_rate": "fast"}}, "learning_rate must be a positive number, not 'fast'"),
        ({"train": {"optimizer": ["adam"]}}, "optimizer must be 'adamw' or 'adam'"),
        ({"train": {"augmentation": {"rotate": "much"}}}, r"\[train.augmentation\]: rotate must be a number"),
    ],
)
def test_a_faulty_recipe_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        parse({"data": {"id": "har"}, **change})


LEAVES = st.sampled_from([None, True, -1, 0, 1, 2.5, float("nan"), 10**400, "", "x", [], [1], {}, {"a": 1}])
KEYS = {
    None: ["data", "model", "train", "seeds", "bundle", "other"],
    "data": ["id"],
    "model": ["cell", "hidden_size", "w_rank", "zeta", "nu", "gate_bias", "gate_nonlinearity", "pool"],
    "train": ["epochs", "batch_size", "optimizer", "learning_rate", "schedule", "average", "augmentation", "seed"],
    "bundle": ["name", "version"],
}


def tables(name: str | None) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(KEYS[name]), LEAVES, max_size=3)


@given(
    document=tables(None),
    parts=st.fixed_dictionaries({}, optional={name: tables(name) for name in ("data", "model", "train", "bundle")}),
)
def test_no_document_leads_to_another_error(document: dict[str, Any], parts: dict[str, Any], dataset: Dataset) -> None:
    try:
        recipe = parse({"data": {"id": "har"}, **document, **parts})
        recipe.model.build(dataset, 0)
        json.dumps(recipe.bundle)
        message = ""
    except TrainingError as error:
        message = str(error)
    assert "not supported between" not in message, "Python's own complaint says nothing to a user"


def test_a_network_is_built_for_its_data(dataset: Dataset) -> None:
    net = MODEL.build(dataset, seed=3)
    assert net.config() == {
        "cell": {
            "type": "fastgrnn",
            "input_size": 6,
            "hidden_size": 12,
            "w_rank": 4,
            "u_rank": 6,
            "gate_nonlinearity": "sigmoid",
            "update_nonlinearity": "tanh",
            "zeta": None,
            "nu": 0.0,
        },
        "num_classes": 3,
        "pool": 8,
    }
    assert net.rnn.bias_gate.tolist() == torch.linspace(0, 3, 12).tolist()
    assert same(weights(net), weights(MODEL.build(dataset, seed=3)))
    assert not same(weights(net), weights(MODEL.build(dataset, seed=4)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"cell": "lstmish"}, "unknown cell 'lstmish'; there are fastgrnn"),
        ({"cell": ["fastgrnn"]}, "cannot build this network for 'made-up-motion'"),
        ({"w_rank": 7}, r"cannot build .* w_rank must be None \(full\) or a whole number between 1 and 6, not 7"),
        ({"hidden_size": "ten"}, "hidden_size must be"),
        ({"hidden_size": 1.5}, "hidden_size must be"),
        ({"gate_nonlinearity": "step"}, "unknown nonlinearity 'step'"),
        ({"gate_nonlinearity": ["tanh"]}, "cannot build this network"),
        ({"nu": "0"}, "a fixed nu is a sigmoid's value, a number between 0 and 1, not '0'"),
        ({"gate_bias": "wide"}, "gate_bias must be"),
        ({"pool": 0}, "pool must be"),
        ({"hidden_size": sys.maxsize}, "cannot build this network"),
    ],
)
def test_an_impossible_network_is_refused(model: dict[str, Any], message: str, dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match=message):
        ModelConfig(**model).build(dataset, seed=0)
