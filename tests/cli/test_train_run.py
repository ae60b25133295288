"""``fastzoo train`` and the folder of a run: ``--set``, ``--resume``, ``--force``, ``--folds``, ``--test``."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest

from fastzoo import train
from fastzoo.cli.train import RECIPE
from fastzoo.data import Cut
from fastzoo.train import seeds_run
from fastzoo.train.recipe import ModelConfig, Recipe, read

from .shell import good, message_of

QUICK = ["--data", "digits", "--hidden-size", "8", "--w-rank", "4", "--u-rank", "4", "--epochs", "1", "--threads", "1"]


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts and not path.name.startswith("resume-")
    }


def test_a_run_is_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    output = good("train", *QUICK, "--w-sparsity", "0.5", "--u-sparsity", "0.25", "--patience", "5", "--out", out)
    assert f"Report: {out / 'report.md'}" in output
    assert {path.name for path in out.iterdir()} >= {
        "recipe.toml", "environment.json", "checkpoint.json", "log.csv", "curves.png", "confusion.png", "metrics.json",
        "report.md",
    }  # fmt: skip
    recipe = read(out / "recipe.toml")
    assert (recipe.data, recipe.model.hidden_size, recipe.settings.epochs, recipe.settings.patience) == (
        "digits",
        8,
        1,
        5,
    )
    assert (recipe.settings.sparsity.w, recipe.settings.sparsity.u) == (0.5, 0.25)
    assert set(json.loads((out / "metrics.json").read_text())) == {"validation"}
    with (out / "log.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert line["phase"] == "frozen"

    net = train.load(out).net
    left = int(sum(value.count_nonzero() for name, value in net.named_parameters() if name.split(".")[-1][0] in "WU"))
    entries = sum(value.numel() for name, value in net.named_parameters() if name.split(".")[-1][0] in "WU")
    assert int(line["nonzeros"]) == left < 0.6 * entries
    assert "export" in output
    good("export", out, "--out", tmp_path / "b", "--layout", "fused")  # and what is exported is as sparse
    exported = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert exported["size"]["nonzeros"] == train.load(out).training["size"]["nonzeros"]
    assert exported["size"]["nonzeros"] <= exported["size"]["parameters"] - (entries - left)


def test_the_recipe_of_a_run_makes_it_again(tmp_path: Path) -> None:
    good("train", *QUICK, "--train-nu", "--balance", "sampling", "--out", tmp_path / "a" / "run")
    good("train", tmp_path / "a" / "run" / "recipe.toml", "--threads", "1", "--out", tmp_path / "b" / "run")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_any_key_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('[data]\nid = "digits"\n[model]\nhidden_size = 12\n[train]\nepochs = 50\n')
    changes = {
        "train.epochs": "1",
        "model.w_rank": "3",
        "model.u_rank": "full",
        "model.gate_bias": "[0.0, 2.0]",
        "train.sparsity.every": "7",
        "train.optimizer": "adam",
        "train.augmentation.noise": "0.1",
        "bundle.version": '"2.0.0"',
    }
    options = [part for key, text in changes.items() for part in ("--set", f"{key}={text}")]
    good("train", file, *options, "--threads", "1", "--out", tmp_path / "run")
    recipe = read(tmp_path / "run" / "recipe.toml")
    assert (recipe.settings.epochs, recipe.settings.optimizer, recipe.settings.sparsity.every) == (1, "adam", 7)
    assert (recipe.model.hidden_size, recipe.model.w_rank, recipe.model.u_rank) == (12, 3, None)
    assert recipe.model.gate_bias == [0.0, 2.0]
    assert recipe.bundle == {"version": "2.0.0"}
    assert train.load(tmp_path / "run").training["bundle"] == {"version": "2.0.0"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "train.wine=red"], "unknown wine; known are epochs, batch_size"),
        (["--set", "wine=red"], "unknown wine; known are data, model, train, seeds, folds, bundle"),
        (["--set", "train.sparsity.trim=15"], "unknown trim; known are w, u, begin"),
        (["--set", "train.epochs"], "--set takes KEY=VALUE, such as train.epochs=5, not 'train.epochs'"),
        (["--set", "train.epochs="], "--set takes KEY=VALUE"),
        (["--set", "=5"], "--set takes KEY=VALUE"),
        (["--set", "train.epochs=ten"], "epochs must be a whole number of at least 1, not 'ten'"),
        (["--set", "train.epochs.x=1"], "epochs is no table, so there is no train.epochs.x"),
        (["--set", "train=5"], "train must be a table"),
        (["--set", "data=5"], "data must be a table"),
        (["--set", "data=digits"], "data must be a table"),
        (["--set", "model=x"], "model must be a table"),
        (["--set", "bundle.version=1.0"], "version must be text"),
        (["--seeds", "2", "--folds", "2"], "folds must be 2 or more, with one seed"),
        (["--set", "folds=1"], "folds must be 2 or more"),
        (["--w-sparsity", "0"], "sparsity.w must be the share that is kept, in (0, 1], not 0"),
        (["--balance", "weights"], "balance must be 'none', 'loss' or 'sampling'"),
        (["--patience", "-1"], "patience must be a whole number"),
        (["--folds", "9999"], "too few for 9999 folds"),
        (["--nu", "0.1", "--train-nu"], "--nu fixes what --train-nu trains"),
    ],
)
def test_wrong_usage_is_one_clear_error(options: list[str], message: str, tmp_path: Path) -> None:
    assert message in message_of("train", *QUICK, *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resume_goes_on_with_what_is_there_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "which run shall go on?" in message_of("train", "--resume")
    assert "there is no recipe.toml" in message_of("train", "--resume", "--out", out)
    for options in (["--epochs", "5"], ["--set", "train.epochs=5"], ["--data", "digits"], ["--folds", "2"]):
        assert "a run goes on as it began: with --resume leave out" in message_of(
            "train", *options, "--resume", "--out", out
        )
    (tmp_path / "r.toml").write_text('[data]\nid = "digits"')
    assert "leave out" in message_of("train", tmp_path / "r.toml", "--resume", "--out", out)
    assert not out.exists()

    good("train", *QUICK, "--noise", "0.1", "--out", out)
    before = content(out)
    output = good("train", "--resume", "--threads", "1", "--out", out)
    assert content(out) == before
    assert "validation accuracy" in output

    (out / "recipe.toml").write_text("[data\n")
    assert "is not TOML" in message_of("train", "--resume", "--out", out)


def test_a_run_of_several_seeds_goes_on_with_more(tmp_path: Path) -> None:
    good("train", *QUICK, "--seeds", "3", "--out", tmp_path / "whole" / "run")
    out = tmp_path / "run"
    good("train", *QUICK, "--seeds", "2", "--out", out)
    before = content(out)
    for option in (["--seeds", "1"], ["--set", "seeds=many"]):
        assert "has 2 seed(s), and cannot go on with" in message_of("train", "--resume", *option, "--out", out)
    assert "leave out train.epochs" in message_of("train", "--resume", "--seeds", "3", "--epochs", "2", "--out", out)
    assert content(out) == before
    good("train", "--resume", "--seeds", "3", "--threads", "1", "--out", out)
    assert content(out) == content(tmp_path / "whole" / "run")

    good("train", *QUICK, "--out", tmp_path / "one")
    assert "has 1 seed(s)" in message_of("train", "--resume", "--seeds", "3", "--out", tmp_path / "one")


def test_a_recipe_that_was_edited_is_another_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    good("train", *QUICK, "--out", out)
    recipe = out / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("epochs = 1\n", "epochs = 2\n", 1))
    before = content(out)
    assert "has other settings than this one" in message_of("train", "--resume", "--out", out)
    assert content(out) == before


def test_a_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    good("train", *QUICK, "--seeds", "2", "--jobs", "1", "--out", out)
    for options in ([], ["--folds", "2"]):
        message = message_of("train", *QUICK, *options, "--out", out)
        assert "holds a run already" in message
        assert "--resume" in message
        assert "--force" in message
    good("train", *QUICK, "--seed", "7", "--force", "--out", out)
    assert not seeds_run.is_run(out)
    assert train.load(out).training["settings"]["seed"] == 7
    assert read(out / "recipe.toml").settings.seed == 7
    good("export", out, "--out", tmp_path / "b", "--layout", "fused")


def test_a_run_that_was_cut_short_is_not_replaced_unasked(tmp_path: Path) -> None:
    """It has no checkpoint yet."""
    out = tmp_path / "run"
    good("train", *QUICK, "--out", out)
    (out / "checkpoint.json").unlink()
    assert "go on with it (--resume)" in message_of("train", *QUICK, "--out", out)


def test_folds_give_a_report_and_no_model(tmp_path: Path) -> None:
    out = tmp_path / "run"
    output = good("train", *QUICK, "--folds", "2", "--jobs", "1", "--out", out)
    assert "fold-0: best epoch 1" in output
    assert "Of folds none is exported" in output
    assert "Next: fastzoo export" not in output
    page = (out / "report.md").read_text()
    for word in ("fold-0", "fold-1", "mean", "standard deviation", "worst"):
        assert word in page
    assert "no checkpoint" in message_of("export", out, "--out", tmp_path / "b")
    before = content(out)
    good("train", "--resume", "--threads", "1", "--out", out)
    assert content(out) == before
    assert "holds a run already" in message_of("train", *QUICK, "--out", out)


def test_the_test_split_is_measured_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    good("train", *QUICK, "--test", "--out", out)
    measured = json.loads((out / "metrics.json").read_text())
    assert set(measured) == {"validation", "test"}
    assert "test" in (out / "report.md").read_text()


def test_a_network_that_the_budget_chose_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = good("train", "--data", "digits", "--max-bytes", "600", "--epochs", "1", "--threads", "1", "--out", out)
    chosen = read(out / "recipe.toml").model
    sizes = f"--hidden-size {chosen.hidden_size} --w-rank {chosen.w_rank} --u-rank {chosen.u_rank}"
    assert f"600 bytes leave room for {sizes}\n" in text
    before = content(out)
    good("train", "--resume", "--threads", "1", "--out", out)
    assert content(out) == before


def test_options_are_keys_of_a_recipe() -> None:
    tables: dict[str, type] = {
        "": Recipe, "data": Cut, "model": ModelConfig, "train": train.Settings, "train.sparsity": train.Sparsity,
        "train.augmentation": train.Augmentation, "train.distillation": train.Distillation,
    }  # fmt: skip
    for key in RECIPE:
        table, _, field = key.rpartition(".")
        assert key == "data.id" or field in {known.name for known in fields(tables[table])}


def test_help_shows_how() -> None:
    text = " ".join(good("train", "--help").replace("│", " ").split())
    assert text.count("Example: fastzoo train") >= 2
    for option in (
        "--set",
        "--resume",
        "--force",
        "--folds",
        "--seeds",
        "--jobs",
        "--threads",
        "--test",
        "--w-sparsity",
    ):
        assert option in text
    assert "KEY=VALUE" in text
