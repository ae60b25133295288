from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.nn import CELLS, Cell, SequenceClassifier, model_size
from fastzoo.train import Settings, checkpoint, fit
from fastzoo.train.recipe import parse
from fastzoo.train.sparsity import Sparsity, Thresholder, nonzeros, support
from fastzoo.train.trainer import Trainer

from .task import MODEL, fit_quickly, network, same, weights, with_misled_validation

HALF = Sparsity(w=0.5, u=0.3)
BATCHES = 6  # of the small task, 32 windows each


def edgeml(matrix: Tensor, keep: float) -> Tensor:
    """EdgeML's ``hardThreshold``: the matrix with its small entries set to zero."""
    array = matrix.numpy().copy()
    threshold = np.percentile(np.abs(array), (1 - keep) * 100, method="higher")
    array[np.abs(array) < threshold] = 0
    return torch.from_numpy(array)


def factors(net: nn.Module) -> dict[str, Tensor]:
    """The factors of W and U in all cells of a network."""
    return {
        f"{prefix}.{name}": parameter.detach()
        for prefix, module in net.named_modules()
        if isinstance(module, Cell)
        for name, parameter in module.named_parameters()
        if name[0] in "WU"
    }


def kept(entries: int, keep: float) -> int:
    """How many entries EdgeML's percentile leaves of so many different ones."""
    return int(np.count_nonzero(edgeml(torch.arange(1.0, entries + 1), keep)))


def share_of(name: str, sparsity: Sparsity) -> float:
    return sparsity.w if name.split(".")[-1].startswith("W") else sparsity.u


def is_sparse(net: nn.Module, sparsity: Sparsity) -> bool:
    return all(
        int(value.count_nonzero()) == kept(value.numel(), share_of(name, sparsity))
        for name, value in factors(net).items()
    )


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    keep=st.one_of(st.integers(1, 100).map(lambda percent: percent / 100), st.floats(0.001, 1)),
    seed=st.integers(0, 100),
)
def test_what_survives_is_what_edgeml_keeps(shape: tuple[int, int], keep: float, seed: int) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    mask = support(matrix, keep)
    assert torch.equal(matrix * mask, edgeml(matrix, keep))
    assert mask.dtype == matrix.dtype
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(("entries", "keep"), [(76, 0.32), (151, 0.18), (301, 0.59), (351, 0.58), (376, 0.32)])
def test_shares_whose_percentile_falls_on_an_entry_are_rounded_as_edgeml_does(entries: int, keep: float) -> None:
    assert int(support(torch.arange(1.0, entries + 1), keep).sum()) == kept(entries, keep)


@pytest.mark.parametrize(
    ("entries", "keep", "left"), [(100, 0.2, 20), (2000, 0.3, 600), (7, 0.3, 2), (1, 0.01, 1), (64, 1.0, 64)]
)
def test_the_counts_are_edgemls(entries: int, keep: float, left: int) -> None:
    assert int(support(torch.arange(1.0, entries + 1), keep).sum()) == left == kept(entries, keep)


def test_equal_entries_share_one_fate_and_zeros_never_survive() -> None:
    assert support(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), 0.25).tolist() == [[1, 1], [1, 1]]
    assert support(torch.tensor([0.0, 0.0, 0.0, 2.0]), 0.75).tolist() == [0, 0, 0, 1]
    assert support(torch.zeros(3, 3), 1.0).sum() == 0
    assert support(torch.tensor([-3.0, 2.0, 1.0]), 0.4).tolist() == [1, 0, 0]


STEP = Settings(
    epochs=12, batch_size=32, optimizer="adam", schedule="step", learning_rate=0.02, weight_decay=0.0, sparsity=HALF
)
THREE_PHASES = [
    STEP,
    replace(STEP, sparsity=replace(HALF, every=4, schedule="cubic")),
    replace(STEP, average=0.9),
    replace(STEP, optimizer="adamw", weight_decay=0.1, sparsity=Sparsity(w=0.25, begin=0.1, end=0.8, every=7)),
    replace(STEP, epochs=3),  # thresholding has no multiple of 15
]


