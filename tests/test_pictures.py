"""tools/draw_cells.py: pictures and table of docs/cells.md are what it makes, and --check notices when they are not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("matplotlib")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("draw_cells")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docs" / "pictures", tmp_path / "docs" / "pictures")
    shutil.copy(ROOT / "docs" / "cells.md", tmp_path / "docs")
    return tmp_path


def test_what_is_committed_is_what_the_tool_makes(tool: ModuleType, checkout: Path) -> None:
    assert tool.main(["--check"], checkout) == 0


def test_a_stale_table_and_a_lost_picture_are_named_and_made_again(
    tool: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, picture = checkout / "docs" / "cells.md", checkout / "docs" / "pictures" / "gru.svg"
    before = page.read_text()
    page.write_text(before.replace("| LSTM | 18176 |", "| LSTM | 18175 |"))
    picture.unlink()
    assert tool.main(["--check"], checkout) == 1
    assert capsys.readouterr().out == "docs/pictures/gru.svg differs\ndocs/cells.md differs\n"
    assert tool.main([], checkout) == 0
    assert page.read_text() == before
    assert tool.main(["--check"], checkout) == 0


def test_a_page_without_a_place_for_the_table_is_an_error(
    tool: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "docs" / "cells.md").write_text("# The cells\n")
    assert tool.main(["--check"], checkout) == 1
    assert "sizes:begin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "other", "alike"),
    [
        (r'(<path id="Cmmi10-\w+" d="M )\d+', r"\g<1>7", True),  # the outline of a letter
        (r"<!-- \$x_t\$ -->", "<!-- $y_t$ -->", False),
        (r"<!-- \$W_2\$ -->", "<!-- $W_3$ -->", False),
        (r"#cfe3f7", "#cfe3f8", False),
        (r"#2b3440", "#2b3441", False),
        (r"L 42\.75 ", "L 43.00 ", True),  # within two pixels
        (r"L 42\.75 ", "L 44.50 ", False),
        (r'<g id="patch_5">.*?</g>', "", False),
    ],
)
def test_pictures_are_compared_by_what_is_seen(tool: ModuleType, pattern: str, other: str, alike: bool) -> None:
    picture = (ROOT / "docs" / "pictures" / "fastrnn.svg").read_text()
    changed = re.sub(pattern, other, picture, count=1, flags=re.DOTALL)
    assert changed != picture
    assert tool.look_alike(picture, changed) is alike
