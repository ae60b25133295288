"""tools/generate.py: registry, README and cards follow from the bundles, and --check notices when they do not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastzoo import _files, boards, bundle, registry
from fastzoo.data import catalog

from . import toy

ROOT = Path(__file__).parents[2]
README = "# Zoo\n\n<!-- models:begin -->\nold\n<!-- models:end -->\n\nThe end.\n"


@pytest.fixture(scope="module")
def generate(load_tool: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        yield load_tool("generate")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "fastzoo" / "models").mkdir(parents=True)
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def test_an_empty_zoo_is_a_zoo(generate: ModuleType, checkout: Path) -> None:
    assert generate.main([], checkout) == 0
    assert json.loads((checkout / registry.FILE).read_text()) == {"schema": 1, "models": {}}
    assert (checkout / "README.md").read_text() == README.replace("old", "No models yet.")
    assert generate.main(["--check"], checkout) == 0


def test_registry_and_table_follow_from_the_bundles(generate: ModuleType, checkout: Path) -> None:
    for name in ("gru-h16", "gru-h8"):
        toy.make(checkout / "fastzoo" / "models" / name, name)
    assert generate.main([], checkout) == 0
    written = registry.read(checkout / registry.FILE)
    assert list(written.models) == ["gru-h8-fp32", "gru-h8-int8", "gru-h16-fp32", "gru-h16-int8"]
    assert written.models["gru-h8-int8"]["bundle"] == "models/gru-h8"
    lines = (checkout / "README.md").read_text().splitlines()
    table = lines[lines.index("<!-- models:begin -->") + 1 : lines.index("<!-- models:end -->")]
    assert table == [
        "| model | data | accuracy | weights | file | latency | seeds: mean, worst |",
        "|---|---|--:|--:|--:|--:|--:|",
        "| [`gru-h8-int8`](docs/zoo/gru-h8.md) (comparison) | toy | 40.0 % | 0.1 kB | 0.8 kB | 20 us |  |",
        "",
        "Of each data set the models that no other of as few bytes of weights equals. Accuracy on the test split, with "
        "that of fp32 where it differs. Latency: median of one window by the fastest layout, 1 thread, a board, Linux, "
        "onnxruntime 1.16. (comparison): a plain GRU or LSTM, to hold the small cells against.",
        "",
        "- toy: made up.",
        "",
        "All 4 models of 2 networks, and everything else about them: [docs/zoo](docs/zoo/index.md).",
    ]
    assert lines[-1] == "The end."
    assert generate.main(["--check"], checkout) == 0


def test_check_says_what_differs_and_writes_nothing(
    generate: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.main([], checkout)
    toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    before = {path: path.read_bytes() for path in (checkout / "README.md", checkout / registry.FILE)}
    capsys.readouterr()
    assert generate.main(["--check"], checkout) == 1
    out, err = capsys.readouterr()
    assert "+| [`gru-toy-int8`](docs/zoo/gru-toy.md) (comparison) | toy |" in out
    assert "--- zoo_registry.json" in out
    assert "run `python tools/generate.py`" in err
    assert {path: path.read_bytes() for path in before} == before


def test_damaged_bundles_and_a_readme_without_markers_are_errors(
    generate: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    (folder / "golden.npz").unlink()
    assert generate.main([], checkout) == 1
    assert "golden.npz is missing" in capsys.readouterr().err
    assert not (checkout / registry.FILE).exists()
    shutil.rmtree(folder)
    (checkout / "README.md").write_text("no markers")
    assert generate.main([], checkout) == 1
    assert "README.md needs the lines <!-- models:begin -->" in capsys.readouterr().err


def card(checkout: Path, name: str) -> str:
    return (checkout / "docs" / "zoo" / f"{name}.md").read_text()


def section(page: str, title: str) -> list[str]:
    """The lines below a heading, up to the next."""
    lines = page.splitlines()
    rest = lines[lines.index(f"## {title}") + 1 :]
    end = next((i for i, line in enumerate(rest) if line.startswith("## ")), len(rest))
    return [line for line in rest[:end] if line]


def test_every_bundle_has_a_card_with_its_numbers(generate: ModuleType, checkout: Path) -> None:
    folder = toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    (checkout / "recipes").mkdir()
    (checkout / "recipes" / "gru-toy.toml").write_text("seeds = 7\n")
    assert generate.main([], checkout) == 0
    page = card(checkout, "gru-toy")
    content = bundle.read(folder)
    assert page.startswith("# gru-toy\n")
    assert "| data | `toy`: made up |" in page
    assert "| channels | acc_x [g], acc_y [g], gyro_z [rad/s] |" in page
    files = [line for line in section(page, "Files") if line.startswith("| `")]
    assert files[0] == "| `fp32-fused.onnx` | 40.00 % | 33.33 % | 0.4 kB | 0.8 kB | 20 us | 40 us | 1.5 ms | **auto** |"
    assert len(files) == 4
    metrics = content.precisions["int8"].layouts["fused"].metrics
    assert metrics is not None
    for label, of in metrics.per_class.items():
        row = f"| {label} | {100 * of.precision:.1f} % | {100 * of.recall:.1f} % | {100 * of.f1:.1f} % | {of.n} |"
        assert row in section(page, "Accuracy")
    assert "Latency: one window at a time in 1 thread, a board, 2 core(s)," in page
    assert "seeds = 7" in section(page, "Made again")
    assert "- weights: CC-BY-4.0" in section(page, "Licences")
    assert 'fastzoo.load("gru-toy-int8")' in page
    assert "| [gru-toy-int8](gru-toy.md) | gru, comparison | 40.00 % |" in card(checkout, "index")


def publish(
    checkout: Path,
    name: str,
    data: str = "toy",
    sizes: tuple[int, int] = (400, 100),
    accuracies: tuple[float, float] = (0.9, 0.9),
    cell: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """A bundle with these numbers, of fp32 and of int8, in a checkout."""
    folder = toy.make(checkout / "fastzoo" / "models" / name, name)
    made = bundle.read(folder)
    precisions = {
        precision: bundle.Precision(
            size,
            {
                layout: dataclasses.replace(
                    file, metrics=file.metrics and dataclasses.replace(file.metrics, accuracy=a)
                )
                for layout, file in made.precisions[precision].layouts.items()
            },
        )
        for precision, size, a in zip(("fp32", "int8"), sizes, accuracies, strict=True)
    }
    changes |= {"cell": {"type": "fastrnn", **(cell or {})}, "dataset": bundle.DatasetRecord(data, "made up")}
    bundle.write(dataclasses.replace(made, precisions=precisions, **changes), folder)


def pages(generate: ModuleType, checkout: Path) -> dict[str, str]:
    """The README and the pages of docs/zoo, by their names; pictures are not drawn."""
    return {path.stem: text for path, text in generate.generated(checkout).texts.items() if path.suffix == ".md"}


def rows(page: str) -> list[list[str]]:
    """The cells of a page's table of models."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| [")]


