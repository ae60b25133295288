"""Requests that wait for one model are computed together, by a thread of the model's own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo._engine import Engine, Floats
from fastzoo.errors import FastzooError
from fastzoo.model import Model, softmax
from fastzoo.samples import as_float32, as_windows
from fastzoo.serve.limits import Limits, busy
from fastzoo.serve.metrics import Metrics

log = logging.getLogger("fastzoo.serve")

_TRIED = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33)  # sizes of a batch that may be computed in different ways


@dataclass
class _Job:
    """The windows of one request, and who waits for their logits."""

    windows: Floats  # [N, T, D]
    engine: Engine
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Floats]
    answer: Floats | BaseException = field(default_factory=lambda: np.empty(0, np.float32))

    def settle(self) -> None:
        """Hand over the answer; nobody may be waiting any more."""
        if self.future.done():
            return
        if isinstance(self.answer, BaseException):
            self.future.set_exception(self.answer)
        else:
            self.future.set_result(self.answer)


class Batcher:
    """A model that many ask at once, with the answers that it gives to each alone.

    Args:
        model: the model.
        limits: how much may wait, and how much is computed at once.
        metrics: where it counts.
    """

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        self.model, self._limits = model, limits
        self.mixes = mixing_changes_nothing(model, limits.max_batch)
        if not self.mixes:
            log.warning("%s rounds windows differently in company: its requests are computed one by one", model.name)
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # windows of jobs that are not answered yet
        self._changed = threading.Condition()
        self._closing = False
        self._batch, self._queue = metrics.batch.labels(model.name), metrics.queue.labels(model.name)
        self._thread = threading.Thread(target=self._work, name=f"fastzoo {model.name}", daemon=True)
        self._thread.start()

    async def logits(self, x: npt.ArrayLike) -> Floats:
        """The logits [N, C] of windows [N, T, D], or [1, C] of a window [T, D].

        Raises:
            InputError: the model cannot take them.
            Refused: too many, or too many before them.
        """
        windows, _ = as_windows(x, self.model.bundle.input)
        windows = as_float32(windows, self.model.bundle.input)
        loop = asyncio.get_running_loop()
        job = _Job(windows, self.model.engine_for(len(windows)), loop, loop.create_future())
        with self._changed:
            if self._closing:
                raise busy("the service is being stopped")
            if self._waiting + len(windows) > self._limits.max_queue:
                raise busy(f"{self._waiting} windows wait already, of {self._limits.max_queue} that may")
            self._jobs.append(job)
            self._count(len(windows))
            self._changed.notify()
        return await job.future

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._take():
            self._compute(jobs)
            with self._changed:
                self._count(-sum(len(job.windows) for job in jobs))
            for loop in {id(job.loop): job.loop for job in jobs}.values():
                _settle(loop, [job for job in jobs if job.loop is loop])

    def _count(self, windows: int) -> None:
        self._waiting += windows
        self._queue.set(self._waiting)

    def _take(self) -> list[_Job]:
        """What is computed next; nothing when all is done and the service stops."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return []
                self._changed.wait()
            self._await_others()
            jobs = [self._jobs.popleft()]
            count = len(jobs[0].windows)
            while self.mixes and self._jobs and self._jobs[0].engine is jobs[0].engine:
                count += len(self._jobs[0].windows)
                if count > self._limits.max_batch:
                    break
                jobs.append(self._jobs.popleft())
        return jobs

    def _await_others(self) -> None:
        until = time.monotonic() + self._limits.max_wait / 1000
        while not self._closing and self.mixes and self._waiting < self._limits.max_batch:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)

    def _compute(self, jobs: list[_Job]) -> None:
        """Give each job its answer."""
        self._batch.observe(sum(len(job.windows) for job in jobs))
        if len(jobs) > 1:
            try:
                logits = jobs[0].engine.logits(np.concatenate([job.windows for job in jobs]))
            except Exception:  # one of them is at fault: each is told its own
                log.debug("a batch failed and is computed one by one", exc_info=True)
            else:
                first = 0
                for job in jobs:
                    job.answer = logits[first : first + len(job.windows)]
                    first += len(job.windows)
                return
        for job in jobs:
            try:
                job.answer = self.model.logits(job.windows)
            except Exception as error:
                if not isinstance(error, FastzooError):
                    log.exception("%s failed", self.model.name)
                job.answer = error


def _settle(loop: asyncio.AbstractEventLoop, jobs: list[_Job]) -> None:
    """Wake those who wait, once for all of them."""

    def settle() -> None:
        for job in jobs:
            job.settle()

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed: nobody waits
        log.debug("%d answers came after the end", len(jobs))


def mixing_changes_nothing(model: Model, most: int) -> bool:
    """Whether a window gets the same bits in any company, tried with windows of noise."""
    expected = model.bundle.input
    shape = (most, expected.steps, len(expected.channels))
    noise: npt.NDArray[Any] = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    engines = {id(engine): engine for engine in map(model.engine_for, (1, most))}.values()
    try:
        return all(_same(engine, noise, size) for engine in engines for size in _TRIED if size <= most)
    except FastzooError:  # noise is too much for this network
        return False


def _same(engine: Engine, noise: Floats, size: int) -> bool:
    together, count = engine.logits(noise), min(size * 2, len(noise))
    apart = np.concatenate([engine.logits(noise[first : first + size]) for first in range(0, count, size)])
    return np.array_equal(together[: len(apart)], apart) and np.array_equal(softmax(together)[0], softmax(apart[0]))
