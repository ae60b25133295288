"""What users install: the wheel is complete and works in an environment that has nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from fastzoo import registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
UNWANTED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "*.egg-info")

# Run where fastzoo is installed and nothing else: every model answers its golden windows as recorded.
SCRIPT = """
import importlib.util
import numpy as np
import fastzoo
from fastzoo import golden

assert not [name for name in ("torch", "onnx", "sklearn") if importlib.util.find_spec(name)]
names = fastzoo.list_models()
for name in names:
    model = fastzoo.load(name)
    arrays = golden.read(model.bundle, model.path.parent)
    assert model.predict(arrays["x"][0]) in model.labels
    for layout, file in model.bundle.precisions[model.precision].layouts.items():
        if layout != "step":
            found = fastzoo.load(name, layout).logits(arrays["x"])
            # 8-bit products are rounded differently by different processors.
            atol = 0.5 if "QuantizeLinear" in file.operators else 1e-4
            np.testing.assert_allclose(found, arrays[f"{model.precision}/{layout}"], atol=atol, err_msg=name)
print(fastzoo.__file__)
print(*names)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, so that building leaves nothing behind in it, and finds nothing left behind."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "fastzoo", ignore=UNWANTED))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_wheel_holds_registry_types_recipes_and_models(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    models = ROOT / "fastzoo" / "models"
    expected = {
        "fastzoo/zoo_registry.json",
        "fastzoo/py.typed",
        "fastzoo/cli/__init__.py",
        "fastzoo/export/__init__.py",
    }
    for path in models.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            expected.add(f"fastzoo/models/{path.relative_to(models).as_posix()}")
    expected |= {f"fastzoo/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")}
    assert expected - names == set()
    assert [name for name in names if not name.startswith(("fastzoo/", "fastzoo-"))] == []


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 25_000_000


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_installation_finds_loads_and_runs_every_model(
    kind: str, wheel: Path, source: Path, python: Path, tmp_path: Path
) -> None:
    target = [str(wheel)] if kind == "wheel" else ["--editable", str(source)]
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--force-reinstall", *target)
    where, *names = run(python, "-c", SCRIPT, cwd=tmp_path).split()
    assert Path(where).is_relative_to(source if kind == "editable" else python.parents[1])
    assert names == list(registry.builtin().models)
    command = python.with_name("fastzoo")
    listed = run(command, "list", cwd=tmp_path)
    assert [name for name in names if name not in listed] == []
    assert run(command, "--version", cwd=tmp_path).startswith("fastzoo ")
    for extra, arguments in (("train", ["train", "--data", "digits"]), ("export", ["export", "x", "--out", "y"])):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1
        assert f'pip install "fastzoo[{extra}]"' in done.stderr
        assert "Traceback" not in done.stderr
