"""Test accuracy of the shipped bytes in every precision and layout, and of all seeds.

    FASTZOO_DATA=DIR python benchmarks/accuracy.py [NAME_OR_FOLDER]

Needs the prepared data set (`fastzoo data fetch har`).
"""

from __future__ import annotations

import sys

import numpy as np
from timing import show, verdict

import fastzoo
from fastzoo import bundle, data, metrics
from fastzoo.model import Model


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "fastgrnn-har-int8"
    folder = fastzoo.load(name).path.parent
    content = bundle.read(folder)
    assert content.dataset is not None
    dataset = data.load(content.dataset.id)
    test = dataset.test
    results = {
        (precision, layout): metrics.evaluate(
            Model(folder, precision, layout).logits(test.x).argmax(1), test.y, dataset.classes
        )
        for precision in ("fp32", "int8")
        for layout in content.precisions[precision].layouts
        if layout != "step"  # for streams; a window's answer is that of scan
    }
    rows = []
    for (precision, layout), result in results.items():
        loss = 100 * (results["fp32", layout].accuracy - result.accuracy)
        accuracy = 100 * result.accuracy
        rows.append(
            [
                f"{precision} {layout}",
                verdict(accuracy, 95.5, " %", at_least=True) if precision == "int8" else f"{accuracy:.2f} %",
                f"{100 * result.macro_f1:.2f} %",
                verdict(loss, 0.3, " points") if precision == "int8" else "",
            ]
        )
    title = f"{content.name} on {content.dataset.variant or content.dataset.id}, {len(test)} test windows"
    show(title, ["", "accuracy", "macro F1", "lost to fp32"], rows)
    seeds = {key: value for key, value in (content.seeds or {}).items() if "/" in key}
    if seeds:
        show(
            f"all seeds {list((content.seeds or {})['seeds'])}, as measured at export",
            ["", "mean", "std", "worst", "each"],
            [
                [
                    key,
                    *(f"{100 * value[figure]:.2f} %" for figure in ("mean", "std", "worst")),
                    " ".join(f"{100 * v:.2f}" for v in np.array(value["accuracy"])),
                ]
                for key, value in seeds.items()
            ],
        )


if __name__ == "__main__":
    main()
