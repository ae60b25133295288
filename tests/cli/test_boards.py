"""``fastzoo bench --report``, ``fastzoo registry add-board`` and ``boards``: from one board to a table of all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastzoo import registry

from .shell import good, message_of, run

NAME = "fastgrnn-har-int8"
SHIPPED = Path(registry.__file__).parent / "models" / "fastgrnn-har"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry beside the one that comes with fastzoo, which has the same bundle under the same name."""
    folder = tmp_path / "zoo"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "fastgrnn-har").symlink_to(SHIPPED)
    (folder / registry.FILE).write_bytes(registry.render(registry.builtin().models))
    monkeypatch.setenv("FASTZOO_REGISTRY", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.slow
def test_two_boards_are_measured_added_and_compared(zoo: Path) -> None:
    quick = ("--repeats", "30", "--batches", "1", "--layout", "fused")
    for board, backend in (("Desk", "onnxruntime"), ("Shelf", "numpy")):
        file = f"{board}.json"
        printed = good("bench", NAME, *quick, "--backend", backend, "--board", board, "--report", file)
        assert f"{board}, " in printed.splitlines()[-1]
        assert good("registry", "add-board", file).strip().endswith(f"zoo_registry.json: {board}, {NAME}")
    lines = good("registry", "boards").splitlines()
    assert lines[0].split()[:5] == ["model", "board", "layout", "backend", "p50"]
    assert [line.split()[:4] for line in lines[1:]] == [
        [NAME, "Desk", "fused", "onnxruntime"],
        [NAME, "Shelf", "fused", "numpy"],
    ]
    rows = json.loads(good("registry", "boards", NAME, "--registry", zoo, "--json"))
    assert [(row["board"], row["current"]) for row in rows] == [("Desk", True), ("Shelf", True)]
    assert rows[0]["numbers"]["p50_us"] < rows[1]["numbers"]["p50_us"]


def test_a_report_that_does_not_fit_is_refused(zoo: Path) -> None:
    good("bench", NAME, "--repeats", "5", "--batches", "1", "--layout", "fused", "--board", "x", "--report", "x.json")
    document = json.loads(Path("x.json").read_text())
    document["models"][NAME]["bundle_sha256"] = "0" * 64
    Path("x.json").write_text(json.dumps(document))
    assert "is another bundle than was measured" in message_of("registry", "add-board", "x.json")
    assert "is on a server" in message_of("registry", "add-board", "x.json", "--registry", "https://example.com/zoo")


def test_where_no_board_is_known_the_way_to_one_is_said(zoo: Path) -> None:
    result = run("registry", "boards", "--registry", zoo)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "`fastzoo bench NAME --report FILE` measures one" in result.stderr
