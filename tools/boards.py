"""Install the wheel on emulated boards, and check there what a board engineer does with it.

    python tools/boards.py check [NAME...]

=======  ============================================================================================================
aarch64  Debian arm64 as a Raspberry Pi 4's CPU runs it, with the aarch64 wheel of onnxruntime
armhf    32-bit ARM as a Raspberry Pi 2's CPU runs it, with Debian's NumPy: there is no onnxruntime for it
=======  ============================================================================================================

The wheel is built from this checkout, and the board's own pip installs it with what it depends on there. Then, by the
board's Python: every model and layout on golden windows, one file of each kind (cell, precision, layout) on all of them
and as a stream in odd chunks (see ``board_check.py``), ``fastgrnn-har-int8`` through the commands ``list``, ``info``,
``predict``, ``stream`` and ``bench``. A line per check; the exit status is 1 if one fails. Boards lie where the
platforms of ``platforms.py`` do, and are set up when they are missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from board_check import FP32, NAME
from platform_setup import BOARDS, Board, PlatformError, execute, prepare, say

import fastzoo
from fastzoo import boards, bundle, golden, registry
from fastzoo._json import parse
from fastzoo.errors import FastzooError

ROOT = Path(__file__).resolve().parents[1]
CHECK = Path(__file__).with_name("board_check.py")
UNWANTED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "*.egg-info")

BENCH = ("--layout", "scan", "--repeats", "10", "--batches", "1")  # emulated times mean nothing
BACKENDS = {"aarch64": "onnxruntime", "armhf": "numpy"}
MACHINES = {"aarch64": "aarch64", "armhf": "armv7l"}  # as the kernel calls them


class Installed(NamedTuple):
    """A board with fastzoo: its files, and the surroundings of its Python."""

    board: Board
    root: Path
    home: Path  # all that is installed and written
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        """The board's Python with these arguments."""
        return [*self.board.emulated(self.root), *arguments]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it, and wait."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, errors="replace", check=False,
            input=stdin, cwd=self.home, env=self.environment,
        )  # fmt: skip


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout; built from a copy, so that building leaves nothing behind and finds nothing."""
    source = shutil.copytree(ROOT, folder / "source", ignore=UNWANTED)
    options = ["--wheel", "--no-isolation", f"--outdir={folder / 'wheel'}"]
    execute([sys.executable, "-m", "build", *options, str(source)])
    (wheel,) = (folder / "wheel").glob("*.whl")
    return wheel


def install(board: Board, wheel: Path, home: Path) -> Installed:
    """The wheel by the board's own pip, which takes the dependencies that hold there, beside what Debian brought.

    Raises:
        PlatformError: the board cannot be set up, or pip failed.
    """
    root = prepare(board) / "root"
    home.mkdir()
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FASTZOO_"))}
    registries = {"FASTZOO_REGISTRY": str(home / "registry"), "XDG_CACHE_HOME": str(home / "cache")}
    board_has = {"PYTHONUSERBASE": str(home / "installed"), "PYTHONDONTWRITEBYTECODE": "1"}
    installed = Installed(board, root, home, {**ours, **registries, **board_has})
    say(board, f"its pip installs {wheel.name}")
    options = ["--user", "--break-system-packages", "--only-binary=:all:", "--no-compile", "--no-warn-script-location"]
    done = installed.run("-m", "pip", "install", "--quiet", "--no-cache-dir", *options, str(wheel))
    if done.returncode:
        raise PlatformError(f"{board.name}: pip failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return installed


# ---------------------------------------------------------------------------------------------------------------------
# The command line on the board


def require(holds: bool, message: str) -> None:
    if not holds:
        raise PlatformError(message)


def printed(installed: Installed, *arguments: str, stdin: str = "") -> str:
    """What ``fastzoo`` with these arguments prints there; nothing may come on standard error."""
    done = installed.run("-m", "fastzoo", *arguments, stdin=stdin)
    wrong = f"`fastzoo {' '.join(arguments)}` ended with {done.returncode}: {done.stderr[-2000:]}"
    require(done.returncode == 0 and not done.stderr, wrong)
    return done.stdout


def list_models(installed: Installed) -> str:
    """``fastzoo list`` names every model."""
    text, names = printed(installed, "list"), list(registry.builtin().models)
    require(all(name in text for name in names), f"not all of {names} are in:\n{text}")
    return ", ".join(names)


def info(installed: Installed) -> str:
    """``fastzoo info`` says what this checkout's registry says."""
    entry = parse(printed(installed, "info", NAME, "--json").encode())
    require(entry == registry.builtin().models[NAME], "the entry is not the one of this checkout's registry")
    text = printed(installed, "info", NAME)
    require(all(label in text for label in entry["labels"]), f"not all labels are in:\n{text}")
    return f"{len(entry['layouts'])} layouts"


