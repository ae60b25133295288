"""``mnist``: handwritten digits, pixel by pixel: an image is a sequence of 784 grey values.

Four gzip files in the IDX format: four bytes (0, 0, 8 for bytes, number of axes), the length of each axis as a
big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.data.prepared import TEST, TRAIN, Dataset
from fastzoo.data.source import File, Source, remedy
from fastzoo.errors import DataError

# The authors' own server (yann.lecun.com) refuses downloads these days.
URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
WHAT = "the four .gz files of MNIST"
REMEDY = remedy("mnist", WHAT, several=True)
SHA256 = "82e84db9c1bae868f3aa47402cb4f828187ce4d3d734fdb01b1a490a9f575378"

SIDE = 28
MAX_FILE = 32 << 20  # bytes, compressed
MAX_CONTENT = 64 << 20  # unpacked; the largest has 47 MB

IMAGES = {
    "train-images-idx3-ubyte.gz": "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz": "t10k-labels-idx1-ubyte.gz",
}
FILES = tuple(name for pair in IMAGES.items() for name in pair)


def read_files(files: Mapping[str, str | os.PathLike[str]], source: str = "MNIST") -> Dataset:
    """The data set of the four files by name: training images, then test images; ``group`` is the row.

    Nobody says who wrote a digit; in the official split no writer of the test is in training.

    Raises:
        DataError: a file is missing, truncated or damaged, or no such file.
    """
    x, y, split = [], [], []
    for (images, labels), code in zip(IMAGES.items(), (TRAIN, TEST), strict=True):
        pixels = _read(files[images], images, source, axes=3)
        digits = _read(files[labels], labels, source, axes=1)
        if pixels.shape[1:] != (SIDE, SIDE) or len(pixels) != len(digits):
            raise DataError(
                f"{images} from {source} holds images {list(pixels.shape)} and {labels} {len(digits)} labels; expected "
                f"as many images of {SIDE} x {SIDE} pixels as labels. {REMEDY}"
            )
        x.append(pixels.reshape(-1, SIDE * SIDE, 1))
        y.append(digits.astype(np.int64))
        split.append(np.full(len(digits), code, np.uint8))
    return Dataset(
        id="mnist",
        x=np.concatenate(x),
        y=np.concatenate(y),
        group=np.arange(sum(map(len, y)), dtype=np.int64),
        split=np.concatenate(split),
        classes=tuple(str(digit) for digit in range(10)),
        channels=("pixel [0..255]",),
        rate=1.0,
    )


def _read(path: str | os.PathLike[str], name: str, source: str, axes: int) -> npt.NDArray[Any]:
    """The array in an IDX file of bytes."""
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_CONTENT + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name} from {source} is not a gzip file, or truncated ({error}). {REMEDY}") from error
    except OSError as error:
        raise DataError(f"cannot read {Path(path)}: {error.strerror}. {REMEDY}") from error
    if len(content) > MAX_CONTENT:
        raise DataError(f"{name} from {source} unpacks to more than {MAX_CONTENT} bytes. {REMEDY}")
    start = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < start:
        raise DataError(f"{name} from {source} is not an IDX file of bytes with {axes} axes. {REMEDY}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != np.prod(shape, dtype=object):
        raise DataError(f"{name} from {source} should hold {list(shape)} values, and holds {values.size}. {REMEDY}")
    return values.reshape(shape)


SOURCE = Source(
    id="mnist",
    what=WHAT,
    urls=URLS,
    files=tuple(File(name, MAX_FILE) for name in FILES),
    make=lambda files, source, progress: read_files(files, source),
    sha256=SHA256,
)
