from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fastzoo.data import Dataset
from fastzoo.errors import DataError, TrainingError
from fastzoo.nn import FastGRNN, SequenceClassifier
from fastzoo.train import Augmentation, Settings, checkpoint, evaluate, fit, predict
from fastzoo.train.trainer import Trainer

from .task import (
    CLASSES,
    Event,
    every_epoch_equal,
    fit_quickly,
    network,
    same,
    weights,
    with_misled_validation,
)


def test_training_reaches_people_it_has_not_seen(dataset: Dataset) -> None:
    run = fit_quickly(network(), dataset, epochs=12)
    assert run.best is not None
    assert run.best.validation_accuracy >= 0.95
    assert evaluate(run.net, dataset.test, dataset.classes, "test").accuracy >= 0.9
    assert [epoch.epoch for epoch in run.history] == list(range(1, 13))
    assert run.history[-1].loss < 0.5 * run.history[0].loss
    assert not run.interrupted


def test_people_held_out_are_not_trained_on(dataset: Dataset) -> None:
    run = fit_quickly(network(), dataset, epochs=1, validation_fraction=0.3)
    train, validation, test = (
        set(part.group) for part in (run.dataset.train, run.dataset.validation, run.dataset.test)
    )
    assert train
    assert validation
    assert not train & validation
    assert test == {8, 9}
    assert run.source is dataset
    assert not len(dataset.validation)


def test_normalisation_is_taken_from_training_windows_alone(dataset: Dataset) -> None:
    loud = replace(dataset, x=np.where((dataset.split == 0)[:, None, None], dataset.x, dataset.x * 100))
    run = fit_quickly(network(), loud, epochs=1)
    x = run.dataset.train.x
    assert np.allclose(run.net.mean.numpy(), x.mean(axis=(0, 1)), atol=1e-5)
    assert np.allclose(run.net.std.numpy(), x.std(axis=(0, 1)), rtol=1e-3)
    at_rest = fit_quickly(network(), loud, epochs=1, at_rest=1).net.std
    assert (at_rest < 0.8 * run.net.std).all()


def test_the_same_seed_gives_the_same_bits(dataset: Dataset) -> None:
    settings = Settings(epochs=2, batch_size=32, augmentation=Augmentation(rotate=0.3, scale=0.1, noise=0.1))
    once, again = (weights(fit(network(), dataset, settings, progress=False).net) for _ in range(2))
    assert same(once, again)
    other_order = weights(fit(network(), dataset, settings, seed=1, progress=False).net)
    other_start = weights(fit(network(seed=1), dataset, settings, progress=False).net)
    assert not same(once, other_order)
    assert not same(once, other_start)


def test_global_randomness_changes_nothing(dataset: Dataset) -> None:
    nets = network(), network()
    for seed, net in enumerate(nets):
        torch.manual_seed(seed)
        fit_quickly(net, dataset, epochs=1)
    assert same(weights(nets[0]), weights(nets[1]))


def by_hand(net: SequenceClassifier, dataset: Dataset, settings: Settings) -> Iterator[dict[str, Tensor]]:
    """The training loop in its plainest form: the weights after every step."""
    train = dataset.with_validation().train
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    net.set_normalisation(x)
    generator = torch.Generator().manual_seed(settings.seed)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimizer]
    optimizer = kind(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = -(-len(x) // settings.batch_size)
    if settings.schedule == "onecycle":
        onecycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.epochs * steps)
    for epoch in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(x), generator=generator), settings.batch_size):
            if settings.schedule == "step":
                decays = epoch // settings.decay_epochs
                optimizer.param_groups[0]["lr"] = settings.learning_rate * settings.decay_rate**decays
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(net(x[rows]), y[rows], label_smoothing=settings.label_smoothing))
            torch.nn.utils.clip_grad_norm_(net.parameters(), settings.gradient_norm)
            optimizer.step()
            if settings.schedule == "onecycle":
                onecycle.step()
            yield weights(net)


