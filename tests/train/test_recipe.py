from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.nn import CELLS
from fastzoo.train import Augmentation, ModelConfig, Recipe, Settings
from fastzoo.train.recipe import change, load, parse, read, to_toml, value

from . import task
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


@pytest.mark.parametrize("brick", [0, -2, 1.5, True, "2"])
def test_a_model_of_impossible_bricks_is_refused(brick: Any, dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match="brick must be a whole number"):
        replace(MODEL, brick=brick).build(dataset, 0)


def test_a_model_reads_bricks(dataset: Dataset) -> None:
    net = ModelConfig(hidden_size=8, brick=4).build(dataset, 0)
    assert (net.brick, net.input_size, net.rnn.input_size) == (4, 6, 24)


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


STACKED = """
[data]
id = "har"

[model]
cell = "fastrnn"
num_layers = 2
bidirectional = true
dropout = 0.5
w_rank = [4, 8]
u_rank = 3
update_nonlinearity = "relu"
alpha = 0.25
beta = 1
"""


def test_a_recipe_may_stack_cells(tmp_path: Path, dataset: Dataset) -> None:
    model = ModelConfig(
        cell="fastrnn",
        num_layers=2,
        bidirectional=True,
        dropout=0.5,
        w_rank=[4, 8],
        u_rank=3,
        update_nonlinearity="relu",
        alpha=0.25,
        beta=1,
    )
    recipe = read(written(tmp_path, STACKED))
    assert recipe == Recipe("har", model)
    assert recipe.model.build(dataset, 0).config()["cell"] == {
        "type": "fastrnn",
        "input_size": 6,
        "hidden_size": 64,
        "w_rank": [4, 8],
        "u_rank": 3,
        "update_nonlinearity": "relu",
        "alpha": 0.25,
        "beta": 1,
        "num_layers": 2,
        "bidirectional": True,
        "dropout": 0.5,
    }


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
        (
            {"epochs": 5, "wine": "red"},
            "recipe: unknown epochs, wine; known are data, model, train, seeds, folds, bundle",
        ),
        ({"data": {"id": "har", "path": "x"}}, r"recipe \[data\]: unknown path; known are id"),
        ({"model": {"hidden": 64}}, r"recipe \[model\]: unknown hidden; known are cell, hidden_size, num_layers, bid"),
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


LEAVES = st.sampled_from([None, True, -1, 0, 1, 2.5, float("nan"), 10**400, "", "x", "gru", [], [1], {}, {"a": 1}])
KEYS = {
    None: ["data", "model", "train", "seeds", "bundle", "other"],
    "data": ["id"],
    "model": [
        "cell",
        "hidden_size",
        "num_layers",
        "bidirectional",
        "dropout",
        "w_rank",
        "alpha",
        "alpha_init",
        "zeta",
        "nu",
        "gate_bias",
        "gate_nonlinearity",
        "pool",
    ],
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


NUMBERS = st.floats(0, 1)
SEVERAL = st.one_of(
    st.fixed_dictionaries({}, optional={"seeds": st.integers(1, 9)}),
    st.fixed_dictionaries({}, optional={"folds": st.one_of(st.just(0), st.integers(2, 9))}),
)
RANKS = st.one_of(st.none(), st.just("full"), st.integers(1, 9), st.lists(st.sampled_from([1, 4, "full"]), max_size=3))
SCALARS = st.one_of(st.just("trained"), NUMBERS)
DOCUMENTS = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {"id": st.sampled_from(["har", "digits", 'a "quoted" \\ name.npz', "ünï\ncode"])}
        ),
        "model": st.fixed_dictionaries(
            {},
            optional={
                "cell": st.sampled_from(sorted(CELLS)),
                "hidden_size": st.integers(1, 200),
                "bidirectional": st.booleans(),
                "dropout": NUMBERS,
                "w_rank": RANKS.filter(lambda rank: rank is not None),
                "u_rank": RANKS.filter(lambda rank: rank is not None),
                "alpha": SCALARS,
                "zeta": SCALARS,
                "nu": SCALARS,
                "beta_init": st.one_of(NUMBERS, st.lists(NUMBERS, min_size=2, max_size=2)),
                "gate_bias": st.one_of(NUMBERS, st.lists(NUMBERS, min_size=2, max_size=2)),
            },
        ),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(1, 10**6),
                "learning_rate": st.floats(1e-300, 1e300),
                "optimizer": st.sampled_from(["adam", "adamw"]),
                "balance": st.sampled_from(["none", "loss", "sampling"]),
                "seed": st.integers(0, 2**32 - 1),
                "sparsity": st.fixed_dictionaries(
                    {},
                    optional={
                        "w": st.floats(1e-9, 1),
                        "begin": st.floats(0, 0.5),
                        "every": st.integers(1, 99),
                        "schedule": st.sampled_from(["constant", "cubic"]),
                    },
                ),
                "augmentation": st.one_of(
                    st.fixed_dictionaries({}, optional={"rotate": NUMBERS, "noise": NUMBERS}),
                    st.lists(st.fixed_dictionaries({}, optional={"scale": NUMBERS}), max_size=2),
                ),
            },
        ),
        "bundle": st.dictionaries(st.sampled_from(["name", "version", "summary"]), st.text(max_size=20)),
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS, several=SEVERAL)
def test_a_recipe_that_is_written_is_read_as_it_was(
    document: dict[str, Any], several: dict[str, int], tmp_path: Path
) -> None:
    recipe = parse({**document, **several})
    text = to_toml(recipe)
    assert read(written(tmp_path, text)) == recipe
    assert to_toml(read(written(tmp_path, text))) == text


