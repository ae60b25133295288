"""Training runs one after the other here, or side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from threading import Thread
from typing import Any

import numpy.typing as npt
import torch

from fastzoo.bundle import Metrics
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.nn import SequenceClassifier
from fastzoo.train.log import Epoch
from fastzoo.train.loop import Run, fit
from fastzoo.train.progress import progress_bars
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

    weights: dict[str, npt.NDArray[Any]]  # not tensors, whose memory ends with the process
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
    ensure_running()  # when it begins it would let Ctrl-C through
    errors: list[Exception] = []
    waiting = list(tasks)
    running: dict[Connection, tuple[Task, BaseProcess]] = {}
    with progress_bars("validation {task.fields[accuracy]:.1f} %", progress) as bar:
        bars = {
            task.number: bar.add_task(task.title, total=task.settings.epochs, accuracy=float("nan")) for task in tasks
        }
        while waiting or running:
            ended: list[tuple[Task, _Outcome]] = []
            try:
                with _ctrl_c_held_back():
                    while waiting and len(running) < jobs:
                        mine, its = context.Pipe(duplex=False)
                        process: BaseProcess = context.Process(target=_work, args=(waiting[0], its), daemon=True)
                        process.start()
                        its.close()
                        running[mine] = waiting.pop(0), process
                ready = wait(list(running), timeout=_GLANCE)
                with _ctrl_c_held_back():  # half a message read would be lost
                    for mine in [connection for connection in running if connection in ready]:
                        task, process = running[mine]
                        told = _next(mine, task)
                        if isinstance(told, Epoch):
                            bar.update(bars[task.number], completed=told.epoch, accuracy=100 * told.validation_accuracy)
                            continue
                        del running[mine]
                        mine.close()
                        process.join()
                        if isinstance(told, _Outcome):
                            ended.append((task, told))
                        elif told is not None:
                            errors.append(told)
            except KeyboardInterrupt:  # the runs keep the best so far, and end
                waiting.clear()
                for _, process in running.values():
                    _interrupt(process)
            for task, outcome in ended:
                yield task.number, _whole(task, outcome)
    if errors:
        raise errors[0]


def _next(mine: Connection, task: Task) -> Any:
    """What a process tells next: an epoch, an outcome, an error, or None for nothing."""
    try:
        return mine.recv()
    except EOFError:
        return TrainingError(
            f"the process of {task.title} was killed; was there too little memory? Go on with --resume, "
            "with fewer --jobs: its epochs so far are kept"
        )


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Ctrl-C waits, here and in a process that begins, until it is heard; Windows cannot."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt(process: BaseProcess) -> None:
    """Ctrl-C for a process, which may have got it from the terminal, too: it hears the first one only."""
    if process.pid is not None and sys.platform != "win32":
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)


def _work(task: Task, told: Connection) -> None:
    """A run, in a process of its own: tells of each epoch, then the outcome, an error, or None for nothing."""
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    outcome: _Outcome | Exception | None = None
    try:
        signal.signal(signal.SIGINT, _once)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        done = _fit(task, progress=False, on_epoch=told.send)
        outcome = _Outcome(
            {name: value.numpy() for name, value in done.net.state_dict().items()},
            done.history,
            done.best,
            done.validation,
            done.interrupted,
        )
    except KeyboardInterrupt:  # before the first step
        pass
    except Exception as error:
        outcome = error
    with suppress(OSError):  # nobody listens any more
        told.send(outcome)


def _once(*_: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Nobody trains on, and writes into the folders, when the command is dead."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _whole(task: Task, outcome: _Outcome) -> Run:
    task.net.load_state_dict({name: torch.from_numpy(value) for name, value in outcome.weights.items()})
    settings = task.settings
    return Run(
        task.net,
        settings,
        task.dataset,
        settings.hold_out(task.dataset),
        outcome.history,
        outcome.best,
        outcome.validation,
        outcome.interrupted,
        task.folder,
        task.bundle,
    )
