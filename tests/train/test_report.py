"""What a run leaves for people, and that the test split is looked at only when it is asked for."""

from __future__ import annotations

import io
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from fastzoo.data import Dataset, Split
from fastzoo.errors import MissingExtraError, TrainingError
from fastzoo.nn import model_size
from fastzoo.records import ClassMetrics, Metrics
from fastzoo.train import Recipe, Run, Settings, evaluate, fit, fit_recipe, report, seeds_run
from fastzoo.train.checkpoint import this_environment
from fastzoo.train.recipe import read
from fastzoo.train.sparsity import Sparsity

from .task import CLASSES, MODEL, Event, files, network
from .test_checkpoint import full_disk

SETTINGS = Settings(epochs=6, batch_size=32, learning_rate=0.03, sparsity=Sparsity(w=0.5, u=0.3, every=4))
ONE = Recipe("made-up-motion", replace(MODEL, gate_bias=[0, 3]), SETTINGS)
TWO = replace(ONE, seeds=2, settings=replace(SETTINGS, epochs=3))


def picture(path: Path) -> npt.NDArray[Any]:
    """The pixels of a PNG."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels: npt.NDArray[Any] = matplotlib.image.imread(io.BytesIO(path.read_bytes()), format="png")
    return pixels


def tables(text: str) -> dict[str, list[list[str]]]:
    """The tables of a page in Markdown, by the heading above them, without the line of dashes."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            found.setdefault(heading, []).append([cell.strip() for cell in line.split("|")[1:-1]])
    return {name: [rows[0], *rows[2:]] for name, rows in found.items()}


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A run of one seed that was tested."""
    runs: list[Run] = []
    folder = tmp_path_factory.mktemp("report") / "mine"
    fit_recipe(ONE, dataset, folder, progress=False, report=lambda seed, run: runs.append(run), tested=True)
    return folder, runs[0]


def test_the_folder_holds_everything(finished: tuple[Path, Run]) -> None:
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "recipe.toml", "environment.json", "checkpoint.json", "log.csv", "tensorboard", "curves.png", "confusion.png",
        "metrics.json", "report.md",
    }  # fmt: skip
    assert read(folder / "recipe.toml") == ONE
    assert json.loads((folder / "environment.json").read_text()) == this_environment()
    assert not list(folder.glob(".*"))


def test_pictures_show_something(finished: tuple[Path, Run]) -> None:
    folder, run = finished
    curves, confusion = picture(folder / "curves.png"), picture(folder / "confusion.png")
    for pixels in (curves, confusion):
        assert pixels.ndim == 3
        assert min(pixels.shape[:2]) > 300
        colours = np.unique(pixels[..., :3].reshape(-1, 3).round(2), axis=0)
        assert len(colours) > 20, "blank"
    dense = fit(network(), run.source, SETTINGS, sparsity=Sparsity(), out=folder.parent / "dense", progress=False)
    report.write(folder.parent / "dense", dense, None)
    assert picture(folder.parent / "dense" / "curves.png").shape[0] < curves.shape[0], "no third panel"


def test_pictures_of_odd_runs(dataset: Dataset, tmp_path: Path) -> None:
    many = [f"class {i} | of <many> $x$ with a long name" for i in range(30)]
    confusion = np.diag(np.arange(30))
    found = Metrics(
        "validation", int(confusion.sum()), 1.0, 1.0,
        per_class={name: ClassMetrics(1.0, 1.0, 1.0, i) for i, name in enumerate(many)},
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )  # fmt: skip
    run = fit(network(), dataset, epochs=1, batch_size=32, out=tmp_path, progress=False)
    run.validation = found
    report.write(tmp_path, run, None)
    assert picture(tmp_path / "confusion.png").shape[0] > 1000
    page = (tmp_path / "report.md").read_text()
    assert r"class 7 \| of <many>" in page


def test_numbers_are_those_of_the_network(finished: tuple[Path, Run]) -> None:
    folder, run = finished
    measured = json.loads((folder / "metrics.json").read_text())
    assert set(measured) == {"validation", "test"}
    for name, part in (("validation", run.dataset.validation), ("test", run.source.test)):
        found = evaluate(run.net, part, CLASSES, name)
        record = measured[name]
        assert (record["split"], record["n"]) == (name, len(part))
        assert (record["accuracy"], record["macro_f1"]) == (found.accuracy, found.macro_f1)
        assert record["confusion"] == [list(row) for row in found.confusion]
        assert sum(map(sum, record["confusion"])) == len(part)
        for label, each in found.per_class.items():
            assert record["per_class"][label] == {
                "precision": each.precision, "recall": each.recall, "f1": each.f1, "n": each.n,
            }  # fmt: skip


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def test_the_page_says_what_the_numbers_are(finished: tuple[Path, Run]) -> None:
    folder, run = finished
    measured = json.loads((folder / "metrics.json").read_text())
    text = (folder / "report.md").read_text()
    found = tables(text)
    assert text.startswith("# mine\n")
    facts = dict(found["mine"][1:])
    for name in ("validation", "test"):
        record = measured[name]
        assert facts[name] == (
            f"{percent(record['accuracy'])} right, macro F1 {percent(record['macro_f1'])}, n = {record['n']}"
        )
    assert run.best is not None
    assert facts["best epoch"] == f"{run.best.epoch} of 6"
    assert facts["size"] == str(model_size(run.net, 24))
    assert facts["data"] == "made-up-motion: 180 training, 60 validation windows"
    assert found["Classes (test)"][1:] == [
        [label, percent(c["precision"]), percent(c["recall"]), percent(c["f1"]), str(c["n"])]
        for label, c in measured["test"]["per_class"].items()
    ]
    settings = dict(found["Settings"][1:])
    assert (settings["epochs"], settings["learning_rate"], settings["balance"]) == ("6", "0.03", "none")
    assert (settings["sparsity.u"], settings["sparsity.schedule"]) == ("0.3", "constant")
    assert dict(found["Environment"][1:]) == this_environment()
    for picture_name in ("curves.png", "confusion.png"):
        assert f"]({picture_name})" in text


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often somebody looks at the test split."""
    found: list[str] = []
    original = Dataset.test.fget  # type: ignore[attr-defined]

    def look(dataset: Dataset) -> Split:
        found.append(dataset.id)
        part: Split = original(dataset)
        return part

    monkeypatch.setattr(Dataset, "test", property(look))
    return found


