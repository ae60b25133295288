"""The README and the docs are executed: their Python blocks run, their shell commands work as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastzoo
from fastzoo import bundle, golden
from fastzoo.data import hapt, synthetic
from fastzoo.data.prepared import Dataset

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "zoo").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A folder to write in, a stand-in for `har` of synthetic motion, and the names that the pages take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTZOO_DATA", str(tmp_path))
    monkeypatch.setenv("FASTZOO_REGISTRY", str(tmp_path / "registry"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    labels = [name for name in hapt.CLASSES for _ in range(24)]
    rows = np.arange(len(labels))
    Dataset(
        id="har",
        x=synthetic.motion(labels),
        y=rows // 24,
        group=rows % 8,
        split=np.where(rows % 8 < 6, 0, 2).astype(np.uint8),
        classes=hapt.CLASSES,
        channels=hapt.CHANNELS,
        rate=50.0,
    ).save(tmp_path)
    net = fastzoo.nn.SequenceClassifier(fastzoo.nn.FastGRNN(6, 8, nu=0.0), num_classes=2, pool=4)
    yield {"x": synthetic.motion(["walking"])[0], "net": net, "windows": synthetic.motion(labels)}
    torch.set_num_threads(threads)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, small_world: dict[str, Any]) -> None:
    for code in blocks(page, "python"):
        quick = re.sub(r"epochs=\d+", "epochs=2", code)
        exec(compile(quick, str(page), "exec"), small_world)


def test_links_lead_somewhere() -> None:
    dead = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_the_shipped_model_tells_synthetic_walking_resting_and_laying_apart() -> None:
    model = fastzoo.load("fastgrnn-har-int8")
    windows = golden.read(bundle.read(model.path.parent), model.path.parent)["x"]  # two of each class, in order
    labels = list(map(str, model.predict(windows)))
    assert all(label.startswith("walking") for label in labels[:6])
    assert set(labels[6:10]) <= {"sitting", "standing"}
    assert set(labels[10:]) == {"laying"}


@pytest.mark.slow
def test_the_readmes_shell_commands_make_a_model(tmp_path: Path) -> None:
    (script,) = (block for block in blocks(ROOT / "README.md", "sh") if block.startswith("fastzoo train"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FASTZOO_REGISTRY": str(tmp_path / "registry"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-ec", script + "fastzoo list 'my-model-*'"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "my-model-fp32" in done.stdout
    assert "my-model-int8" in done.stdout
