"""The files of docs/deploy: systemd accepts the unit; what unit and container run, the command understands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .running import process

FOLDER = Path(__file__).parents[2] / "docs" / "deploy"
UNIT = (FOLDER / "fastzoo.service").read_text(encoding="utf-8")
CONTAINER = (FOLDER / "Containerfile").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "fastzoo.service"
    unit.write_text(UNIT.replace("/opt/fastzoo/bin/fastzoo", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_units_command_serves() -> None:
    (options,) = re.findall(r"^Environment=FASTZOO_SERVE=(.*)$", UNIT, re.MULTILINE)
    (command,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    words = shlex.split(command.replace("$FASTZOO_SERVE", options))
    assert words[:2] == ["/opt/fastzoo/bin/fastzoo", "serve"]
    with process(*words[2:]) as (running, _):
        assert running.poll() is None


def test_the_containers_command_serves_and_its_check_notices() -> None:
    (check,) = re.findall(r"^    CMD (\[.*\])$", CONTAINER, re.MULTILINE)
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", CONTAINER, re.MULTILINE)
    (default,) = re.findall(r"^CMD (\[.*\])$", CONTAINER, re.MULTILINE)
    words = [*json.loads(entry), *json.loads(default)]
    assert words[:2] == ["fastzoo", "serve"]
    with process(*words[2:], "--host", "127.0.0.1") as (_, url):  # the last of two options counts
        asked = [sys.executable, *(word.replace("http://127.0.0.1:8000", url) for word in json.loads(check)[1:])]
        assert url in asked[-1]
        assert subprocess.run(asked, capture_output=True).returncode == 0
    assert subprocess.run(asked, capture_output=True).returncode != 0