@pytest.mark.parametrize("recipe", [ONE, TWO, replace(ONE, folds=2)], ids=["one", "seeds", "folds"])
def test_the_test_split_is_not_looked_at(recipe: Recipe, dataset: Dataset, tmp_path: Path, looks: list[str]) -> None:
    recipe = replace(recipe, settings=replace(recipe.settings, epochs=1, patience=1))
    folder = tmp_path / "run"
    fit_recipe(recipe, dataset, folder, progress=False)
    fit_recipe(recipe, dataset, folder, progress=False, resumed=True)
    assert not looks
    for path in folder.rglob("metrics.json"):
        assert set(json.loads(path.read_text())) == {"validation"}
    for path in folder.rglob("report.md"):
        assert "test" not in path.read_text()


def test_the_test_split_cannot_change_what_is_kept(dataset: Dataset, tmp_path: Path) -> None:
    nonsense = replace(dataset, y=np.where(dataset.split == 2, (dataset.y + 1) % 3, dataset.y))
    for name, data in (("a", dataset), ("b", nonsense)):
        fit_recipe(TWO, data, tmp_path / name, progress=False)
    one, other = files(tmp_path / "a"), files(tmp_path / "b")
    for name in ("seeds.json", "seed-0/log.csv", "seed-1/log.csv", "seed-0/metrics.json"):
        assert one[name] == other[name]