SHORT = Settings(epochs=1, batch_size=32, learning_rate=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        SHORT,
        replace(SHORT, batch_size=50, label_smoothing=0.1, seed=7),  # the last batch is smaller
        replace(SHORT, optimizer="adam", weight_decay=0.3),
        replace(SHORT, weight_decay=0.3),
        replace(SHORT, gradient_norm=0.01),
        replace(SHORT, schedule="step"),
        replace(SHORT, schedule="step", epochs=3, decay_epochs=1, decay_rate=0.1),
    ],
    ids=["usual", "odd batch", "adam", "decay", "short gradients", "step", "decaying step"],
)
def test_training_is_the_plain_loop(settings: Settings, dataset: Dataset) -> None:
    *_, expected = by_hand(network(), dataset, settings)
    agreeing = replace(dataset.with_validation(), y=dataset.y)
    last = fit(network(), every_epoch_equal(agreeing), settings, progress=False).net
    for name, value in weights(last).items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-7), name


def test_the_running_average_is_validated_and_kept(dataset: Dataset) -> None:
    average: dict[str, Tensor] = {}
    for step in by_hand(network(), dataset, SHORT):
        average = {name: 0.9 * average[name] + 0.1 * value for name, value in step.items()} if average else step
    run = fit(network(), dataset, SHORT, average=0.9, progress=False)
    for name, value in weights(run.net).items():
        assert torch.allclose(value, average[name], rtol=1e-4, atol=1e-6), name
    assert run.best is not None
    assert evaluate(run.net, run.dataset.validation, CLASSES, "validation").accuracy == run.best.validation_accuracy


def test_the_epoch_that_is_best_on_validation_is_kept(dataset: Dataset, tmp_path: Path) -> None:
    misled = with_misled_validation(dataset)
    run = fit_quickly(network(), misled, epochs=8, out=tmp_path)
    assert run.best is not None
    assert run.validation is not None
    accuracies = [epoch.validation_accuracy for epoch in run.history]
    assert accuracies[-1] < max(accuracies)
    assert run.best.validation_accuracy == max(accuracies) == run.validation.accuracy
    assert evaluate(run.net, misled.validation, CLASSES, "validation") == run.validation
    saved = checkpoint.load(tmp_path)
    assert same(weights(saved.net), weights(run.net))
    assert saved.training["epoch"] == run.best.epoch
    assert saved.training["validation"]["accuracy"] == run.validation.accuracy


def test_of_equally_good_epochs_the_later_is_kept(dataset: Dataset) -> None:
    run = fit_quickly(network(), every_epoch_equal(dataset.with_validation()), epochs=3)
    assert len({epoch.validation_accuracy for epoch in run.history}) == 1
    assert run.best == run.history[-1]


def test_progress_goes_to_standard_error(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), dataset, SHORT)
    shown = capsys.readouterr()
    assert not shown.out
    assert "training" in shown.err
    assert "6/6" in shown.err
    fit(network(), dataset, SHORT, progress=False)
    assert not capsys.readouterr().err


