"""The platforms of ``platforms.py`` and the boards of ``boards.py``: what each needs, how it is set up, how it is run.

Platforms lie in ``$FASTZOO_PLATFORMS``, default the user's cache. Setting them up needs no root rights.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import platformdirs

from fastzoo import _files
from fastzoo._json import parse
from fastzoo.errors import FastzooError

OLDEST = "1.16"  # the lower bound in pyproject.toml
WEB = "1.30.0"
BOARD_CPU = "cortex-a72"  # a Raspberry Pi 4's, as qemu calls it

# What onnxruntime asks the kernel about this CPU. The host's answers, of another architecture, would crash it.
BOARD_KERNEL = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n",
    "sys/devices/system/cpu/possible": "0\n",
    "sys/devices/system/cpu/present": "0\n",
}

RUNNER = Path(__file__).with_name("platform_runner.py")
STAMP = "platform.json"


class PlatformError(FastzooError):
    """A platform cannot be set up or run, or windows do not fit."""


class Platform(ABC):
    """Somewhere to run graphs. Subclasses say what is needed, build it into a folder, and name the command."""

    name: ClassVar[str]
    tools: ClassVar[Mapping[str, str]] = {}  # programs needed, and the Debian packages that bring them
    emulated_cpu: ClassVar[str | None] = None

    def require(self) -> None:
        """Nothing, where all tools are here.

        Raises:
            PlatformError: one is missing; the message names its package.
        """
        for name in self.tools:
            self.tool(name)

    def tool(self, name: str) -> str:
        """The path of one of :attr:`tools`."""
        if found := shutil.which(name):
            return found
        raise PlatformError(f"{self.name}: {name} is missing. On Debian: apt-get install {self.tools[name]}")

    @abstractmethod
    def recipe(self) -> dict[str, str]:
        """What the folder is built from; built again when this changes. Empty: nothing is built."""

    @abstractmethod
    def build(self, folder: Path) -> None:
        """Fill the empty ``folder``, which will be moved."""

    @abstractmethod
    def command(self, folder: Path, job: Path) -> list[str]:
        """The command that answers ``job`` (see ``platform_runner.py``)."""


class Native(Platform):
    """This Python and its onnxruntime."""

    name = "native"

    def recipe(self) -> dict[str, str]:
        return {}

    def build(self, folder: Path) -> None:
        raise NotImplementedError

    def command(self, folder: Path, job: Path) -> list[str]:
        return [sys.executable, str(RUNNER), str(job)]


class Oldest(Platform):
    """The oldest supported onnxruntime; its wheels end with Python 3.11 and want NumPy 1."""

    name = "oldest"

    def require(self) -> None:
        _ = self.python

    def recipe(self) -> dict[str, str]:
        return {"onnxruntime": f"{OLDEST}.*", "numpy": "1.*", "python": self.python}

    @functools.cached_property
    def python(self) -> str:
        """An interpreter that the wheels exist for."""
        for candidate in (sys.executable, "python3.11", "python3.10"):
            found = shutil.which(candidate)
            if found and _answers(found, "import ensurepip, sys; assert (3, 10) <= sys.version_info < (3, 12)"):
                return os.path.realpath(found)  # behind a virtual environment, which may come and go
        raise PlatformError(
            f"oldest: onnxruntime {OLDEST} needs Python 3.10 or 3.11 with the module ensurepip, and there is none on "
            "PATH. On Debian: apt-get install python3.11-venv"
        )

    def build(self, folder: Path) -> None:
        recipe = self.recipe()
        say(self, "a virtual environment")
        execute([recipe["python"], "-m", "venv", str(folder)])
        say(self, f"installing onnxruntime {OLDEST}")
        wanted = [f"{name}=={recipe[name]}" for name in ("onnxruntime", "numpy")]
        execute([_python_of(folder), "-m", "pip", "install", "--only-binary=:all:", *wanted])

    def command(self, folder: Path, job: Path) -> list[str]:
        return [_python_of(folder), "-I", str(RUNNER), str(job)]


class Board(Platform):
    """A Debian of another architecture, emulated.

    Debian's packages are unpacked, not installed: their scripts would need root rights and a kernel that knows the
    emulator, and Python runs without. qemu looks up paths in this root first and on the machine itself second.
    """

    architecture: ClassVar[str]  # Debian's word for it
    packages: ClassVar[Sequence[str]]
    qemu: ClassVar[str]
    emulated_cpu: ClassVar[str]
    kernel: ClassVar[Mapping[str, str]]  # files of /proc and /sys in place of the host's

    @abstractmethod
    def complete(self, root: Path) -> None:
        """What is left to do when the packages lie in ``root``."""

    def recipe(self) -> dict[str, str]:
        return {"packages": " ".join(self.packages), "release": _os_release(), "cpu": self.emulated_cpu}

    def build(self, folder: Path) -> None:
        root = folder / "root"
        say(self, f"Debian's {self.architecture} packages, from the mirror that apt uses here")
        for package in self.download(folder / "apt"):
            execute(["dpkg-deb", "--extract", str(package), str(root)])
        shutil.rmtree(folder / "apt")
        if not (root / "lib").exists():  # since Debian 13 packages leave this to the installer
            (root / "lib").symlink_to("usr/lib")
        for name, text in self.kernel.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="ascii")
        self.complete(root)

    def download(self, folder: Path) -> list[Path]:
        """The packages and all they depend on, resolved by apt as for an empty machine; its own state aside."""
        for name in ("lists/partial", "archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        options = {
            "APT::Architecture": self.architecture,
            "APT::Architectures::": self.architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",  # the user _apt may not write here
            "Acquire::Languages": "none",
            "Dir::State": str(folder),
            "Dir::State::status": str(folder / "status"),
            "Dir::Cache": str(folder),
        }
        apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
        try:
            execute([*apt, "update"])
        except PlatformError as error:  # of rare architectures mirrors have lists half renewed; others may do
            say(self, f"some of the mirror's lists are left out ({str(error).splitlines()[-1].strip()})")
        execute([*apt, "install", "--yes", "--download-only", *self.packages])
        return sorted(folder.glob("archives/*.deb"))

    def python(self, root: Path) -> Path:
        """The interpreter itself, python3.11 say, to which Debian's python3 links."""
        return root / "usr/bin" / Path(os.readlink(root / "usr/bin/python3")).name

    def python_version(self, root: Path) -> str:
        """``"3.11"``, say."""
        return self.python(root).name.removeprefix("python")

    def emulated(self, root: Path) -> list[str]:
        """The start of a command line: the board's Python."""
        return [self.tool(self.qemu), "-cpu", self.emulated_cpu, "-L", str(root), str(self.python(root))]

    def command(self, folder: Path, job: Path) -> list[str]:
        return [*self.emulated(folder / "root"), "-I", str(RUNNER), str(job)]


