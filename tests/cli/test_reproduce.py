"""``fastzoo reproduce``: the files of a bundle follow from its weights, and the weights from their recipe."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from runtime.served import serving

from fastzoo import bundle
from fastzoo._files import sha256
from fastzoo.errors import ExportError
from fastzoo.export import reproduce
from fastzoo.export.calibrate import Method
from fastzoo.export.layouts import INTEGERS, PRODUCTS, WEIGHTS, Scheme
from fastzoo.train import Augmentation, Settings, seeds_run
from fastzoo.train import recipe as recipes

from .shell import good, message_of, run

RECIPE = """
seeds = 2
[data]
id = "digits"
[model]
hidden_size = 8
w_rank = 4
u_rank = 4
[train]
epochs = 2
seed = 3
[bundle]
name = "tiny"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and the bundle ``tiny`` of its two seeds; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(RECIPE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    good("train", folder / "tiny.toml", "--threads", "1", "--out", folder / "run")
    good("export", folder / "run", "--out", folder / "tiny", "--format", "c")
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def tiny(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made / "tiny", tmp_path / "tiny"))


def chosen(made: Path) -> int:
    return seeds_run.load(made / "run").chosen


def change(folder: Path, name: str) -> None:
    """Another text in the metadata of a file, which the bundle says is right."""
    model = onnx.load(folder / name)
    model.producer_version = "changed"
    data = model.SerializeToString(deterministic=True)
    (folder / name).write_bytes(data)
    content = bundle.read(folder)
    precision, layout = name.removesuffix(".onnx").split("-")
    record = content.precisions[precision].layouts[layout]
    fresh = dataclasses.replace(record, sha256=sha256(data), bytes=len(data))
    layouts = {**content.precisions[precision].layouts, layout: fresh}
    precisions = {**content.precisions, precision: dataclasses.replace(content.precisions[precision], layouts=layouts)}
    bundle.write(dataclasses.replace(content, precisions=precisions), folder)


def test_every_file_follows_from_the_weights(made: Path) -> None:
    text = good("reproduce", made / "tiny", "--from", "weights")
    files = sorted(path.name for path in (made / "tiny").iterdir() if path.suffix in (".onnx", ".h"))
    assert len(files) == 10
    for name in files:
        assert f"{name} " in text
    assert text.count("bit-identical") == len(files)


def test_a_file_that_does_not_follow_is_named_and_fails(tiny: Path) -> None:
    change(tiny, "int8-scan.onnx")
    result = run("reproduce", tiny, "--from", "weights", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["succeeded"] is False
    verdicts = {one["file"]: one["verdict"] for one in found["weights"]["files"]}
    assert verdicts.pop("int8-scan.onnx") == "differs"
    assert set(verdicts.values()) == {"bit-identical"}


def test_without_the_recordings_ranges_are_not_checked_and_all_else_is(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bundle.read(tiny)
    assert content.dataset is not None
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path / "nothing"))
    bundle.write(dataclasses.replace(content, dataset=dataclasses.replace(content.dataset, id="kws12")), tiny)
    result = run("reproduce", tiny, "--from", "weights")
    assert result.exit_code == 0, result.output
    assert "warning: not checked: int8-unrolled.onnx" in result.output
    assert result.output.count("bit-identical") == 9


def test_other_recordings_than_the_published_ones_are_noticed(tiny: Path) -> None:
    content = bundle.read(tiny)
    calibration = {**(content.calibration or {}), "sha256": "0" * 64}
    bundle.write(dataclasses.replace(content, calibration=calibration), tiny)
    output = run("reproduce", tiny, "--from", "weights").output
    assert "not checked: its ranges were found on other windows than these" in output


def test_the_recipe_gives_the_same_weights_files_and_accuracy(made: Path, tmp_path: Path) -> None:
    again: list[str | Path] = ["--recipe", made / "tiny.toml", "--out", tmp_path / "again"]
    found = json.loads(good("reproduce", made / "tiny", *again, "--json"))
    weights, files = found["recipe"]["weights"], found["recipe"]["files"]
    assert weights == {
        "seed": chosen(made), "published_seed": chosen(made), "identical": True, "max_difference": 0.0
    }  # fmt: skip
    assert {one["verdict"] for one in files} == {"bit-identical"}
    measured = [one for one in files if "accuracy" in one]
    assert len(measured) == 6
    assert all(one["accuracy"] == one["published_accuracy"] for one in measured)
    assert found["weights"]["succeeded"]
    assert "holds a run already" in message_of("reproduce", made / "tiny", *again)


def test_another_seed_is_held_against_its_own_published_accuracy_and_the_spread(made: Path, tmp_path: Path) -> None:
    (other,) = {3, 4} - {chosen(made)}
    options: list[str | Path] = ["--recipe", made / "tiny.toml", "--seed", str(other), "--out", tmp_path / "again"]
    text = good("reproduce", made / "tiny", *options)
    assert f"weights trained again with seed {other} are bit-identical" in text
    assert "within the seed spread" in text
    seeds_record = bundle.read(made / "tiny").seeds
    assert seeds_record is not None
    expected = seeds_record["fp32/fused"]["accuracy"][seeds_record["seeds"].index(other)]
    line = next(line for line in text.splitlines() if line.startswith("fp32-fused.onnx ") and " to " in line)
    assert line.split()[1:5] == [f"{100 * expected:.2f}", "%"] * 2


