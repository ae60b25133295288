"""A board has no torch, and should not wait for onnxruntime before it needs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastzoo

HEAVY = (
    "torch", "onnx", "onnxruntime", "sklearn", "scipy", "pooch", "safetensors", "pandas", "polars", "numba",
    "matplotlib", "tensorboardX", "fastapi", "uvicorn", "pydantic", "websockets", "prometheus_client", "aiomqtt",
)  # fmt: skip


def imported_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after ``code``."""
    report = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_fastzoo_brings_nothing_but_the_standard_library() -> None:
    assert not imported_by("import fastzoo") & {*HEAVY, "numpy", "platformdirs", "rich", "typer"}


def test_the_runtime_imports_nothing_heavy() -> None:
    modules = (
        "bench",
        "bundle",
        "cli",
        "compare",
        "entry",
        "golden",
        "metrics",
        "model",
        "records",
        "registry",
        "samples",
    )
    assert not imported_by("import " + ", ".join(f"fastzoo.{name}" for name in modules)) & set(HEAVY)


def test_finding_models_imports_no_runtime(pristine: Path) -> None:
    code = f"import fastzoo; fastzoo.list_models(); fastzoo.info({str(pristine)!r})"
    assert not imported_by(code) & {*HEAVY, "numpy"}


def test_predicting_imports_onnxruntime_alone(pristine: Path) -> None:
    code = f"import fastzoo, numpy; fastzoo.load({str(pristine)!r}).predict(numpy.zeros((8, 3)))"
    assert imported_by(code) & set(HEAVY) == {"onnxruntime"}


def test_the_other_wing_is_reached_on_first_use() -> None:
    code = "import fastzoo; fastzoo.data; from fastzoo import data; assert fastzoo.data is data"
    assert not imported_by(code) & {"torch", "onnx"}
    assert {"data", "events", "export", "nn", "train"} <= set(dir(fastzoo))


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fastzoo' has no attribute 'fly'"):
        fastzoo.fly  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'\nversion = "{fastzoo.__version__}"\n' in project


def test_the_front_door_is_what_was_promised() -> None:
    assert fastzoo.__all__ == ["FastzooError", "__version__", "info", "list_models", "load"]
    assert all(hasattr(fastzoo, name) for name in fastzoo.__all__)


def test_every_package_is_in_the_wheel() -> None:
    root = Path(fastzoo.__file__).parents[1]
    folders = {path.parent.relative_to(root) for path in (root / "fastzoo").rglob("__init__.py")}
    written = {".".join(folder.parts) for folder in folders}
    written |= {f"fastzoo.{'.'.join(p.parent.relative_to(root).parts)}" for p in (root / "export").rglob("__init__.py")}
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert set(re.findall(r'"([^"]+)"', listed[1])) == written
