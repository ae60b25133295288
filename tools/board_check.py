"""Check fastzoo where it is installed: the part of ``boards.py`` that runs on the board.

    python board_check.py BACKEND MACHINE

BACKEND is what ``fastzoo.load`` must choose there, MACHINE what ``platform.machine()`` must be. It needs fastzoo and
what pip installed with it, and nothing else; it prints a line per check and exits with 1 if one fails.
"""

from __future__ import annotations

import importlib.util
import pickle
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import numpy as np
import numpy.typing as npt

import fastzoo
from fastzoo import golden
from fastzoo.model import Model

NAME = "fastgrnn-har-int8"
FP32 = 1e-4  # the largest difference of logits from the golden ones
INT8 = 0.5  # .. where products are int8: processors round them differently
FEW = 3  # golden windows of a file that is like another one: an emulated board is slow
CHUNKS = (1, 3, 7, 64, 5, 129)  # samples a push, over and over

Floats = npt.NDArray[np.float32]


class CheckError(Exception):
    """A check found something else than it should."""


def require(holds: bool, message: str) -> None:
    if not holds:
        raise CheckError(message)


def the_board(backend: str, machine: str) -> str:
    """The processor is the board's, and only what a board has is installed."""
    require(platform.machine() == machine, f"this is {platform.machine()}, not {machine}")
    found = {name: importlib.util.find_spec(name) is not None for name in ("onnxruntime", "torch", "onnx")}
    expected = {"onnxruntime": backend == "onnxruntime", "torch": False, "onnx": False}
    require(found == expected, f"installed is {found}, where {expected} was expected")
    return f"Python {platform.python_version()}, NumPy {np.__version__}, fastzoo {fastzoo.__version__}"


def load(backend: str) -> str:
    """``load`` chooses the backend, and the first prediction is right."""
    begin = time.perf_counter()
    model = fastzoo.load(NAME)
    x = golden.read(model.bundle, model.path.parent)["x"]
    label = model.predict(x[0])
    require(model.backend == backend, f"the backend is {model.backend}, not {backend}")
    require(label in model.labels, f"{label!r} is none of {model.labels}")
    return f"{model!r} by {model.backend}, first answer after {time.perf_counter() - begin:.1f} s"


def kinds() -> set[tuple[str, str]]:
    """The name and layout of one file of each kind, that with the least to compute: these are checked thoroughly.

    Files of a kind have the same cell, precision and layout, and read one sample a step, or several: other weights, but
    the same operators.
    """
    cheapest: dict[tuple[object, ...], tuple[int, str, str]] = {}
    for name in fastzoo.list_models():
        entry = fastzoo.info(name)
        for layout in entry["layouts"]:
            kind = (entry["cell"]["type"], "brick" in entry["cell"], entry["precision"], layout)
            candidate = (entry.get("macs_per_window") or 0, name, layout)
            cheapest[kind] = min(candidate, cheapest.get(kind, candidate))
    return {(name, layout) for _, name, layout in cheapest.values()}


def golden_logits(name: str, layout: str, windows: int | None = None) -> str:
    """Logits of the golden windows, one by one and all at once, are the recorded ones, and so are classes.

    Args:
        name: of the model.
        layout: of its file.
        windows: so many, evenly spread; default all.
    """
    model = fastzoo.load(name, layout)
    arrays = golden.read(model.bundle, model.path.parent)
    x, expected = arrays["x"], arrays[f"{model.precision}/{layout}"]
    if windows is not None:
        which = np.linspace(0, len(x) - 1, min(windows, len(x))).round().astype(int)
        x, expected = x[which], expected[which]
    record = model.bundle.precisions[model.precision].layouts[layout]
    limit = INT8 if "QuantizeLinear" in record.operators else FP32
    worst = 0.0
    for logits in (model.logits(x), np.stack([model.logits(window) for window in x])):
        difference = float(np.abs(logits - expected).max())
        worst = max(worst, difference)
        require(difference <= limit, f"logits differ from the golden ones by {difference:.3g}, more than {limit:g}")
    labels = model.predict(x)
    expected_labels = np.array(model.labels)[expected.argmax(axis=1)]
    require(limit == INT8 or np.array_equal(labels, expected_labels), "classes are not the golden ones")
    probabilities = model.predict_proba(x)
    require(bool(np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)), "probabilities do not sum to 1")
    own = [model.labels[best] for best in probabilities.argmax(axis=1)]
    require(np.array_equal(own, labels), "predict and predict_proba disagree")
    return f"{len(x)} windows, largest difference {worst:.2g}"


def stream(name: str, layout: str) -> str:
    """A stream in odd chunks answers bit for bit what its windows are answered."""
    model = fastzoo.load(name, layout)
    x = golden.read(model.bundle, model.path.parent)["x"]
    signal = np.concatenate(list(x[:3]))
    steps = model.bundle.input.steps
    hop = max(1, steps // 8)  # few windows, however long: an emulated board is slow
    running = model.stream(hop=hop, sound=False)  # golden windows are features
    results = [result for chunk in in_chunks(signal) for result in running.push(chunk)]
    starts = range(0, len(signal) - steps + 1, hop)
    require(len(results) == len(starts), f"{len(results)} results, where {len(starts)} windows end")
    for start, result in zip(starts, results, strict=True):
        window = signal[start : start + steps]
        same = np.array_equal(result.probabilities, model.predict_proba(window))
        require(same and result.label == model.predict(window), f"the window from sample {start} is answered otherwise")
    return f"{len(results)} windows of {len(signal)} samples"


def in_chunks(signal: Floats) -> Iterator[Floats]:
    first = 0
    for length in cycle(CHUNKS):
        if first >= len(signal):
            return
        yield signal[first : first + length]
        first += length


def pickled() -> str:
    """A model goes through pickle and answers the same."""
    model = fastzoo.load(NAME)
    again: Model = pickle.loads(pickle.dumps(model))
    x = golden.read(model.bundle, model.path.parent)["x"][0]
    require(bool(np.array_equal(again.logits(x), model.logits(x))), "the copy answers otherwise")
    return again.backend


def main(backend: str, machine: str) -> int:
    """All checks; the exit status."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("board", partial(the_board, backend, machine)), ("load", partial(load, backend)), ("pickle", pickled)
    ]  # fmt: skip
    thorough = kinds()
    for name in fastzoo.list_models():
        for layout in fastzoo.info(name)["layouts"]:
            windows = None if (name, layout) in thorough else FEW
            checks.append((f"golden {name} {layout}", partial(golden_logits, name, layout, windows)))
            if (name, layout) in thorough:
                checks.append((f"stream {name} {layout}", partial(stream, name, layout)))
    failed = 0
    for title, check in checks:
        try:
            print(f"ok      {title}: {check()}", flush=True)
        except CheckError as failure:
            failed += 1
            print(f"FAILED  {title}: {failure}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {title}: {traceback.format_exc()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