def test_the_words_of_a_recipe_mean_none(tmp_path: Path) -> None:
    text = (
        '[data]\nid = "har"\n[model]\nw_rank = "full"\nu_rank = ["full", 4]\nnum_layers = 2\nnu = "trained"\n'
        'zeta = "trained"\n'
    )
    recipe = read(written(tmp_path, text))
    assert recipe == Recipe("har", ModelConfig(w_rank=None, u_rank=[None, 4], num_layers=2, nu=None, zeta=None))
    shown = to_toml(recipe).decode()
    assert 'nu = "trained"' in shown
    assert 'w_rank = "full"' in shown
    for wrong in ({"w_rank": "trained"}, {"nu": "full"}, {"hidden_size": "full"}):
        with pytest.raises(TrainingError, match="cannot build this network"):
            ModelConfig(**wrong).build(task.motions(), 0)  # type: ignore[arg-type]


def test_any_key_can_be_changed() -> None:
    document: dict[str, Any] = {"data": {"id": "har"}}
    for key, new in (("train.sparsity.w", 0.5), ("train.epochs", 3), ("seeds", 2), ("data.id", "digits")):
        change(document, key, new)
    recipe = parse(document)
    assert (recipe.data, recipe.seeds, recipe.settings.epochs, recipe.settings.sparsity.w) == ("digits", 2, 3, 0.5)
    with pytest.raises(TrainingError, match=r"recipe: seeds is no table, so there is no seeds\.x"):
        change(document, "seeds.x", 1)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("5", 5), ("0.5", 0.5), ("true", True), ("[0.0, 4.0]", [0.0, 4.0]), ('"full"', "full"), ("full", "full"),
        ("har", "har"), ("runs/x.npz", "runs/x.npz"), ("1.0.0", "1.0.0"), ("{rotate = 0.1}", {"rotate": 0.1}),
        ("x=y", "x=y"),
    ],
)  # fmt: skip
def test_a_word_of_the_command_line_is_toml_or_text(text: str, meaning: object) -> None:
    assert value(text) == meaning


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
    assert net.rnn.cell.bias_gate.tolist() == torch.linspace(0, 3, 12).tolist()
    assert same(weights(net), weights(MODEL.build(dataset, seed=3)))
    assert not same(weights(net), weights(MODEL.build(dataset, seed=4)))


@pytest.mark.parametrize("kind", CELLS)
def test_every_cell_takes_the_fields_that_it_has(kind: str, dataset: Dataset) -> None:
    scalars: dict[str, Any] = {"fastrnn": {"alpha": 0.5, "beta": 0.25}, "fastgrnn": {"zeta": 1.0, "nu": None}}
    own = scalars.get(kind, {})
    gates: dict[str, Any] = {} if kind == "fastrnn" else {"gate_nonlinearity": "quant_sigmoid", "gate_bias": (0, 3)}
    shared: dict[str, Any] = {
        "hidden_size": 5,
        "w_rank": 2,
        "u_rank": 3,
        "num_layers": 2,
        "update_nonlinearity": "quant_tanh",
    }
    net = ModelConfig(cell=kind, pool=4, **shared, **own, **gates).build(dataset, seed=0)
    assert isinstance(net.rnn, CELLS[kind])
    kept = {name: value for name, value in gates.items() if name != "gate_bias"}
    assert net.config()["cell"] == {"type": kind, "input_size": 6, **shared, **own, **kept}
    if gates:
        biases = {"fastgrnn": "bias_gate"}.get(kind, "bias")
        spread = {"fastgrnn": slice(0, 5), "ugrnn": slice(0, 5), "gru": slice(5, 10), "lstm": slice(5, 10)}[kind]
        assert getattr(net.rnn.cells[0], biases)[spread].tolist() == torch.linspace(0, 3, 5).tolist()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"cell": "lstmish"}, "unknown cell 'lstmish'; there are fastrnn, fastgrnn, ugrnn, gru, lstm"),
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
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1, not 0"),
        ({"num_layers": 2.0}, "num_layers must be"),
        ({"dropout": 1.5}, "dropout must be a number between 0 and 1, not 1.5"),
        ({"bidirectional": "no"}, "bidirectional must be"),
        ({"w_rank": [4, 4]}, r"w_rank must be one rank, or one for each of the 1 layers, not \[4, 4\]"),
        ({"num_layers": 2, "u_rank": [4, 99]}, "u_rank must be None"),
        ({"cell": "fastrnn", "beta_init": [0, 3]}, r"beta_init must be one number, or one for each of the 1 layers"),
        ({"cell": "fastrnn", "num_layers": 2, "alpha_init": [0, "fast"]}, "alpha_init must be a number, not 'fast'"),
        ({"beta_init": [0, 3]}, "a fastgrnn has no beta_init$"),
        ({"cell": "fastrnn", "nu": 0.5}, "a fastrnn has no nu$"),
        ({"cell": "fastrnn", "nu": None}, "a fastrnn has no nu$"),
        (
            {"cell": "fastrnn", "gate_bias": (0, 3), "zeta": 1.0, "gate_nonlinearity": "relu"},
            "a fastrnn has no gate_nonlinearity, zeta, gate_bias$",
        ),
        ({"cell": "fastgrnn", "alpha": 0.5, "beta": 0.5}, "a fastgrnn has no alpha, beta$"),
        ({"cell": "ugrnn", "zeta": 1.0}, "a ugrnn has no zeta$"),
        ({"cell": "gru", "nu": 1.0}, "a gru has no nu$"),
        ({"cell": "lstm", "beta": 0.0}, "a lstm has no beta$"),
    ],
)
def test_an_impossible_network_is_refused(model: dict[str, Any], message: str, dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match=message):
        ModelConfig(**model).build(dataset, seed=0)