def three_phases(
    net: SequenceClassifier, dataset: Dataset, settings: Settings
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The paper's loop in plain words: weights after the last step, and their running average."""
    train, sparsity = dataset.with_validation().train, settings.sparsity
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    net.set_normalisation(x)
    generator = torch.Generator().manual_seed(settings.seed)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimizer]
    optimizer = kind(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    matrices = {name: p for name, p in net.named_parameters() if name in factors(net)}
    remembered: dict[str, Tensor] = {}
    average: dict[str, Tensor] = {}
    per_epoch = math.ceil(len(x) / settings.batch_size)
    total, counter = per_epoch * settings.epochs, 0
    begin, end = int(total * sparsity.begin), int(total * sparsity.end)
    last = max((t for t in range(begin, end) if t % sparsity.every == 0), default=end)
    for _ in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(x), generator=generator), settings.batch_size):
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(net(x[rows]), y[rows]))
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            new = weights(net)
            average = {n: average[n].lerp(v, 1 - settings.average) for n, v in new.items()} if average else new
            if (begin <= counter < end and counter % sparsity.every == 0) or counter == last:
                for name, p in matrices.items():
                    final = share_of(name, sparsity)
                    if final == 1:
                        continue
                    keep = final
                    if sparsity.schedule == "cubic" and counter < last:
                        keep = final + (1 - final) * (1 - (counter - begin) / (end - begin)) ** 3
                    remembered[name] = edgeml(p.detach(), keep)
            for name, copy in remembered.items():
                gone = copy == 0
                for tensor in (
                    matrices[name].detach(),
                    average[name],
                    optimizer.state[matrices[name]]["exp_avg"],
                    optimizer.state[matrices[name]]["exp_avg_sq"],
                ):
                    tensor[gone] = 0
            counter += 1
    return weights(net), average


@pytest.mark.parametrize("settings", THREE_PHASES, ids=["EdgeML's", "cubic", "average", "W alone", "short"])
def test_training_is_the_plain_loop_of_three_phases(settings: Settings, dataset: Dataset) -> None:
    expected, average = three_phases(network(), dataset, settings)
    trainer = Trainer(network(), dataset.with_validation().train, (), settings)
    for _ in range(settings.epochs):
        trainer.epoch(lambda loss: None)
    assert same(weights(trainer.net), expected)
    assert is_sparse(trainer.net, settings.sparsity)
    assert trainer.thresholder.done
    if settings.average:
        for name, value in trainer.weights().items():
            assert torch.allclose(value, average[name], rtol=1e-4, atol=1e-6), name
            assert torch.equal(value == 0, average[name] == 0), name


@settings(deadline=None)
@given(steps=st.integers(1, 100_000))
def test_the_phases_are_thirds_of_the_batches(steps: int) -> None:
    thresholder = Thresholder(network(), HALF, steps)
    assert (thresholder.begin, thresholder.end) == (int(steps / 3), int(2 * steps / 3))


U1 = "rnn.cells.0.U1"


def thresholds(steps: int, sparsity: Sparsity) -> dict[int, int]:
    """Steps at which a threshold is set, and the entries of U1 (72) that are left; at last all must be done."""
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    thresholder = Thresholder(net, sparsity, steps)
    found = {}
    for step in range(steps):
        with torch.no_grad():
            for value in net.parameters():
                value.normal_()
        before = thresholder.supports.get(U1)
        thresholder.after_step(step, net, optimizer, None)
        if thresholder.supports.get(U1) is not before:
            found[step] = nonzeros(net, [U1])
        elif thresholder.supports:
            assert nonzeros(net, [U1]) == found[max(found)], "the support changed"
    assert thresholder.done
    return found


