from __future__ import annotations

import numpy as np

from fastzoo import data


def test_digits_are_eight_steps_of_eight_pixels() -> None:
    digits = data.load("digits")
    assert digits.x.shape == (1797, 8, 8)
    assert digits.x.dtype == np.float32
    assert (digits.x.min(), digits.x.max()) == (0, 16)
    assert digits.classes == tuple("0123456789")
    assert digits.channels[0] == "pixel_0 [0..16]"
    assert digits.rate == 1


def test_an_image_is_read_from_top_to_bottom() -> None:
    zero = data.load("digits").x[0]
    assert (zero > 8).astype(int).tolist() == [
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
    ]


def test_digits_are_split_alike_in_every_class() -> None:
    digits = data.load("digits")
    shares = [np.bincount(digits.y[digits.split == part], minlength=10) / np.bincount(digits.y) for part in range(3)]
    assert np.allclose(shares[0], 0.6, atol=0.01)
    assert np.allclose(shares[1:], 0.2, atol=0.01)


def test_digits_are_the_same_every_time() -> None:
    assert data.load("digits").sha256 == data.load("digits").sha256
