"""Distillation: the loss, whose answers are learnt, and who may teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from fastzoo import bundle, registry
from fastzoo.data import Dataset
from fastzoo.errors import BundleError, TrainingError, UnknownModelError
from fastzoo.export import export
from fastzoo.nn import SequenceClassifier
from fastzoo.train import Augmentation, Distillation, Recipe, Run, Settings, fit_recipe, predict, recipe
from fastzoo.train.distillation import Teachers

from .task import MODEL, fit_quickly, network, same, weights

SHORT = Settings(epochs=2, batch_size=32, learning_rate=0.03)


@pytest.fixture(scope="module")
def taught_by(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two seeds that know the task."""
    plan = Recipe(data=dataset.id, model=MODEL, settings=replace(SHORT, epochs=12), seeds=2)
    return fit_recipe(plan, dataset, tmp_path_factory.mktemp("teachers") / "run", progress=False)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_that_of_hinton(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    student, teacher, y = rng.normal(size=(7, 4)), rng.normal(size=(7, 4)), rng.integers(0, 4, 7)
    counts = rng.uniform(0.5, 2, 7) if weighted else np.ones(7)
    settings = Distillation(("anybody",), weight=0.6, temperature=3.0)
    p, q = softmax(teacher / 3), softmax(student / 3)
    taught = (counts * (p * np.log(p / q)).sum(axis=1)).sum() / counts.sum()
    labelled = cross_entropy(torch.from_numpy(student), torch.from_numpy(y))
    loss = settings.loss(
        torch.from_numpy(student), torch.from_numpy(p), labelled, torch.from_numpy(counts) if weighted else None
    )
    assert loss.item() == pytest.approx(0.4 * labelled.item() + 0.6 * 9 * taught, rel=1e-12)


def test_who_answers_like_the_teachers_has_nothing_to_learn_from_them() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    settings = Distillation(("anybody",), weight=1.0)
    labelled = cross_entropy(logits, torch.zeros(5, dtype=torch.long))
    loss = settings.loss(logits, (logits.detach() / 2).softmax(dim=1), labelled, None)
    loss.backward()
    assert logits.grad is not None
    assert abs(loss.item()) < 1e-12
    assert logits.grad.abs().max() < 1e-12


def test_teachers_see_what_the_student_sees(dataset: Dataset, taught_by: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    answers: list[Tensor] = []
    loss = Distillation.loss

    def listening(self: Distillation, logits: Tensor, answer: Tensor, *rest: Any) -> Tensor:
        answers.append(answer)
        return loss(self, logits, answer, *rest)

    monkeypatch.setattr(Distillation, "loss", listening)
    net, distillation = network(), Distillation((str(taught_by),))
    net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].clone()) if net.training else None)
    augmentation = Augmentation(rotate=1.0, noise=1.0)
    fit_quickly(net, dataset, epochs=1, distillation=distillation, augmentation=augmentation)
    teachers = Teachers(distillation, dataset, None)
    recorded = torch.from_numpy(dataset.x)
    assert len(seen) == len(answers) > 1
    for batch, answer in zip(seen, answers, strict=True):
        assert torch.allclose(answer, teachers(batch), atol=1e-6)
        assert not any(torch.equal(window, one) for window in batch[:3] for one in recorded)


def test_the_teachers_are_believed_where_the_labels_lie(dataset: Dataset, taught_by: Path) -> None:
    lying = replace(dataset, y=np.where(dataset.split == 0, (dataset.y + 1) % 3, dataset.y))

    def accuracy(**distillation: Any) -> float:
        settings = Distillation((str(taught_by),), **distillation)
        run = fit_quickly(network(), lying, epochs=12, distillation=settings, validation_fraction=0.0)
        return float((predict(run.net, lying.test.x) == lying.test.y).mean())

    assert accuracy(weight=1.0) > 0.9
    assert accuracy(weight=1e-6) < 0.1