class Aarch64(Board):
    """The native release for 64-bit ARM, with its wheels of onnxruntime and NumPy."""

    name = "aarch64"
    architecture = "arm64"
    qemu = "qemu-aarch64-static"
    tools: ClassVar[Mapping[str, str]] = {"apt-get": "apt", "dpkg-deb": "dpkg", qemu: "qemu-user-static"}
    emulated_cpu = BOARD_CPU
    kernel = BOARD_KERNEL
    tags = tuple(f"{tag}_aarch64" for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"))
    packages = ("python3-minimal", "libpython3-stdlib", "python3-pip", "libstdc++6")

    def recipe(self) -> dict[str, str]:
        return {"onnxruntime": importlib.metadata.version("onnxruntime"), **super().recipe()}

    def complete(self, root: Path) -> None:
        wanted = f"onnxruntime=={self.recipe()['onnxruntime']}"
        say(self, f"{wanted}, the wheel for aarch64")
        target = root / "usr/lib/python3/dist-packages"
        pip_install(target, ["--no-compile", wanted, "numpy"], self.tags, self.python_version(root))
        say(self, "its first start")
        execute([*self.emulated(root), "-I", "-c", "import numpy, onnxruntime"])


class Armhf(Board):
    """32-bit ARM with Debian's NumPy: a board that has no wheel of onnxruntime."""

    name = "armhf"
    architecture = "armhf"
    qemu = "qemu-arm-static"
    tools: ClassVar[Mapping[str, str]] = {"apt-get": "apt", "dpkg-deb": "dpkg", qemu: "qemu-user-static"}
    emulated_cpu = "cortex-a7"  # a Raspberry Pi 2's
    kernel: ClassVar[Mapping[str, str]] = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv7 Processor rev 5 (v7l)\nBogoMIPS\t: 57.60\n"
        "Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm\n"
        "CPU implementer\t: 0x41\nCPU architecture: 7\nCPU variant\t: 0x0\nCPU part\t: 0xc07\nCPU revision\t: 5\n\n",
    }
    tags = ("linux_armv7l",)
    packages = ("python3-minimal", "libpython3-stdlib", "python3-pip", "python3-numpy")

    def complete(self, root: Path) -> None:
        for name in ("blas", "lapack"):  # links that Debian leaves to update-alternatives
            for library in (root / "usr/lib/arm-linux-gnueabihf" / name).glob("*.so.3"):
                link = library.parent.parent / library.name
                link.unlink(missing_ok=True)
                link.symlink_to(f"{name}/{library.name}")
        say(self, "its first start")
        execute([*self.emulated(root), "-I", "-c", "import numpy"])