def test_the_readme_has_a_row_for_each_bundle_on_the_front_by_data_set_and_size(
    generate: ModuleType, checkout: Path
) -> None:
    seeds = {"seeds": [0, 1], "chosen": 1, "split": "test"}
    spread = {"accuracy": [0.8, 0.9], "mean": 0.85, "std": 0.0707, "worst": 0.8}
    publish(checkout, "rnn-big", sizes=(4000, 1200), accuracies=(0.94, 0.94), seeds={**seeds, "int8/fused": spread})
    publish(checkout, "rnn-small", sizes=(900, 300), accuracies=(0.91, 0.9))
    publish(checkout, "rnn-rhythm", "cinc2017", sizes=(9000, 3000))
    publish(checkout, "plain", sizes=(2000, 600), accuracies=(0.92, 0.92), cell={"type": "lstm"})
    publish(checkout, "rnn-beaten", sizes=(2100, 700), accuracies=(0.93, 0.91))
    page = pages(generate, checkout)["README"]
    assert [row[:2] for row in rows(page)] == [
        ["[`rnn-rhythm-int8`](docs/zoo/rnn-rhythm.md)", "cinc2017"],
        ["[`rnn-small-int8`](docs/zoo/rnn-small.md)", "toy"],
        ["[`plain-int8`](docs/zoo/plain.md) (comparison)", "toy"],
        ["[`rnn-big-int8`](docs/zoo/rnn-big.md)", "toy"],
    ]
    assert [row[2] for row in rows(page)] == [
        "90.0 %, macro F1 22.2 % (fp32: macro F1 33.3 %)",
        "90.0 % (fp32: 91.0 %)",
        "92.0 %",
        "94.0 %",
    ]
    assert "rnn-beaten" in pages(generate, checkout)["index"]
    assert "All 10 models of 5 networks" in page
    assert [row[-1] for row in rows(page)] == ["", "", "", "85.0 %, 80.0 %"]
    remarks = [line for line in page.splitlines() if line.startswith("- ")]
    assert remarks == [
        f"- cinc2017, heart rhythm from one ECG lead: {catalog.REGISTERED['cinc2017'].brief}.",
        "- toy: made up.",
    ]


