"""Run mypy (strict) over the package as it is installed: with ``export/`` at its place ``fastzoo.export``.

mypy finds packages by folder and knows nothing of setuptools' ``package-dir``, so it is given a folder of links.
Arguments are passed on to mypy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKED = ("tests", "benchmarks", "tools")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        links = Path(folder)
        for source, target in (("fastzoo", "fastzoo"), ("export", "fastzoo/export")):
            for path in (ROOT / source).rglob("*.py*"):
                link = links / target / path.relative_to(ROOT / source)
                if path.suffix in (".py", ".pyi", ".typed"):
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(path)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *sys.argv[1:]]
        environment = {**os.environ, "MYPYPATH": folder}
        files = [str(path) for name in CHECKED for path in sorted((ROOT / name).rglob("*.py"))]
        results = [
            subprocess.run([*command, "-p", "fastzoo"], cwd=ROOT, env=environment, check=False),
            *([subprocess.run([*command, *files], cwd=ROOT, env=environment, check=False)] if files else []),
        ]
    return max(result.returncode for result in results)


if __name__ == "__main__":
    sys.exit(main())
