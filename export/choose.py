"""How wide the state is in files with 8-bit activations: the narrowest that measured accuracy allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastzoo.errors import ExportError
from fastzoo.export import verify
from fastzoo.export.calibrate import Method
from fastzoo.export.layouts import INTEGERS, PRODUCTS, Builder, Form, Scheme
from fastzoo.export.network import Floats

STATES = ("auto", "8", "fp32")
PERCENTILES = (100.0, 99.99, 99.9, 99.5)  # tried for an 8-bit state, which wide ranges starve of levels
MOST_LOST = 0.003  # of accuracy, to fp32
LEAST_SAME = 0.985  # of windows, the class of fp32
WINDOWS = 2048  # at most so many are looked at


@dataclass(frozen=True)
class Judge:
    """Windows by which schemes are compared: of the validation split with labels, or calibration windows without."""

    x: Floats  # [n, T, D]
    y: npt.NDArray[np.int64] | None
    name: str

    def thinned(self) -> Judge:
        """At most :data:`WINDOWS`, evenly spread."""
        every = slice(None, None, -(-len(self.x) // WINDOWS))
        return replace(self, x=self.x[every].astype(np.float32), y=None if self.y is None else self.y[every])


def choose(builder: Builder, wanted: Scheme, state: str, judge: Judge) -> tuple[Scheme, Mapping[str, object]]:
    """The scheme for files with 8-bit activations, and what was measured.

    Args:
        builder: makes the candidates.
        wanted: method, per-channel scales and signs that all candidates have; its percentile, where it is not min-max,
            is the only one tried.
        state: ``"8"``, ``"fp32"`` (beside 8-bit products), or ``"auto"``: 8 bits where that costs at most 0.3 points
            of accuracy and leaves 98.5 % of windows their class.
        judge: the windows.

    Raises:
        ExportError: ``state`` is unknown.
    """
    if state not in STATES:
        raise ExportError(
            f"unknown state width {state!r}; there are {', '.join(STATES)}. 16 bits would need opset 21, which the "
            "oldest supported runtimes do not load"
        )
    judge = judge.thinned()
    fp32 = _classes(builder, None, judge.x)
    tried = PERCENTILES if wanted.method == Method() else (wanted.method.percentile,)
    candidates = [replace(wanted, kind=INTEGERS, method=Method(p)) for p in tried] if state != "fp32" else []
    candidates += [replace(wanted, kind=PRODUCTS)] if state != "8" else []
    if len(candidates) == 1:
        return candidates[0], {"state": state}
    measured: dict[Scheme, dict[str, float]] = {}
    for scheme in candidates:
        found = _classes(builder, scheme, judge.x)
        measured[scheme] = {"same_class": float((found == fp32).mean())}
        if judge.y is not None:
            measured[scheme]["accuracy"] = float((found == judge.y).mean())
    least = LEAST_SAME if state == "auto" else 0.0
    accuracy = None if judge.y is None else float((fp32 == judge.y).mean()) - (MOST_LOST if state == "auto" else 1.0)
    narrow = [
        scheme
        for scheme, found in measured.items()
        if scheme.kind == INTEGERS
        and found["same_class"] >= least
        and (accuracy is None or found["accuracy"] >= accuracy)
    ]
    # Rounding often gains accuracy by chance: among candidates that lose too little to matter, the most faithful.
    best = max(narrow, key=lambda scheme: measured[scheme]["same_class"]) if narrow else candidates[-1]
    report = {f"{'8' if s.kind == INTEGERS else 'fp32'}, {s.method}": found for s, found in measured.items()}
    return best, {"state": "8" if best.kind == INTEGERS else "fp32", "judged_on": judge.name, "tried": report}


def _classes(builder: Builder, scheme: Scheme | None, x: Floats) -> npt.NDArray[np.intp]:
    """The class of each window, from the layout that loads fastest."""
    form = Form("int8" if scheme else "fp32", "scan", scheme and replace(scheme, signed=False))
    classes: npt.NDArray[np.intp] = verify.answer(builder.build(form), builder.network, form, x).argmax(1)
    return classes