@pytest.mark.parametrize(
    ("steps", "schedule", "expected"),
    [
        (90, {}, [30, 45]),
        (93, {}, [45, 60]),  # 31 to 62
        (45, {}, [15]),
        (20, {}, [13]),  # no multiple of 15 from 6 to 13: the first step of the last phase
        (3, {}, [2]),
        (90, {"every": 20}, [40]),
        (40, {"begin": 0.5, "end": 0.5}, [20]),
        (40, {"begin": 0, "end": 0}, [0]),
        (40, {"begin": 0, "end": 1}, [0, 15, 30]),
        (10, {"begin": 0.2, "end": 0.6, "every": 1}, [2, 3, 4, 5]),
        (100, {"every": 1000}, [66]),
        (100, {"begin": 0, "every": 1000}, [0]),
        (100, {"begin": 0.91, "end": 1}, [99]),  # no multiple of 15 is left: the last step
        (100, {"begin": 1, "end": 1}, [99]),
        (1, {}, [0]),
        (2, {"begin": 0.9, "end": 1}, [1]),
    ],
)
@pytest.mark.parametrize("kind", ["constant", "cubic"])
def test_thresholds_are_set_when_they_are_due(
    steps: int, schedule: dict[str, Any], expected: list[int], kind: Any
) -> None:
    found = thresholds(steps, Sparsity(u=0.3, schedule=kind, **schedule))
    assert list(found) == expected
    assert found[expected[-1]] == kept(72, 0.3)
    if kind == "constant":
        assert set(found.values()) == {kept(72, 0.3)}


@settings(deadline=None)
@given(
    steps=st.integers(1, 200),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    every=st.integers(1, 50),
    keep=st.floats(0.05, 1, exclude_max=True),
)
def test_the_cubic_schedule_falls_to_the_final_share(steps: int, bounds: list[float], every: int, keep: float) -> None:
    thresholder = Thresholder(
        network(), Sparsity(u=keep, begin=bounds[0], end=bounds[1], every=every, schedule="cubic"), steps
    )
    left = [
        thresholder._share(step)
        for step in range(steps)
        if thresholder.phase(step) == "thresholding" and step % every == 0
    ]
    assert all(0 <= share <= 1 for share in left)
    assert left == sorted(left, reverse=True)
    assert not left or left[-1] == 0


def test_the_cubic_schedule_is_that_of_zhu_and_gupta() -> None:
    found = thresholds(300, Sparsity(u=0.3, every=10, schedule="cubic"))
    assert list(found) == list(range(100, 200, 10))
    for step, left in found.items():
        sparsity = 0.7 + (0 - 0.7) * (1 - (step - 100) / 100) ** 3  # their equation 1, s_i = 0
        assert abs(left - 72 * (1 - sparsity)) <= 1 or step == 190
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found[190] == kept(72, 0.3)


def test_nothing_happens_where_all_entries_are_kept(dataset: Dataset) -> None:
    assert not Sparsity()
    assert not Sparsity(begin=0, every=1)
    assert Sparsity(w=0.99)
    assert Sparsity(u=0.99)
    thresholder = Thresholder(network(), Sparsity(begin=0, end=0), 10)
    assert thresholder.done
    assert thresholder.phase(9) == "dense"
    plain, with_schedule = (
        fit_quickly(network(), dataset, epochs=2, sparsity=sparsity) for sparsity in (Sparsity(), Sparsity(begin=0))
    )
    assert same(weights(plain.net), weights(with_schedule.net))
    assert {(epoch.phase, epoch.nonzeros) for epoch in plain.history} == {("dense", None)}


