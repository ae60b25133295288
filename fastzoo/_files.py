"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def sha256(data: bytes) -> str:
    """The digest by which bundles and registries name a file's content."""
    return hashlib.sha256(data).hexdigest()


def temporary_beside(path: Path) -> Path:
    """An unused hidden name in the folder of ``path``, so that ``os.replace`` to ``path`` is atomic."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")


def write(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; a reader, a crash or a power cut sees the old content or the new, never a part."""
    part = temporary_beside(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replaced_folder(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """Put ``files`` (content by name) at ``folder`` in place of what is there; undone if the body fails."""
    new, old = temporary_beside(folder), temporary_beside(folder)
    placed = False
    try:
        new.mkdir(parents=True)
        for name, data in files.items():
            write(new / name, data)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        placed = True
        yield
    except BaseException:
        if placed:
            shutil.rmtree(folder, ignore_errors=True)
        if old.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing ``path``; the operating system frees the lock of one that dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("wb") as lock:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)  # released when the file is closed
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
