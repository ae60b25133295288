"""tools/api.py: the public API is written down, documented and typed, and the reference is made from the code."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("griffe")
ROOT = Path(__file__).resolve().parent.parent

CARELESS = """
import os

LIMIT = 3
place = os.getcwd()

def run(x, y: int = 0):
    pass

def _hidden(x):
    pass

class Thing:
    'One.'

    size: int

    @property
    def name(self) -> str:
        return ""
"""


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("api")


@pytest.fixture
def checkout(tmp_path: Path, tool: ModuleType) -> Path:
    shutil.copytree(ROOT / tool.PAGES, tmp_path / tool.PAGES)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / tool.LIST, tmp_path / tool.LIST)
    return tmp_path


def test_the_public_api_and_its_reference_are_those_of_the_code(tool: ModuleType, checkout: Path) -> None:
    assert tool.main(["--check"], checkout) == 0, "if the change is meant: python tools/api.py"


def test_every_public_name_has_a_docstring_and_full_types(tool: ModuleType) -> None:
    code = tool.package()
    assert list(tool.faults(tool.public(code), code)) == []


def test_a_changed_signature_a_lost_page_and_a_surplus_one_are_named_and_put_right(
    tool: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, page, surplus = checkout / tool.LIST, checkout / tool.PAGES / "fastzoo.md", checkout / tool.PAGES / "old.md"
    before = listed.read_text()
    listed.write_text(before.replace("layout: str = 'auto'", "layout: str = 'fused'"))
    page.unlink()
    surplus.write_text("# gone\n")
    assert tool.main(["--check"], checkout) == 1
    out, err = capsys.readouterr()
    assert "+fastzoo.load(name: str | os.PathLike[str], layout: str = 'auto'" in out
    assert "+++ generated" in out
    assert "old.md is of no public module" in out
    assert "run `python tools/api.py`" in err
    assert not page.exists()
    assert tool.main([], checkout) == 0
    assert listed.read_text() == before
    assert not surplus.exists()
    assert tool.main(["--check"], checkout) == 0


def test_every_name_in_the_list_is_there(tool: ModuleType) -> None:
    for path, names in tool.public(tool.package()).items():
        here = importlib.import_module(path)
        assert [name.path for name in names if not name.is_member and not hasattr(here, name.short)] == []


def test_links_of_the_reference_lead_to_a_page_and_a_heading(tool: ModuleType) -> None:
    pages = {page.name: page.read_text() for page in (ROOT / tool.PAGES).glob("*.md")}
    anchors = {
        name: {heading.lower().replace(".", "") for heading in re.findall(r"^##+ (.+)$", text, re.MULTILINE)}
        for name, text in pages.items()
    }
    links = [match for text in pages.values() for match in re.findall(r"\]\(([\w.]+\.md)(?:#(\w+))?\)", text)]
    assert len(links) > 100
    assert [(page, anchor) for page, anchor in links if page not in pages or anchor not in {"", *anchors[page]}] == []


def test_what_lacks_a_docstring_or_a_type_is_named(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "fastzoo").mkdir()
    (tmp_path / "fastzoo" / "__init__.py").write_text(CARELESS)
    (tmp_path / "export.py").write_text("")
    code = tool.package(tmp_path)
    assert list(tool.faults(tool.public(code, ["fastzoo"]), code)) == [
        "fastzoo has no docstring",
        "fastzoo.place has no type",
        "fastzoo.run has no docstring",
        "fastzoo.run has no type",
        "fastzoo.run: x has no type",
        "fastzoo.Thing.name has no docstring",
    ]