def test_nothing_is_written_unless_asked(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit_quickly(network(), dataset, epochs=1)
    assert not list(tmp_path.iterdir())


def test_integer_windows_are_trained_on(dataset: Dataset) -> None:
    coarse = replace(dataset, x=(dataset.x.clip(-2, 2) * 60 + 127).astype(np.uint8))
    run = fit_quickly(network(), coarse, epochs=6)
    assert run.best is not None
    assert run.best.validation_accuracy > 0.8


def test_predict_gives_the_likeliest_class_in_batches(dataset: Dataset) -> None:
    net = network().train()
    with torch.no_grad():
        expected = net(torch.from_numpy(dataset.x)).argmax(1).numpy()
    assert (predict(net, dataset.x, batch_size=7) == expected).all()
    assert net.training


def interrupt(x: Tensor) -> Tensor:
    signal.raise_signal(signal.SIGINT)
    return x


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize(("at", "best"), [(1, 0), (4, 0), (17, 2)])  # 6 batches an epoch
def test_ctrl_c_keeps_the_best_so_far(at: int, best: int, average: float, dataset: Dataset, tmp_path: Path) -> None:
    settings = Settings(epochs=50, batch_size=32, average=average, augmentation=Event(at=at, what=interrupt))
    agreeing = every_epoch_equal(dataset.with_validation())
    run = fit(network(), agreeing, settings, out=tmp_path, progress=False)
    assert run.interrupted
    assert run.best is not None
    assert run.best.epoch == best == run.history[-1].epoch
    saved = checkpoint.load(tmp_path)
    assert same(weights(saved.net), weights(run.net))
    assert all(value.isfinite().all() for value in weights(saved.net).values())
    assert saved.training["epoch"] == best


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that was just being opened
def test_ctrl_c_at_any_moment_leaves_a_checkpoint(dataset: Dataset, tmp_path: Path) -> None:
    def press() -> None:
        while not (tmp_path / checkpoint.NAME).exists():
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    run = fit_quickly(network(), dataset, epochs=10_000, out=tmp_path)
    thread.join()
    assert run.interrupted
    assert run.best is not None
    held_out = run.dataset.validation
    assert evaluate(run.net, held_out, CLASSES, "validation").accuracy == run.best.validation_accuracy
    saved = checkpoint.load(tmp_path)
    assert evaluate(saved.net, held_out, CLASSES, "validation").accuracy == saved.training["validation"]["accuracy"]


def to_nan(x: Tensor) -> Tensor:
    return x * torch.nan


def test_a_loss_that_is_no_number_ends_training_and_spares_the_best(dataset: Dataset, tmp_path: Path) -> None:
    net = network()
    broken = Settings(epochs=5, batch_size=32, augmentation=Event(at=17, what=to_nan))
    with pytest.raises(
        TrainingError, match=r"epoch 3, batch 5: the loss became nan for training windows .* best weights so far"
    ):
        fit(net, dataset, broken, out=tmp_path, progress=False)
    saved = checkpoint.load(tmp_path)
    assert saved.training["epoch"] in (1, 2)
    assert same(weights(saved.net), weights(net))
    assert all(value.isfinite().all() for value in weights(net).values())


@pytest.mark.parametrize("batch_size", [32, 1000])
def test_an_absurd_learning_rate_is_an_error(batch_size: int, dataset: Dataset) -> None:
    net = network()
    with pytest.raises(TrainingError, match=r"became .* smaller learning rate than 1e\+36"):
        fit(net, dataset, epochs=3, learning_rate=1e36, batch_size=batch_size, progress=False)
    assert all(value.isfinite().all() for value in weights(net).values())


def test_weights_that_are_no_numbers_are_never_kept(dataset: Dataset, tmp_path: Path) -> None:
    def one_infinite_sample(x: Tensor) -> Tensor:
        x[0, 0, 0] = torch.inf  # saturates: the loss stays finite, its gradient does not
        return x

    net = SequenceClassifier(FastGRNN(6, 12, nu=0.0), len(CLASSES))
    last_of_the_epoch = Event(at=6, what=one_infinite_sample)
    with pytest.raises(TrainingError, match=r"weights became NaN or infinite; .* smaller learning rate"):
        fit(net, dataset, epochs=3, batch_size=32, augmentation=last_of_the_epoch, out=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
    assert all(value.isfinite().all() for value in weights(net).values())


@pytest.mark.parametrize(
    ("net", "messages"),
    [
        ({"channels": 5}, ["the data has 6 channels, the network takes 5"]),
        ({"classes": 4}, ["the data has 3 classes, the network 4"]),
        ({"pool": 25}, ["pool = 25 states, but the windows have 24 steps"]),
        ({"channels": 9, "classes": 2, "pool": 100}, ["takes 9", "the network 2", "pool = 100 states"]),
    ],
)
def test_a_network_that_does_not_fit_is_refused(net: dict[str, int], messages: list[str], dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match="cannot train on 'made-up-motion'") as caught:
        fit_quickly(network(**net), dataset)
    assert all(message in str(caught.value) for message in messages)


def test_without_held_out_groups_all_are_trained_on_and_the_last_epoch_is_kept(
    dataset: Dataset, tmp_path: Path
) -> None:
    run = fit_quickly(network(), dataset, epochs=3, validation_fraction=0, learning_rate=1.0, out=tmp_path)
    assert len(run.dataset.train) == len(dataset.train)
    assert run.validation is not None
    assert (run.validation.split, run.validation.n) == ("training", len(dataset.train))
    assert run.best is not None
    assert run.best.epoch == 3
    assert run.history[0].validation_accuracy > run.best.validation_accuracy, "an earlier epoch was better"
    saved = checkpoint.load(tmp_path).training
    assert "validation" not in saved
    assert saved["training"]["n"] == len(dataset.train)


def test_a_class_without_training_windows_is_named(dataset: Dataset) -> None:
    laying = dataset.y == 2
    split = np.where(laying, 2, dataset.split).astype(np.uint8)
    unseen = replace(dataset, split=split, group=dataset.group + 100 * laying)
    with pytest.raises(TrainingError, match="no training window of class laying"):
        fit_quickly(network(), unseen)


def test_data_of_one_person_cannot_be_split(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="has 1 training group"):
        fit_quickly(network(), replace(dataset, group=dataset.split.astype(np.int64)))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": 1.5}, {"learning_rate": -1}])
def test_an_impossible_setting_is_refused(wrong: dict[str, Any], dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="must be"):
        fit(network(), dataset, **wrong)


def few_laying(dataset: Dataset, every: int = 6) -> Dataset:
    """The last class is rare among the training windows."""
    shown = dataset.with_validation()
    laying = np.flatnonzero((shown.y == 2) & (shown.split == 0))
    gone = np.delete(laying, np.s_[::every])
    rows = np.delete(np.arange(len(shown.y)), gone)
    return replace(shown, x=shown.x[rows], y=shown.y[rows], group=shown.group[rows], split=shown.split[rows])


def test_rare_classes_weigh_more_in_the_loss(dataset: Dataset) -> None:
    rare = few_laying(dataset)
    counts = np.bincount(rare.train.y)
    settings = replace(SHORT, balance="loss", batch_size=len(rare.train), label_smoothing=0.1)
    trainer = Trainer(network(), rare.train, rare.channels, settings)
    assert trainer.class_weights.tolist() == pytest.approx((counts.sum() / (3 * counts)).tolist())
    net = network()
    x, y = torch.from_numpy(rare.train.x), torch.from_numpy(rare.train.y)
    net.set_normalisation(x)
    with torch.no_grad():
        weight = torch.from_numpy(counts.sum() / (3 * counts)).float()
        expected = cross_entropy(net(x), y, weight=weight, label_smoothing=0.1).item()
    assert trainer.epoch(lambda loss: None) == pytest.approx(expected, rel=1e-5)


def test_sampling_draws_classes_equally(dataset: Dataset) -> None:
    rare = few_laying(dataset)
    trainer = Trainer(network(), rare.train, rare.channels, replace(SHORT, balance="sampling"))
    orders = [trainer._order() for _ in range(200)]
    assert {len(order) for order in orders} == {len(rare.train)}
    drawn = np.bincount(rare.train.y[torch.cat(orders).numpy()], minlength=3) / (200 * len(rare.train))
    assert np.abs(drawn - 1 / 3).max() < 0.01
    of_class = torch.cat(orders)[torch.from_numpy(rare.train.y)[torch.cat(orders)] == 2].bincount()
    assert of_class[of_class > 0].min() > 0.8 * of_class.max(), "windows of a class are equally likely"
    plain = Trainer(network(), rare.train, rare.channels, SHORT)
    assert plain._order().sort().values.tolist() == list(range(len(rare.train)))


@pytest.mark.parametrize("balance", ["loss", "sampling"])
def test_a_balanced_run_finds_the_rare_class(balance: Any, dataset: Dataset) -> None:
    run = fit_quickly(network(), few_laying(dataset, every=15), epochs=20, balance=balance)
    assert run.validation is not None
    assert run.validation.per_class["laying"].recall >= 0.8
    assert run.best is not None
    assert run.best.validation_macro_f1 == run.validation.macro_f1


def test_equal_classes_need_no_balance(dataset: Dataset) -> None:
    plain, weighed = (fit(network(), dataset, SHORT, balance=b, progress=False) for b in ("none", "loss"))
    for name, expected in weights(plain.net).items():
        assert torch.allclose(weights(weighed.net)[name], expected, rtol=1e-4, atol=1e-6), name


def test_patience_ends_training(dataset: Dataset, tmp_path: Path) -> None:
    misled = with_misled_validation(dataset)
    run = fit_quickly(network(), misled, epochs=40, patience=3, out=tmp_path)
    assert run.best is not None
    assert len(run.history) == run.best.epoch + 3 < 40
    assert not run.interrupted
    assert run.finished
    assert checkpoint.load(tmp_path).training["epoch"] == run.best.epoch
    endless = fit_quickly(network(), misled, epochs=len(run.history) + 2)
    assert len(endless.history) == len(run.history) + 2


def test_an_epoch_tells_rate_and_macro_f1(dataset: Dataset) -> None:
    run = fit(network(), dataset, SHORT, schedule="step", decay_epochs=1, epochs=3, progress=False)
    assert [epoch.learning_rate for epoch in run.history] == pytest.approx([3e-3, 3e-4, 3e-5])
    assert run.validation is not None
    assert all(0 < epoch.validation_macro_f1 <= 1 for epoch in run.history)
    assert {epoch.phase for epoch in run.history} == {"dense"}
