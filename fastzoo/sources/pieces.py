"""Where bytes come from: standard input, files, files that grow, serial ports. Each piece as soon as it is there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fastzoo.errors import InputError, require

SIZE = 1 << 16  # bytes at most of a piece
GLANCE = 0.05  # seconds between two looks at a file that grows, or at a silent port


def standard_input() -> Iterator[bytes]:
    """What is piped into this process."""
    if sys.stdin.isatty():
        raise InputError("nothing is piped in; give a file, or for example: cat imu.csv | fastzoo stream NAME")
    handle = sys.stdin.fileno()
    while data := os.read(handle, SIZE):
        yield data


def file(path: str, offset: int = 0, follow: bool = False) -> Iterator[bytes]:
    """A file from ``offset`` on; an empty piece where there is nothing new yet.

    Args:
        path: its path.
        offset: bytes to pass over.
        follow: wait for more at its end, as ``tail -F`` does: also for a new file of that name.

    Raises:
        InputError: it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(handle).st_size
            if offset <= size:  # else it was begun anew
                os.lseek(handle, offset, os.SEEK_SET)
            while True:
                if data := os.read(handle, SIZE):
                    yield data
                    continue
                if not follow:
                    return
                if _is_another(path, handle):
                    os.close(handle)
                    handle = os.open(path, os.O_RDONLY)
                    continue
                yield b""
                time.sleep(GLANCE)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _is_another(path: str, handle: int) -> bool:
    """Whether a file was replaced, or begun anew; while there is none of that name, the old one may still grow."""
    ours = os.fstat(handle)
    try:
        theirs = Path(path).stat()
    except FileNotFoundError:
        return False
    if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
        return True
    return theirs.st_size < os.lseek(handle, 0, os.SEEK_CUR)


def serial(port: str, baud: int, whole_lines: bool) -> Iterator[bytes]:
    """A serial port, by its device or as a URL of pyserial's (``socket://host:port``); an empty piece while it rests.

    Args:
        port: ``/dev/ttyUSB0``.
        baud: bits per second.
        whole_lines: begin with the first whole line: a port is opened in the middle of one.

    Raises:
        InputError: it cannot be opened, or breaks off.
        MissingExtraError: pyserial is not installed.
    """
    library = require("serial", "stream", f"Reading {port}")
    try:
        with library.serial_for_url(port, baudrate=baud, timeout=GLANCE) as opened:
            begun = not whole_lines
            while True:
                data: bytes = opened.read(max(1, min(opened.in_waiting, SIZE)))
                if not begun and data:
                    _, newline, data = data.partition(b"\n")
                    begun = bool(newline)
                yield data
    except (library.SerialException, OSError, ValueError) as error:
        raise InputError(
            f"cannot read {port}: {str(error).removeprefix('[Errno 2] ')}. Is it plugged in, and may you read it "
            "(the group dialout)?"
        ) from error
