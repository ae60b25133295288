"""Golden windows: synthetic inputs, and the logits that every file of a bundle must give for them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastzoo.bundle import Bundle, read_file
from fastzoo.errors import BundleError
from fastzoo.samples import UNREADABLE


def read(bundle: Bundle, folder: str | os.PathLike[str]) -> dict[str, npt.NDArray[np.float32]]:
    """The golden arrays: ``x`` [G, T, D], and logits [G, C] per file (``"int8/fused"``) and of ``"torch"``.

    Raises:
        BundleError: the file is missing, damaged, or holds something else.
    """
    data = read_file(folder, bundle.golden)
    path = Path(folder) / bundle.golden.file
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        raise BundleError(f"{path} is not an .npz of arrays ({error}); export the bundle again") from error
    x = arrays.get("x")
    window = (bundle.input.steps, len(bundle.input.channels))
    if x is None or x.ndim != 3 or x.shape[1:] != window or x.dtype != np.float32:
        raise BundleError(f"{path} must hold float32 windows x [G, {window[0]}, {window[1]}]; export the bundle again")
    for name, logits in arrays.items():
        if name != "x" and (logits.shape != (len(x), len(bundle.labels)) or logits.dtype != np.float32):
            raise BundleError(f"{path}: {name} must be float32 logits [{len(x)}, {len(bundle.labels)}]")
    return arrays
