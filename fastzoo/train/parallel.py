"""Training runs one after the other here, or side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from fastzoo.bundle import Metrics
from fastzoo.data import Dataset
from fastzoo.nn import SequenceClassifier
from fastzoo.train.loop import Epoch, Run, fit
from fastzoo.train.settings import Settings

_GLANCE = 0.2  # seconds between two looks at what the processes tell


@dataclass(frozen=True)
class Task:
    """One run: the arguments of :func:`fastzoo.train.fit`, and what to call it."""

    number: int
    title: str
    net: SequenceClassifier
    dataset: Dataset
    settings: Settings
    folder: Path
    resumed: bool
    bundle: Mapping[str, str]


@dataclass(frozen=True)
class _Outcome:
    """What comes back from another process: a :class:`Run` without its data."""

    weights: dict[str, Tensor]
    history: list[Epoch]
    best: Epoch | None
    validation: Metrics | None
    interrupted: bool


def run(tasks: Sequence[Task], jobs: int, progress: bool) -> Iterator[tuple[int, Run]]:
    """Each task's number and run, as they end; none is begun after Ctrl-C.

    Args:
        tasks: what to do.
        jobs: how many at a time. 1 = in this process, with torch's threads; else in fresh processes, on one thread
            each (a script that calls this needs the ``if __name__ == "__main__"`` that multiprocessing asks for).
        progress: show progress bars.

    Raises:
        TrainingError: the first one of a run, after the others have ended.
    """
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            done = _fit(task, progress=progress)
            yield task.number, done
            if done.interrupted:
                return
    else:
        yield from _side_by_side(tasks, jobs, progress)


def _fit(task: Task, **arguments: Any) -> Run:
    return fit(
        task.net, task.dataset, task.settings, out=task.folder, resumed=task.resumed, bundle=task.bundle, **arguments
    )


def _side_by_side(tasks: Sequence[Task], jobs: int, progress: bool) -> Iterator[tuple[int, Run]]:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks but not the threads
    errors: list[BaseException] = []
    waiting = list(tasks)
    pending: dict[Future[_Outcome], Task] = {}
    manager = SyncManager(ctx=context)
    manager.start(_begin_process)
    with manager, ProcessPoolExecutor(jobs, context, _begin_process) as executor, _progress(progress) as bar:
        told = manager.Queue()
        bars = {
            task.number: bar.add_task(task.title, total=task.settings.epochs, accuracy=float("nan")) for task in tasks
        }
        while waiting or pending:
            try:
                while waiting and len(pending) < jobs:  # one more would wait where it cannot be called back
                    task = waiting.pop(0)
                    pending[executor.submit(_work, task, told)] = task
                done, _ = wait(pending, timeout=_GLANCE, return_when=FIRST_COMPLETED)
                _show(told, bar, bars)
            except KeyboardInterrupt:  # the runs got it, too: they keep the best so far, and end
                done = set()
                waiting.clear()
            for future in done:
                task = pending.pop(future)
                if (error := future.exception()) is None:
                    yield task.number, _whole(task, future.result())
                else:
                    errors.append(error)
    if errors:
        raise errors[0]


def _begin_process() -> None:
    """In each process of ours: Ctrl-C is for the runs alone, and nobody goes on when the command is dead."""
    _ignore_interrupts()
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    command = multiprocessing.parent_process()
    if command is not None:
        command.join()
        os._exit(1)  # what is on disk is whole at any moment


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; those that only serve must live on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(task: Task, told: Any) -> _Outcome:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = _fit(task, progress=False, on_epoch=lambda epoch: told.put((task.number, epoch)))
    finally:
        _ignore_interrupts()
    return _Outcome(done.net.state_dict(), done.history, done.best, done.validation, done.interrupted)


def _whole(task: Task, outcome: _Outcome) -> Run:
    task.net.load_state_dict(outcome.weights)
    settings = task.settings
    return Run(
        task.net,
        settings,
        task.dataset,
        task.dataset.with_validation(settings.validation_fraction, settings.validation_seed),
        outcome.history,
        outcome.best,
        outcome.validation,
        outcome.interrupted,
        task.folder,
        task.bundle,
    )


def _show(told: Any, bar: Progress, bars: Mapping[int, TaskID]) -> None:
    """Bring the bars up to what the processes told."""
    while True:
        try:
            number, epoch = told.get_nowait()
        except queue.Empty:
            return
        bar.update(bars[number], completed=epoch.epoch, accuracy=100 * epoch.validation_accuracy)


def _progress(visible: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("validation {task.fields[accuracy]:.1f} %"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(file=sys.stderr), disable=not visible)