def test_a_run_a_bundle_and_its_name_teach_the_same(
    dataset: Dataset, taught_by: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTZOO_REGISTRY", str(tmp_path / "zoo"))
    made = tmp_path / "teacher-motion"
    export(taught_by, made, dataset=dataset, layouts=["fused"])
    registry.register(made)
    x = torch.from_numpy(dataset.test.x)
    answers = [
        Teachers(Distillation((name,)), dataset, None)(x)
        for name in (str(taught_by), str(made), "teacher-motion", "teacher-motion-int8")
    ]
    each = [(net(x) / 2).softmax(dim=1) for net in Teachers(Distillation((str(taught_by),)), dataset, None).nets]
    assert len(each) == 2
    assert torch.allclose(answers[0], sum(each) / 2)
    assert all(torch.equal(answers[0], other) for other in answers[1:])


def test_a_bundle_without_the_weights_of_its_seeds_teaches_alone(
    dataset: Dataset, taught_by: Path, tmp_path: Path
) -> None:
    export(taught_by / "seed-1", tmp_path / "one", dataset=dataset, layouts=["fused"])
    assert bundle.read(tmp_path / "one").seed_weights is None
    assert len(Teachers(Distillation((str(tmp_path / "one"),)), dataset, None).nets) == 1


def test_what_was_learnt_from_is_in_the_bundle(dataset: Dataset, taught_by: Path, tmp_path: Path) -> None:
    distillation = Distillation((str(taught_by),), weight=0.5)
    fit_quickly(network(), dataset, epochs=1, distillation=distillation, out=tmp_path / "run")
    made = export(tmp_path / "run", tmp_path / "b", dataset=dataset, layouts=["fused"])
    assert made.training is not None
    assert made.training["settings"]["distillation"] == {
        "teachers": [str(taught_by)], "weight": 0.5, "temperature": 2.0
    }  # fmt: skip
    assert made.training["teachers"] == Teachers(distillation, dataset, None).sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("walking", "sitting", "laying")}, "knows the classes walking, standing, laying"),
        ({"channels": tuple("abcdef")}, r"takes the channels acc_x \[g\], acc_y"),
    ],
)
def test_who_knows_other_things_cannot_teach(
    change: dict[str, Any], message: str, dataset: Dataset, taught_by: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        fit_quickly(network(), replace(dataset, **change), epochs=1, distillation=Distillation((str(taught_by),)))


def test_windows_that_are_too_short_for_a_teacher_are_refused(dataset: Dataset, taught_by: Path) -> None:
    short = replace(dataset, x=dataset.x[:, :5])
    with pytest.raises(TrainingError, match="pool = 8 states, but the windows have 5 steps"):
        fit_quickly(network(pool=2), short, epochs=1, distillation=Distillation((str(taught_by),)))


def test_a_teacher_that_saw_what_is_held_out_is_refused(dataset: Dataset, taught_by: Path) -> None:
    distillation = Distillation((str(taught_by),))
    message = "saw|held out here, so that validation would flatter: train it with validation_fraction = 0.3"
    with pytest.raises(TrainingError, match=message):
        fit_quickly(network(), dataset, epochs=1, distillation=distillation, validation_fraction=0.3)
    with pytest.raises(TrainingError, match="validation_seed = 1"):
        fit_quickly(network(), dataset, epochs=1, distillation=distillation, validation_seed=1)
    fit_quickly(network(), dataset, epochs=1, distillation=distillation)
    fit_quickly(network(), dataset, epochs=1, distillation=distillation, validation_fraction=0.0)
    own = dataset.with_validation(0.3)  # the data set's own split, which the teacher's run would have kept, too
    fit_quickly(network(), own, epochs=1, distillation=distillation)


@pytest.mark.parametrize(("name", "error"), [("nobody", UnknownModelError), ("./nowhere", BundleError)])
def test_a_teacher_that_is_not_there_is_named(name: str, error: type[Exception], dataset: Dataset) -> None:
    with pytest.raises(error, match=Path(name).name):
        fit_quickly(network(), dataset, epochs=1, distillation=Distillation((name,)))


def test_a_teacher_that_is_not_there_leaves_no_run_behind(dataset: Dataset, tmp_path: Path) -> None:
    plan = Recipe(dataset.id, MODEL, replace(SHORT, distillation=Distillation(("nobody",))), seeds=2)
    with pytest.raises(UnknownModelError, match="nobody"):
        fit_recipe(plan, dataset, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_same_teachers_alone(dataset: Dataset, taught_by: Path, tmp_path: Path) -> None:
    distillation = Distillation((str(taught_by),))
    whole = fit_quickly(network(), dataset, epochs=3, distillation=distillation)

    def stop(epoch: Any) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    part = {"epochs": 3, "distillation": distillation, "out": tmp_path / "run"}
    assert fit_quickly(network(), dataset, on_epoch=stop, **part).interrupted
    resumed: Run = fit_quickly(network(), dataset, resumed=True, **part)
    assert same(weights(resumed.net), weights(whole.net))

    changed = tmp_path / "teacher"
    fit_quickly(network(), dataset, epochs=1, out=changed)
    part["distillation"] = Distillation((str(changed),))
    fit_quickly(network(), dataset, **part)
    fit_quickly(network(1), dataset, epochs=1, out=changed)
    with pytest.raises(TrainingError, match="other teachers than this one"):
        fit_quickly(network(), dataset, resumed=True, **part)


def test_teachers_do_not_change(dataset: Dataset, taught_by: Path) -> None:
    teachers = Teachers(Distillation((str(taught_by),)), dataset, None)
    before = [weights(net) for net in teachers.nets]
    fit_quickly(network(), dataset, epochs=1, distillation=Distillation((str(taught_by),)))
    assert not any(parameter.requires_grad for net in teachers.nets for parameter in net.parameters())
    assert all(same(old, weights(net)) for old, net in zip(before, teachers.nets, strict=True))


def test_a_recipe_names_teachers() -> None:
    text = {
        "data": {"id": "har"},
        "train": {"distillation": {"teachers": ["gru-har", "runs/har"], "weight": 0.9, "temperature": 4.0}},
    }
    made = recipe.parse(text)
    assert made.settings.distillation == Distillation(("gru-har", "runs/har"), 0.9, 4.0)
    with pytest.raises(TrainingError, match="folds hold subjects out that a teacher was trained on"):
        recipe.parse({**text, "folds": 3})


def test_a_recipe_with_teachers_survives_toml(tmp_path: Path) -> None:
    made = Recipe(data="har", settings=Settings(distillation=Distillation(("gru-har",), 0.9)))
    (tmp_path / "r.toml").write_bytes(recipe.to_toml(made))
    assert recipe.read(tmp_path / "r.toml") == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"teachers": "gru-har"}, {"teachers": ["", "x"]}, {"teachers": [3]}, {"weight": 0.0}, {"weight": 1.5},
        {"weight": "all"}, {"temperature": 0.5}, {"temperature": True}, {"teacher": ["x"]},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        recipe.parse({"data": {"id": "har"}, "train": {"distillation": wrong}})


def test_teachers_are_classifiers_of_ours(dataset: Dataset, taught_by: Path) -> None:
    nets = Teachers(Distillation((str(taught_by),)), dataset, None).nets
    assert all(isinstance(net, SequenceClassifier) and not net.training for net in nets)
