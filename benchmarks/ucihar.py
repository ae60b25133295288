"""Why a model of `har` is less accurate on `ucihar`, though both hold the same people doing the same things.

    FASTZOO_DATA=DIR python benchmarks/ucihar.py [NAME...]

The test windows of both as they are, and changed: low-pass filtered as UCI HAR's authors say they did (20 Hz), and
with the mean angular velocity of each window taken off. Then what that mean is in each class, around the axis along the
body. Needs both prepared (`fastzoo data fetch har`, `ucihar`), and SciPy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, filtfilt
from timing import show

import fastzoo
from fastzoo import data
from fastzoo.data.choice import fitted
from fastzoo.metrics import evaluate

GYRO = slice(3, 6)

Floats = npt.NDArray[np.float32]


def filtered(x: Floats) -> Floats:
    """Without what is faster than 20 Hz; x is [N, T, D]."""
    b, a = butter(3, 20, fs=50)
    return np.asarray(filtfilt(b, a, x, axis=1), np.float32)


def without_turning(x: Floats) -> Floats:
    """Each window without its mean angular velocity."""
    changed = x.copy()
    changed[:, :, GYRO] -= x[:, :, GYRO].mean(axis=1, keepdims=True)
    return changed


CHANGES: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    "har": ("har", lambda x: x),
    "har, low-pass filtered": ("har", filtered),
    "har, mean angular velocity taken off": ("har", without_turning),
    "ucihar": ("ucihar", lambda x: x),
    "ucihar, mean angular velocity taken off": ("ucihar", without_turning),
}


def main() -> None:
    names = sys.argv[1:] or fastzoo.list_models(dataset="har", precision="int8")
    for name in names:
        model = fastzoo.load(name)
        parts = {id: fitted(data.load(id), model.bundle)[0].test for id in ("har", "ucihar")}
        rows = []
        for what, (id, change) in CHANGES.items():
            found = evaluate(model.logits(change(parts[id].x)).argmax(1), parts[id].y, model.labels)
            recalls = [f"{100 * of.recall:.1f}" for of in found.per_class.values()]
            rows.append([what, f"{100 * found.accuracy:.1f}", *recalls])
        show(f"{name}: accuracy, and of each class, in %", ["windows", "all", *model.labels], rows)
    turning = [
        [label, *(f"{part.x[part.y == c, :, GYRO.start].mean():+.3f}" for part in parts.values())]
        for c, label in enumerate(model.labels)
    ]
    show("mean angular velocity around the body's axis, rad/s", ["class", *parts], turning)


if __name__ == "__main__":
    main()
