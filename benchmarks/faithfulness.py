"""What int8 changes on recordings: accuracy and the share of windows that keep fp32's class, scheme by scheme.

    FASTZOO_DATA=DIR python benchmarks/faithfulness.py [NAME_OR_FOLDER]

Ranges come from training windows, as in an export; the numbers are those of the test split. Without the prepared data
set it says so and measures nothing.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from timing import show, verdict

import fastzoo
from fastzoo import bundle, data
from fastzoo.errors import DataError
from fastzoo.export import verify
from fastzoo.export.calibrate import Method
from fastzoo.export.layouts import INTEGERS, PRODUCTS, WEIGHTS, Builder, Form, Scheme
from fastzoo.export.source import calibration_windows, resolve

SCHEMES = {
    "weights alone, per tensor": Scheme(WEIGHTS),
    "weights alone, per channel": Scheme(WEIGHTS, per_channel=True),
    "W8A8, fp32 state": Scheme(PRODUCTS),
    "W8A8, fp32 state, per channel": Scheme(PRODUCTS, per_channel=True),
    "W8A8, 8-bit state, min-max": Scheme(INTEGERS),
    "W8A8, 8-bit state, 99.99 %": Scheme(INTEGERS, Method(99.99)),
    "W8A8, 8-bit state, 99.9 %": Scheme(INTEGERS, Method(99.9)),
    "W8A8, 8-bit state, 99.5 %": Scheme(INTEGERS, Method(99.5)),
    "W8A8, 8-bit state, 99.5 %, per channel": Scheme(INTEGERS, Method(99.5), per_channel=True),
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "fastgrnn-har-int8"
    folder = fastzoo.load(name).path.parent
    content = bundle.read(folder)
    assert content.dataset is not None
    try:
        data.load(content.dataset.id)
    except DataError as error:
        print(f"not measured: {error}")
        return
    source = resolve(folder, None, folder, None, None, None, None, None)
    assert source.dataset is not None
    windows = calibration_windows(source, None)
    builder = Builder(source.network(source.net), windows)
    test = source.dataset.test

    def classes(form: Form) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        logits = verify.answer(builder.build(form), builder.network, form, test.x.astype(np.float32))
        return np.asarray(logits.argmax(1))

    exact = classes(Form("fp32", "scan"))
    accuracy = 100 * float((exact == test.y).mean())
    rows = [["fp32", f"{accuracy:.2f} %", "", "", ""]]
    for title, scheme in SCHEMES.items():
        begin = time.perf_counter()
        builder.build(Form("int8", "scan", scheme))
        seconds = time.perf_counter() - begin
        found = classes(Form("int8", "scan", scheme))
        least = 99.7 if scheme.kind == WEIGHTS else 98.5
        rows.append([
            title,
            f"{100 * float((found == test.y).mean()):.2f} %",
            verdict(accuracy - 100 * float((found == test.y).mean()), 0.3, " points"),
            verdict(100 * float((found == exact).mean()), least, " %", at_least=True),
            f"{seconds:.2f} s",
        ])  # fmt: skip
    title = f"{content.name}, {len(test)} test windows, ranges from {len(windows)} training windows"
    show(title, ["", "accuracy", "lost to fp32", "fp32's class", "calibrated in"], rows)


if __name__ == "__main__":
    main()
