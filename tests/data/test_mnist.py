from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fastzoo import data
from fastzoo.data import mnist
from fastzoo.errors import DataError

from . import archives
from .conftest import prepared

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def read(folder: Path, files: dict[str, bytes]) -> data.Dataset:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return mnist.read_files({name: folder / name for name in files})


def test_an_image_is_a_sequence_of_its_pixels_row_by_row(tmp_path: Path) -> None:
    files = archives.mnist()
    made = read(tmp_path, files)
    assert made.x.shape == (40, 784, 1)
    assert made.x.dtype == np.uint8
    pixels = gzip.decompress(files[IMAGES])[16:]
    assert made.x[3, :, 0].tobytes() == pixels[3 * 784 : 4 * 784]
    assert made.y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 4
    assert made.split.tolist() == [0] * 30 + [2] * 10
    assert made.group.tolist() == list(range(40))


def head(kind: int, *shape: int) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, head(8, 30, 28, 28), r"train-images.* should hold \[30, 28, 28\] values, and holds 0"),
        (IMAGES, head(8, 2**32 - 1, 2**32 - 1, 2**32 - 1), "should hold"),
        (IMAGES, head(8, 30, 27, 28) + bytes(30 * 27 * 28), r"holds images \[30, 27, 28\]"),
        (IMAGES, head(13, 30, 28, 28) + bytes(30 * 28 * 28 * 4), "is not an IDX file of bytes with 3 axes"),
        (LABELS, head(8, 29) + bytes(29), "29 labels; expected as many images"),
        (LABELS, head(8, 30) + bytes([10] * 30), "labels run from 0 to 10"),
        (LABELS, b"", "is not an IDX file of bytes with 1 axes"),
        (LABELS, head(8, 30, 1, 1) + bytes(30), "is not an IDX file"),
        (IMAGES, bytes(65 << 20), "unpacks to more than 67108864 bytes"),
    ],
)
def test_a_fault_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, archives.mnist() | {name: gzip.compress(content)})


@pytest.mark.real_data
def test_the_original_files_give_the_known_windows(tmp_path: Path) -> None:
    real = prepared("mnist")
    files = {}
    for part, split in (("train", real.train), ("t10k", real.test)):
        files[f"{part}-images-idx3-ubyte.gz"] = archives.idx(split.x.reshape(-1, 28, 28))
        files[f"{part}-labels-idx1-ubyte.gz"] = archives.idx(split.y.astype(np.uint8))
    assert read(tmp_path, files).sha256 == real.sha256 == mnist.SHA256