def test_a_seed_that_was_never_trained_has_no_weights_to_compare(made: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--recipe", made / "tiny.toml", "--seed", "7", "--out", tmp_path / "again"]
    text = run("reproduce", made / "tiny", *options).output
    assert f"trained again with seed 7, where seed {chosen(made)} was published" in text


def test_another_recipe_is_noticed_and_fails_where_no_spread_excuses_it(tiny: Path, tmp_path: Path) -> None:
    content = bundle.read(tiny)
    bundle.write(dataclasses.replace(content, seeds=None), tiny)
    (tmp_path / "other.toml").write_text(RECIPE + "\n[train.augmentation]\nnoise = 0.5\n")
    result = run("reproduce", tiny, "--recipe", tmp_path / "other.toml", "--out", tmp_path / "again")
    assert result.exit_code == 1
    assert "note: the recipe has another augmentation than the bundle records" in result.output
    assert "differs: no spread over seeds was published to compare with" in result.output
    assert "differ by" in result.output


def test_a_network_of_another_shape_is_told_without_a_difference(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(RECIPE.replace("u_rank = 4", "u_rank = 3"))
    output = run("reproduce", made / "tiny", "--recipe", tmp_path / "other.toml", "--out", tmp_path / "again").output
    assert "weights trained again have other shapes" in output


def test_the_shipped_model_is_found_by_the_name_of_its_bundle_and_has_a_recipe() -> None:
    text = good("reproduce", "fastgrnn-har", "--from", "weights")
    assert "fp32-fused.onnx" in text
    assert "differs" not in text
    path = recipes.of_model("fastgrnn-har")
    assert recipes.read(path).bundle["name"] == "fastgrnn-har"


def test_a_model_on_a_server_is_fetched_whole_first(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTZOO_REGISTRY", str(tmp_path / "registry"))
    good("register", made / "tiny")
    with serving(tmp_path / "registry") as server:
        monkeypatch.setenv("FASTZOO_REGISTRY", server.url)
        text = good("reproduce", "tiny", "--from", "weights")
    assert text.count("bit-identical") == 10
    assert "weights.safetensors" in server.names()


def test_wrong_usage_is_one_clear_error(made: Path, tmp_path: Path) -> None:
    assert "no model 'fastgrnn-hra'" in message_of("reproduce", "fastgrnn-hra", "--from", "weights")
    assert "no recipe of 'tiny' comes with fastzoo" in message_of("reproduce", made / "tiny")
    assert run("reproduce", made / "tiny", "--from", "scratch").exit_code == 2
    assert run("reproduce", made / "tiny", "--from", "weights", "--seed", "1").exit_code == 2


@pytest.mark.parametrize("kind", [WEIGHTS, PRODUCTS, INTEGERS])
@pytest.mark.parametrize("percentile", [100.0, 99.99, 99.5])
def test_a_scheme_is_read_from_what_bundles_say_of_it(kind: str, percentile: float) -> None:
    method = Method() if kind == WEIGHTS else Method(percentile)
    for per_channel in (False, True):
        for is_signed in (False, True) if kind != WEIGHTS else (False,):
            scheme = Scheme(kind, method, per_channel, is_signed)
            assert Scheme.read(str(scheme)) == scheme
    assert Scheme.read("none") is None
    with pytest.raises(ExportError, match="no file with the quantization 'int4'"):
        Scheme.read("int4")


def test_the_spread_is_wider_the_fewer_seeds_there_are() -> None:
    assert reproduce.spread([0.9]) is None
    two, five = reproduce.spread([0.9, 0.91]), reproduce.spread([0.9, 0.91, 0.905, 0.9, 0.91])
    assert two is not None
    assert five is not None
    assert two[0] < five[0] < 0.9
    assert 0.91 < five[1] < two[1] <= 1


NOISY, WARPED = Augmentation(noise=0.1), Augmentation(noise=0.1, frequency_warp=0.1)
LOUD, DROPPED = Augmentation(noise=0.2), Augmentation(drop=0.2)


@pytest.mark.parametrize(
    ("recorded", "given", "changed"),
    [
        ({"augmentation": {"noise": 0.1}}, Settings(augmentation=NOISY), []),
        ({"augmentation": {"noise": 0.1}}, Settings(augmentation=NOISY, seed=4), []),
        ({"augmentation": {"noise": 0.1}}, Settings(augmentation=WARPED), ["augmentation"]),
        ({"augmentation": [{"noise": 0.1}, {"drop": 0.2}]}, Settings(augmentation=(NOISY, DROPPED)), []),
        ({"augmentation": [{"noise": 0.1}, {"drop": 0.2}]}, Settings(augmentation=(WARPED, DROPPED)), ["augmentation"]),
        ({"augmentation": [{"noise": 0.1}]}, Settings(augmentation=(LOUD,)), ["augmentation"]),
        ({"augmentation": [{"noise": 0.1}]}, Settings(augmentation=(NOISY, DROPPED)), ["augmentation"]),
        ({"augmentation": [{"noise": 0.1}]}, Settings(augmentation=NOISY), ["augmentation"]),
        ({"epochs": 3}, Settings(epochs=4, at_rest=0.5), ["at_rest", "epochs"]),
        ({"older": 1}, Settings(), ["older"]),
    ],
)
def test_settings_that_came_later_than_a_record_had_their_default(
    recorded: dict[str, Any], given: Settings, changed: list[str]
) -> None:
    assert reproduce.changed_settings(recorded, given) == changed