def test_what_must_be_said_of_one_model_stands_in_the_index(generate: ModuleType, checkout: Path) -> None:
    spread = {"accuracy": [0.8, 0.9], "mean": 0.85, "std": 0.0707, "worst": 0.8}
    seeds = {"seeds": [0, 1], "chosen": 1, "split": "test", "int8/fused": spread}
    publish(checkout, "rnn-rows", "mnist", cell={"brick": 28}, seeds=seeds)
    publish(checkout, "plain", "mnist", cell={"type": "gru"})
    publish(checkout, "rnn-toy")
    page = pages(generate, checkout)["index"]
    assert "- [mnist](#mnist): handwritten digits, pixel by pixel; 2 models, weights of 0.1 kB" in page.splitlines()
    lines = section(page, "mnist")
    remarks = [line for line in lines if line.startswith("- ")]
    assert remarks[0].startswith("- [plain](plain.md): for comparison with the small cells")
    assert remarks[1] == (
        "- [rnn-rows](rnn-rows.md): reads 28 samples in one step; data: made up; the best of 2 seeds on validation "
        "groups (standard deviation of their test accuracies: 7.1 points)."
    )
    assert remarks[2].startswith("- Latency: median of one window")
    assert [row[:5] for row in rows(page) if "rnn-rows-int8" in row[0]] == [
        ["[rnn-rows-int8](rnn-rows.md)", "fastrnn", "90.00 %", "85.0 %", "80.0 %"]
    ]
    order = [next(i for i, line in enumerate(lines) if word in line) for word in ("| [", "![", "- [", "Published by")]
    assert order == sorted(order)
    assert section(page, "toy")[0] == "Made up."
    assert not [line for line in section(page, "toy") if line.startswith("- [")]


def test_a_card_names_the_teachers_of_a_distilled_model_alone(generate: ModuleType, checkout: Path) -> None:
    taught = {"teachers": ["plain", "runs/elsewhere"], "weight": 0.5, "temperature": 2.0}
    publish(
        checkout, "plain", cell={"type": "gru"}, training={"settings": {"distillation": {**taught, "teachers": []}}}
    )
    publish(checkout, "older", training={"settings": {"seed": 0}})
    publish(checkout, "pupil", training={"settings": {"seed": 0, "distillation": taught}})
    made = pages(generate, checkout)
    row = "| distilled from | [plain](plain.md), `elsewhere`; weight 0.5, temperature 2 |"
    assert row in made["pupil"].splitlines()
    assert "distilled from plain, elsewhere" in made["index"]
    assert "distilled" not in made["plain"] + made["older"]
    assert "Here for comparison" in made["plain"]


def test_a_card_shows_the_boards_that_measured_these_very_files(generate: ModuleType, checkout: Path) -> None:
    folder = toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    assert generate.main([], checkout) == 0
    assert "## On boards" not in card(checkout, "gru-toy")
    numbers = boards.Numbers(
        p50_us=61.0,
        p95_us=72.0,
        p99_us=80.0,
        load_ms=2.5,
        bytes=800,
        throughput={"1": 900.0},
        peak_rss_bytes=40_000_000,
    )
    of = boards.Measured(
        bundle_sha256=_files.sha256(bundle.read_json(folder)), date="2026-01-02", fastzoo="0.1.0", python="3.11",
        numpy="2.0", repeats=100, threads=1, layouts={"fused": {"onnxruntime": numbers}}, onnxruntime="1.32.0",
    )  # fmt: skip
    hardware = boards.Hardware("a small CPU", 4, "Linux")
    boards.write_report(boards.Report("desk", hardware, {"gru-toy-int8": of}), checkout / "desk.json")
    boards.add(checkout / "desk.json", checkout)
    assert generate.main([], checkout) == 0
    assert section(card(checkout, "gru-toy"), "On boards")[2] == (
        "| desk (a small CPU) | `gru-toy-int8` | fused, onnxruntime | 61 us | 72 us | 2.5 ms |  | 40 MB |"
    )
    bundle.write(dataclasses.replace(bundle.read(folder), version="2.0.0"), folder)
    assert generate.main([], checkout) == 0
    assert "## On boards" not in card(checkout, "gru-toy")  # of the version before