def predict(installed: Installed) -> str:
    """``fastzoo predict`` on the golden windows: their labels, their probabilities."""
    entry, folder = registry.locate(NAME)
    content = bundle.read(folder)
    arrays = golden.read(content, folder)
    np.savez(installed.home / "windows.npz", x=arrays["x"])
    answer = parse(printed(installed, "predict", NAME, "windows.npz", "--json").encode())
    expected = arrays[f"{entry['precision']}/{answer['layout']}"]
    labels = [content.labels[best] for best in expected.argmax(axis=1)]
    require([window["label"] for window in answer["windows"]] == labels, "labels are not the golden ones")
    odds = np.exp(expected - expected.max(axis=1, keepdims=True))
    found = np.array([[window["probabilities"][label] for label in content.labels] for window in answer["windows"]])
    difference = float(np.abs(found - odds / odds.sum(axis=1, keepdims=True)).max())
    require(difference <= FP32, f"probabilities differ by {difference:.3g}, more than {FP32:g}")
    text = printed(installed, "predict", NAME, "windows.npz")
    require(text.split() == labels, f"it prints {text.split()}, not {labels}")
    return f"{len(labels)} windows, layout {answer['layout']}"


def stream(installed: Installed) -> str:
    """``fastzoo stream`` on a pipe of CSV: a line of JSON for each window, with the answers of this machine."""
    model = fastzoo.load(NAME)
    signal = np.concatenate(list(golden.read(model.bundle, model.path.parent)["x"][:3]))
    text = "".join(",".join(map(repr, row)) + "\n" for row in signal.tolist())
    lines = printed(installed, "stream", NAME, "--json", stdin=text).splitlines()
    answers, expected = [parse(line.encode()) for line in lines], [one.to_dict() for one in model.stream().push(signal)]
    require(len(answers) == len(expected), f"{len(answers)} lines, where {len(expected)} windows end")
    for answer, own in zip(answers, expected, strict=True):
        same = answer["time"] == own["time"] and answer["label"] == own["label"]
        require(same, f"it answers {answer['label']} at {answer['time']} s, not {own['label']} at {own['time']} s")
        pairs = [(answer["probabilities"][label], value) for label, value in own["probabilities"].items()]
        require(max(abs(a - b) for a, b in pairs) <= FP32, f"probabilities at {own['time']} s differ")
    return f"{len(lines)} lines"


def bench(installed: Installed) -> str:
    """``fastzoo bench`` on the backend that the board has, into a report that this machine's fastzoo reads."""
    done = installed.run("-m", "fastzoo", "bench", NAME, *BENCH, "--report", "report.json")
    # An emulated process cannot start another one, so that the numbers of fresh processes are missing: a warning.
    require(done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-2000:]}")
    report = boards.read_report(installed.home / "report.json")
    measured, backend = report.models[NAME], BACKENDS[installed.board.name]
    found = {(layout, one) for layout, backends in measured.layouts.items() for one in backends}
    require(found == {("scan", backend)}, f"it measured {found}")
    has = measured.onnxruntime is not None
    require(has == (backend == "onnxruntime"), f"it reports onnxruntime {measured.onnxruntime}")
    return f"{report.machine.cpu}, {report.machine.cores} core(s), NumPy {measured.numpy}"


def refusal(installed: Installed) -> str:
    """A wrong name is one line on standard error, and the exit status 1."""
    done = installed.run("-m", "fastzoo", "info", "fastgrnn-har-int9")
    require(done.returncode == 1 and NAME in done.stderr, f"it ended with {done.returncode}: {done.stderr[-2000:]}")
    require("Traceback" not in done.stderr, f"a traceback:\n{done.stderr[-2000:]}")
    return done.stderr.strip().partition(". ")[0]


COMMANDS: dict[str, Callable[[Installed], str]] = {
    "fastzoo list": list_models, "fastzoo info": info, "fastzoo predict": predict, "fastzoo stream": stream,
    "fastzoo bench": bench, "a wrong name": refusal,
}  # fmt: skip


def check(board: Board, wheel: Path, home: Path) -> bool:
    """Install and run every check on one board; whether all hold."""
    begin = time.monotonic()
    installed = install(board, wheel, home)
    arguments = [str(CHECK), BACKENDS[board.name], MACHINES[board.name]]
    done = subprocess.run(installed.command(*arguments), check=False, cwd=home, env=installed.environment)
    holds = done.returncode == 0
    for title, command in COMMANDS.items():
        try:
            print(f"ok      {title}: {command(installed)}", flush=True)
        except PlatformError as error:
            holds = False
            print(f"FAILED  {title}: {error}", flush=True)
    say(board, f"{'all checks hold' if holds else 'CHECKS FAILED'}, {time.monotonic() - begin:.0f} s")
    return holds


def main(arguments: Sequence[str] | None = None) -> int:
    """Check boards; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checked = commands.add_parser("check", help="install the wheel on boards and check it there")
    checked.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(BOARDS)}")
    names = parser.parse_args(arguments).names or list(BOARDS)
    if unknown := [name for name in names if name not in BOARDS]:
        parser.error(f"no board {unknown[0]!r}; there are {', '.join(BOARDS)}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="fastzoo-boards-") as temporary:
        try:
            for name in names:
                BOARDS[name].require()
            wheel = build_wheel(Path(temporary))
        except FastzooError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        for name in names:
            print(f"{name}:", flush=True)
            try:
                failed |= not check(BOARDS[name], wheel, Path(temporary) / name)
            except FastzooError as error:  # the others still have something to say
                failed = True
                print(f"error: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
