"""Distillation: students against networks of the same kind that learn from labels alone, and against their committee.

    python benchmarks/distillation.py [digits] [har]

The networks of a published recipe are trained with so many seeds on the training people but those that validation holds
out; then students of the same size, with other seeds, learn from all of them together. What counts is the accuracy on
validation windows in the epoch where it was best, for all of them. `digits` takes a minute; `har`, on the other two
thirds of the training people, some fifteen, and needs the prepared data set.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from timing import show

from fastzoo import data
from fastzoo.data import Dataset
from fastzoo.nn import SequenceClassifier
from fastzoo.train import Distillation, Recipe, Settings, checkpoint, fit
from fastzoo.train.distillation import Teachers
from fastzoo.train.recipe import read

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
NAMES = {"digits": "fastrnn-digits", "har": "fastrnn-har"}
TEACHERS, STUDENTS = range(3), range(3, 6)
HELD_OUT = 0.33


def percent(answers: torch.Tensor, dataset: Dataset) -> float:
    """Of the validation windows, the share whose class has the largest answer [N, C]."""
    return 100 * float((answers.argmax(1).numpy() == dataset.validation.y).mean())


def trained(recipe: Recipe, settings: Settings, seed: int, source: Dataset, out: Path) -> SequenceClassifier:
    """One network, as its run's folder keeps it."""
    fit(recipe.model.build(source, seed), source, replace(settings, seed=seed), out=out, progress=False)
    return checkpoint.load(out).net.eval()


def measure(id: str, scratch: Path) -> None:
    """Train on a data set and print what was learnt."""
    recipe, source = read(RECIPES / f"{NAMES[id]}.toml"), data.load(id)
    labels = replace(recipe.settings, validation_fraction=HELD_OUT, distillation=Distillation())
    dataset = labels.hold_out(source)
    folders = [scratch / f"{id}-teacher-{seed}" for seed in TEACHERS]
    distillation = Distillation(tuple(map(str, folders)), weight=0.9)
    answers = replace(labels, distillation=distillation)
    alone = [trained(recipe, labels, seed, source, out) for seed, out in zip(TEACHERS, folders, strict=True)]
    taught = [trained(recipe, answers, seed, source, scratch / f"{id}-student-{seed}") for seed in STUDENTS]
    x = torch.from_numpy(dataset.validation.x).float()
    rows = [[f"{len(alone)} together", f"{percent(Teachers(distillation, dataset, None)(x), dataset):.2f} %", "", ""]]
    with torch.no_grad():
        for name, nets in (("labels alone", alone), ("taught by all of them", taught)):
            found = np.array([percent(net(x), dataset) for net in nets])
            rows.append([name, *(f"{value:.2f} %" for value in (found.mean(), found.std(ddof=1), found.min()))])
    show(f"{id}, {NAMES[id]}, {len(dataset.validation)} validation windows", ["", "mean", "std", "worst"], rows)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for id in sys.argv[1:] or ["digits"]:
            measure(id, Path(scratch))


if __name__ == "__main__":
    main()