def test_pictures_are_compared_by_the_numbers_that_they_show(
    generate: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    assert generate.main([], checkout) == 0
    pictures = checkout / "docs" / "zoo" / "pictures"
    assert sorted(path.stem for path in pictures.iterdir()) == ["confusion-gru-toy", "latency-toy", "pareto-toy"]
    shown = json.loads(generate.cards.shown_by((pictures / "confusion-gru-toy.png").read_bytes()))
    assert shown["labels"] == list(toy.LABELS)
    assert sum(map(sum, shown["confusion"])) == 5
    points = json.loads(generate.cards.shown_by((pictures / "pareto-toy.png").read_bytes()))["points"]
    assert [point[:2] for point in points] == [["gru-toy-int8", 100], ["gru-toy-fp32", 400]]

    other = (pictures / "pareto-toy.png").read_bytes()
    (pictures / "confusion-gru-toy.png").write_bytes(other)  # a picture, but of other numbers
    (pictures / "latency-toy.png").unlink()
    capsys.readouterr()
    assert generate.main(["--check"], checkout) == 1
    out = capsys.readouterr().out
    assert out == "".join(
        f"docs/zoo/pictures/{name}.png is missing, or shows other numbers\n"
        for name in ("latency-toy", "confusion-gru-toy")
    )
    assert generate.main([], checkout) == 0
    assert generate.main(["--check"], checkout) == 0


def test_the_same_numbers_in_other_pixels_are_the_same(generate: ModuleType, checkout: Path) -> None:
    from matplotlib.figure import Figure

    toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    generate.main([], checkout)
    picture = checkout / "docs" / "zoo" / "pictures" / "pareto-toy.png"
    before = picture.read_bytes()
    Figure().savefig(picture, metadata={"fastzoo": generate.cards.shown_by(before)})
    assert picture.read_bytes() != before
    assert generate.main(["--check"], checkout) == 0


def test_pages_and_pictures_of_models_that_are_gone_go(
    generate: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    generate.main([], checkout)
    shutil.rmtree(folder)
    capsys.readouterr()
    assert generate.main(["--check"], checkout) == 1
    assert "docs/zoo/gru-toy.md belongs to no model" in capsys.readouterr().out
    assert generate.main([], checkout) == 0
    left = [path.relative_to(checkout / "docs") for path in (checkout / "docs").rglob("*") if path.is_file()]
    assert left == [Path("zoo/index.md")]
    assert "No models yet." in card(checkout, "index")


def test_a_card_shows_what_was_measured_on_other_data(generate: ModuleType, checkout: Path) -> None:
    folder = toy.make(checkout / "fastzoo" / "models" / "gru-toy")
    generate.main([], checkout)
    assert "On other recordings" not in card(checkout, "gru-toy")
    content = bundle.read(folder)
    check = bundle.CrossCheck("unrolled", "test", 950, 0.887, 0.5, "0" * 64, "other windows")
    int8 = dataclasses.replace(content.precisions["int8"], cross_checks={"other": check})
    bundle.write(dataclasses.replace(content, precisions={**content.precisions, "int8": int8}), folder)
    assert generate.main([], checkout) == 0
    page = card(checkout, "gru-toy")
    assert "| `other` | `int8-unrolled.onnx` | 950 | 88.7 % | 50.0 % |" in page
    assert "- `other`: other windows." in page
    entry = registry.read(checkout / registry.FILE).models["gru-toy-int8"]
    assert entry["cross_checks"]["other"]["accuracy"] == 0.887


def test_a_bundle_that_says_little_has_a_card_all_the_same(generate: ModuleType, checkout: Path) -> None:
    folder = toy.make(checkout / "fastzoo" / "models" / "gru-toy", precisions=("fp32",))
    content = bundle.read(folder)
    bare = {
        layout: dataclasses.replace(file, metrics=None, latency=None, verification={})
        for layout, file in content.precisions["fp32"].layouts.items()
    }
    precisions = {"fp32": dataclasses.replace(content.precisions["fp32"], layouts=bare)}
    bundle.write(
        dataclasses.replace(content, precisions=precisions, dataset=None, measured_on=None, training=None), folder
    )
    assert generate.main([], checkout) == 0
    page = card(checkout, "gru-toy")
    assert "## Accuracy" not in page
    assert "Latency" not in page
    assert "- [gru-toy](gru-toy.md)" in card(checkout, "index")
    assert not (checkout / "docs" / "zoo" / "pictures").exists()


def test_the_registry_in_the_repository_is_the_generated_one(generate: ModuleType) -> None:
    assert generate.main(["--check"], ROOT) == 0
