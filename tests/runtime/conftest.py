"""Every test has a registry and a working folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from . import toy


@pytest.fixture(autouse=True)
def registry_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "registry"
    monkeypatch.setenv("FASTZOO_REGISTRY", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle, not to be changed."""
    return toy.make(tmp_path_factory.mktemp("toy") / "gru-toy")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle to play with."""
    return Path(shutil.copytree(pristine, tmp_path / "gru-toy"))
