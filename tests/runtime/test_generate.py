"""tools/generate.py: the registry and the README follow from the bundles, and --check notices when they do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fastzoo import registry

from . import toy

ROOT = Path(__file__).parents[2]
README = "# Zoo\n\n<!-- models:begin -->\nold\n<!-- models:end -->\n\nThe end.\n"


@pytest.fixture(scope="module")
def generate(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("generate")


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
    assert table[0] == "| model | data | accuracy | weights | file | latency |"
    assert table[3] == "| `gru-h8-int8` | toy | 40.0 % | 0.1 kB | 0.8 kB (fused) | fused 20 us, unrolled 40 us |"
    assert table[7:] == [
        "- toy: made up.",
        "- Latency: median of single windows in 1 thread, a board, Linux, onnxruntime 1.16.",
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
    assert "+| `gru-toy-int8` | toy |" in out
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


def test_the_registry_in_the_repository_is_the_generated_one(generate: ModuleType) -> None:
    assert generate.main(["--check"], ROOT) == 0