@pytest.mark.parametrize("stack", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "stack"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rank", [None, 3])
def test_factors_become_sparse_and_nothing_else(
    cell: str, rank: int | None, stack: dict[str, Any], dataset: Dataset
) -> None:
    own: dict[str, Any] = {"nu": None} if cell == "fastgrnn" else {}
    net = CELLS[cell](6, 8, w_rank=rank, u_rank=rank, **own, **stack)
    run = fit_quickly(SequenceClassifier(net, 3, 8), dataset, epochs=1, sparsity=Sparsity(w=0.4, u=0.25, every=1))
    found = factors(run.net)
    assert len(found) == (2 if rank is None else 4) * (4 if stack else 1)
    others = {name: value for name, value in run.net.named_parameters() if name not in found}
    assert all(value.all() for value in others.values()), "a bias, a scalar or the head lost entries"
    for name, value in found.items():
        share = share_of(name, Sparsity(w=0.4, u=0.25))
        assert abs(int(value.count_nonzero()) - share * value.numel()) <= 4, name
    if cell in ("fastrnn", "fastgrnn"):
        assert is_sparse(run.net, Sparsity(w=0.4, u=0.25))


@pytest.mark.parametrize("cell", ["ugrnn", "gru", "lstm"])
def test_the_matrix_of_each_gate_is_thresholded_by_itself(cell: str, dataset: Dataset) -> None:
    net = SequenceClassifier(CELLS[cell](6, 8), 3, 8)
    run = fit_quickly(net, dataset, epochs=1, sparsity=Sparsity(w=0.4, u=0.25, every=1))
    for name, value in factors(run.net).items():
        for gate in value.split(8, dim=1):  # EdgeML's W1, W2, ...
            assert int(gate.count_nonzero()) == kept(gate.numel(), 0.4 if name.endswith("W") else 0.25), name


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_optimisers_moments_are_masked_with_the_support(optimizer: str, dataset: Dataset) -> None:
    settings = replace(STEP, optimizer=optimizer, weight_decay=0.1, average=0.9)  # type: ignore[arg-type]
    trainer = Trainer(network(), dataset.with_validation().train, (), settings)
    for _ in range(6):
        trainer.epoch(lambda loss: None)
    supports = trainer.thresholder.supports
    assert set(supports) == set(factors(trainer.net))
    assert trainer.average is not None
    averages = dict(trainer.judged.named_parameters())
    for name, parameter in trainer.net.named_parameters():
        state = trainer.optimizer.state[parameter]
        gone = supports[name] == 0 if name in supports else torch.zeros_like(parameter, dtype=torch.bool)
        assert gone.any() == (name in supports)
        for tensor in (parameter, averages[name], state["exp_avg"], state["exp_avg_sq"]):
            assert not tensor[gone].any(), name
            assert tensor[~gone].all(), name


def test_the_support_is_frozen_at_last(dataset: Dataset) -> None:
    trainer = Trainer(network(), dataset.with_validation().train, (), STEP)
    seen = []
    for _ in range(STEP.epochs):
        trainer.epoch(lambda loss: None)
        seen.append({name: value != 0 for name, value in factors(trainer.net).items()})
    for epoch in range(8, 12):  # steps 48 to 71
        assert same(seen[7], seen[epoch])
    assert not same(seen[0], seen[5])


def test_phases_and_what_is_left_are_recorded(dataset: Dataset) -> None:
    run = fit_quickly(network(), dataset, epochs=12, sparsity=HALF)
    assert [epoch.phase for epoch in run.history] == ["dense"] * 4 + ["thresholding"] * 4 + ["frozen"] * 4
    left = sum(kept(value.numel(), share_of(name, HALF)) for name, value in factors(network()).items())
    # steps 24 to 29 wait for the first multiple of 15
    assert [epoch.nonzeros for epoch in run.history] == [216] * 5 + [left] * 7
    gradual = fit_quickly(network(), dataset, epochs=12, sparsity=replace(HALF, schedule="cubic", every=3)).history
    counts = [epoch.nonzeros or 0 for epoch in gradual]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 3
    assert counts[-1] == left


def test_phase_and_share_are_shown_while_training(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), dataset, epochs=3, batch_size=32, sparsity=Sparsity(w=0.5, u=0.5))
    shown = capsys.readouterr()
    assert not shown.out
    assert "frozen, 50 % non-zero" in " ".join(shown.err.split())


@pytest.mark.parametrize("kind", ["constant", "cubic"])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_epoch_is_kept_only_when_it_is_sparse(kind: Any, average: float, dataset: Dataset, tmp_path: Path) -> None:
    misled = with_misled_validation(dataset)  # the first epochs look best
    sparsity = replace(HALF, schedule=kind, every=2)
    run = fit_quickly(network(), misled, epochs=12, sparsity=sparsity, average=average, out=tmp_path)
    assert run.best is not None
    assert run.best.epoch >= 5
    assert run.best.validation_accuracy == max(
        e.validation_accuracy for e in run.history if e.nonzeros == run.best.nonzeros
    )
    assert max(epoch.validation_accuracy for epoch in run.history[:4]) > run.best.validation_accuracy
    assert is_sparse(run.net, sparsity)
    saved = checkpoint.load(tmp_path)
    assert is_sparse(saved.net, sparsity)
    assert same(weights(saved.net), weights(run.net))
    assert saved.training["size"]["nonzeros"] == model_size(run.net).nonzeros == 279 - 216 + (run.best.nonzeros or 0)
    assert saved.training["size"]["sparse_bytes"] < saved.training["size"]["dense_bytes"]
    assert saved.training["settings"]["sparsity"]["u"] == 0.3