class Web(Platform):
    """onnxruntime-web in Node.js: the wasm that browsers run, without WebGPU and threads."""

    name = "web"
    tools: ClassVar[Mapping[str, str]] = {"node": "nodejs", "npm": "npm"}

    def recipe(self) -> dict[str, str]:
        return {"onnxruntime-web": WEB}

    def build(self, folder: Path) -> None:
        say(self, f"installing onnxruntime-web {WEB}")
        (folder / "package.json").write_text('{"private": true}\n', encoding="ascii")
        options = [f"--prefix={folder}", "--ignore-scripts", "--no-audit", "--no-fund"]
        execute([self.tool("npm"), "install", *options, f"onnxruntime-web@{WEB}"])

    def command(self, folder: Path, job: Path) -> list[str]:
        return [self.tool("node"), str(RUNNER.with_suffix(".mjs")), str(job), str(folder)]


PLATFORMS: dict[str, Platform] = {made.name: made for made in (Native(), Oldest(), Aarch64(), Web())}
BOARDS: dict[str, Aarch64 | Armhf] = {made.name: made for made in (Aarch64(), Armhf())}


def cache() -> Path:
    """Where platforms lie: ``$FASTZOO_PLATFORMS``, or ``platforms`` in the user's cache."""
    if folder := os.environ.get("FASTZOO_PLATFORMS"):
        return Path(folder).expanduser().resolve()
    return platformdirs.user_cache_path("fastzoo") / "platforms"


def prepare(target: Platform) -> Path:
    """The folder of a platform, built if it is not there or was built from something else.

    It is built beside its place and moved when complete, so a killed build leaves only what the next one removes.

    Raises:
        PlatformError: a tool is missing, a step failed, or the cache cannot be written.
    """
    target.require()
    folder, recipe = cache() / target.name, target.recipe()
    if not recipe:
        return folder
    try:
        with _files.locked(folder):
            if _stamp(folder) != recipe:
                with _replaced(folder) as new:
                    target.build(new)
                    (new / STAMP).write_text(json.dumps(recipe, indent=2), encoding="utf-8")
    except OSError as error:
        raise PlatformError(
            f"{target.name}: cannot be built in {folder.parent} ({error}). Set FASTZOO_PLATFORMS to a folder with half "
            "a gigabyte of space and write permission"
        ) from error
    return folder


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``folder`` if the body succeeds; the caller holds the lock."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):  # by a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    new = _files.temporary_beside(folder)
    new.mkdir()
    try:
        yield new
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _stamp(folder: Path) -> object:
    """What the folder was built from; None where nothing complete is."""
    try:
        return parse((folder / STAMP).read_bytes())
    except (OSError, ValueError):
        return None


def execute(command: Sequence[str], on_line: Callable[[str], None] = lambda line: None) -> None:
    """Run a program; what it printed is shown only if it fails.

    Args:
        command: the program and its arguments.
        on_line: called with each line that it prints, as it comes.

    Raises:
        PlatformError: it cannot be started, or fails.
    """
    last = deque[str](maxlen=8)
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    last.append(line.rstrip())
                on_line(line)
    except OSError as error:
        raise PlatformError(f"cannot start {command[0]}: {error.strerror}") from error
    if process.returncode:
        printed = "\n  ".join(last)
        raise PlatformError(f"`{' '.join(command)}` failed with status {process.returncode}:\n  {printed}")


def pip_install(target: Path, wanted: Sequence[str], tags: Sequence[str], python_version: str) -> None:
    """Wheels for another machine into the folder ``target``; ``wanted`` is what follows ``pip install``.

    Raises:
        PlatformError: pip failed.
    """
    options = [
        f"--target={target}", "--only-binary=:all:", "--implementation=cp", f"--python-version={python_version}",
        *(f"--platform={tag}" for tag in tags),
    ]  # fmt: skip
    execute([sys.executable, "-m", "pip", "install", *options, *wanted])


def _answers(python: str, program: str) -> bool:
    """Whether an interpreter runs ``program``: the name alone may be a wrapper around nothing."""
    try:
        return subprocess.run([python, "-c", program], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _python_of(environment: Path) -> str:
    return str(environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def _os_release() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def say(target: Platform, text: str) -> None:
    """One line of progress."""
    print(f"{target.name}: {text}", file=sys.stderr, flush=True)
