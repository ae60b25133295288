"""Every test has a registry of its own, and the toy model where it asks for one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runtime import toy

from fastzoo.model import Model

pytest.importorskip("fastapi")


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTZOO_REGISTRY", str(tmp_path / "registry"))
    for name in ("FASTZOO_TOKEN", "FASTZOO_MQTT_USERNAME", "FASTZOO_MQTT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle, not to be changed."""
    return toy.make(tmp_path_factory.mktemp("served") / "gru-toy")


@pytest.fixture(scope="session")
def model(toy_folder: Path) -> Model:
    return Model(toy_folder, "fp32")


@pytest.fixture
def folder(toy_folder: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle to play with."""
    return Path(shutil.copytree(toy_folder, tmp_path / "gru-toy"))