def test_the_test_split_is_measured_once_a_run_and_after_all_training(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = evaluate

    def spy(net: Any, part: Split, classes: Any, name: str) -> Metrics:
        order.append(name)
        return real(net, part, classes, name)

    monkeypatch.setattr("fastzoo.train.loop.evaluate", spy)
    monkeypatch.setattr("fastzoo.train.seeds.evaluate", spy)
    fit_recipe(TWO, dataset, tmp_path, progress=False, tested=True)
    assert order == ["validation"] * 6 + ["test"] * 2


def test_seeds_are_summed_up(dataset: Dataset, tmp_path: Path) -> None:
    runs: dict[int, Run] = {}
    folder = fit_recipe(TWO, dataset, tmp_path / "several", progress=False, report=runs.__setitem__, tested=True)
    page = tables((folder / "report.md").read_text())["several"]
    assert page[0] == ["", "validation accuracy", "validation macro F1", "test accuracy", "test macro F1"]
    found = {seed: json.loads((folder / f"seed-{seed}" / "metrics.json").read_text()) for seed in runs}
    values = [
        [found[seed][split][key] for split in ("validation", "test") for key in ("accuracy", "macro_f1")]
        for seed in (0, 1)
    ]
    assert page[1:3] == [[f"[seed-{seed}](seed-{seed}/report.md)", *map(percent, values[seed])] for seed in (0, 1)]
    columns = [list(column) for column in zip(*values, strict=True)]
    assert page[3:] == [
        ["**mean**", *(percent(float(np.mean(column))) for column in columns)],
        ["**standard deviation**", *(percent(float(np.std(column, ddof=1))) for column in columns)],
        ["**worst**", *(percent(float(np.min(column))) for column in columns)],
    ]
    for seed in (0, 1):
        assert (folder / f"seed-{seed}" / "report.md").exists()
        assert read(folder / "recipe.toml") == TWO
    assert seeds_run.load(folder).chosen in (0, 1)


def test_without_a_test_split_there_is_nothing_to_measure(dataset: Dataset, tmp_path: Path) -> None:
    rows = np.flatnonzero(dataset.split != 2)
    none = replace(dataset, x=dataset.x[rows], y=dataset.y[rows], group=dataset.group[rows], split=dataset.split[rows])
    fit_recipe(ONE, none, tmp_path, progress=False, tested=True)
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"validation"}


def test_going_on_with_a_finished_run_keeps_its_report(dataset: Dataset, tmp_path: Path) -> None:
    for recipe, name in ((ONE, "one"), (TWO, "two")):
        fit_recipe(recipe, dataset, tmp_path / name, progress=False, tested=True)
        before = files(tmp_path / name)
        fit_recipe(recipe, dataset, tmp_path / name, progress=False, resumed=True, tested=True)
        assert files(tmp_path / name) == before
        fit_recipe(recipe, dataset, tmp_path / name, progress=False, resumed=True)  # --test was not said again
        assert files(tmp_path / name) == before


def test_a_run_that_was_interrupted_is_not_tested(dataset: Dataset, tmp_path: Path, looks: list[str]) -> None:
    """It goes on later: the test split would be looked at twice."""

    def press(x: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return x

    stopped = replace(ONE, settings=replace(SETTINGS, augmentation=Event(27, press)))
    fit_recipe(stopped, dataset, tmp_path, progress=False, tested=True)
    assert (tmp_path / "report.md").exists()
    assert not looks


def test_an_interrupted_run_has_a_report(dataset: Dataset, tmp_path: Path) -> None:
    def press(x: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return x

    for batch in (1, 3, 27):
        stopped = replace(ONE, settings=replace(SETTINGS, augmentation=Event(batch, press)))
        fit_recipe(stopped, dataset, tmp_path / str(batch), progress=False)
        facts = dict(tables((tmp_path / str(batch) / "report.md").read_text())[str(batch)][1:])
        assert "right" in facts["validation"]
        picture(tmp_path / str(batch) / "curves.png")


def test_a_report_that_cannot_be_written_spares_the_run(dataset: Dataset, tmp_path: Path) -> None:
    run = fit(network(), dataset, epochs=1, batch_size=32, out=tmp_path, progress=False)
    before = files(tmp_path)
    with pytest.raises(TrainingError, match=r"cannot write to .* Free some space"), full_disk(1000):
        report.write(tmp_path, run, None)
    assert {name: files(tmp_path)[name] for name in before} == before
    assert not list(tmp_path.glob(".*"))


def test_without_matplotlib_it_is_said_before_the_training(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after an hour of it."""
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        fit_recipe(ONE, dataset, tmp_path, progress=False)
    assert not (tmp_path / "log.csv").exists(), "trained first"