@pytest.mark.parametrize(
    "schedule",
    [{}, {"every": 1000}, {"begin": 0, "end": 0}, {"begin": 1, "end": 1}, {"begin": 0.9, "end": 1, "every": 1000}],
)
@pytest.mark.parametrize("epochs", [1, 2])
def test_every_run_ends_sparse(epochs: int, schedule: dict[str, Any], dataset: Dataset) -> None:
    sparsity = Sparsity(w=0.5, u=0.3, **schedule)
    run = fit_quickly(network(), dataset, epochs=epochs, sparsity=sparsity)
    assert run.best is not None, "training kept nothing"
    assert is_sparse(run.net, sparsity)


def test_sparse_training_still_learns(dataset: Dataset) -> None:
    run = fit_quickly(network(), dataset, epochs=30, sparsity=Sparsity(w=0.5, u=0.3))
    assert run.best is not None
    assert run.best.validation_accuracy >= 0.9
    assert is_sparse(run.net, Sparsity(w=0.5, u=0.3))


def test_patience_begins_when_the_weights_are_sparse(dataset: Dataset) -> None:
    misled = with_misled_validation(dataset)
    dense = fit_quickly(network(), misled, epochs=30, patience=2)
    assert dense.best is not None
    assert len(dense.history) == dense.best.epoch + 2 < 30
    sparse = fit_quickly(network(), misled, epochs=30, patience=2, sparsity=HALF)
    assert sparse.best is not None
    assert sparse.best.epoch >= 11
    assert is_sparse(sparse.net, HALF)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"w": 0}, r"sparsity\.w must be the share that is kept, in \(0, 1\], not 0"),
        ({"w": 1.1}, r"sparsity\.w"),
        ({"u": -0.5}, r"sparsity\.u"),
        ({"u": "half"}, r"sparsity\.u .* not 'half'"),
        ({"u": math.nan}, r"sparsity\.u .* not nan"),
        ({"w": True}, r"sparsity\.w .* not True"),
        ({"begin": -0.1}, r"sparsity\.begin must be a share of the steps, in \[0, 1\], not -0\.1"),
        ({"begin": 0.8}, r"sparsity\.end must be a share of the steps, not before begin, not 0\.66"),
        ({"end": 1.5}, r"sparsity\.end"),
        ({"begin": "x"}, r"sparsity\.begin must be a share .* not 'x'"),
        ({"begin": None, "end": None}, r"sparsity\.begin .*; sparsity\.end"),
        ({"every": 0}, r"sparsity\.every must be a whole number of at least 1, not 0"),
        ({"every": 1.5}, r"sparsity\.every"),
        ({"schedule": "linear"}, r"sparsity\.schedule must be 'constant' or 'cubic', not 'linear'"),
        ({"w": 2, "every": "x"}, r"sparsity\.w .*; sparsity\.every"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sparsity(**wrong)
    with pytest.raises(TrainingError, match=r"recipe \[train.sparsity\]: sparsity\."):
        parse({"data": {"id": "har"}, "train": {"sparsity": wrong}})


def test_a_recipe_says_how_sparse() -> None:
    recipe = parse({"data": {"id": "har"}, "train": {"sparsity": {"w": 0.3, "schedule": "cubic"}}})
    assert recipe.settings.sparsity == Sparsity(w=0.3, schedule="cubic")
    assert MODEL  # the network itself is told nothing of it
    with pytest.raises(TrainingError, match=r"\[train.sparsity\]: unknown trim; known are w, u, begin, end, every"):
        parse({"data": {"id": "har"}, "train": {"sparsity": {"trim": 15}}})
