"""Where batches are computed: in this process, in others beside it, or on Ray.

Batches depend on nothing but their job, so who computes one, and when, changes no
number beyond float rounding. Results come back to the process that asked; it alone
writes.
"""

import contextlib
import importlib.util
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from robustgen.errors import RequestError, unknown_name

Job = TypeVar("Job")
Result = TypeVar("Result")

EXECUTORS = ("local", "ray")

POLL_SECONDS = 1.0
"""How soon a worker notices that whoever started it is gone."""


@runtime_checkable
class Executor(Protocol):
    """Computes jobs in other processes."""

    def compute(
        self, work: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result]]:
        """Yields each job with its result, in the order in which they are done.

        Args:
            work: A function of a module, which another process can import.
            jobs: Values that can be sent to another process.
        """
        ...


@contextlib.contextmanager
def open_executor(name: str, workers: int) -> Generator[Executor | None]:
    """Workers for the length of a run; None where this process does the work itself.

    Args:
        name: `local`: processes on this machine; `ray`: workers of a Ray cluster, or
            of one that is started here if there is none.
        workers: Processes. One local worker is this process itself.

    Raises:
        RequestError: the name is unknown, there is less than one worker, or Ray is not
            installed.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    if workers < 1:
        raise RequestError(f"--workers {workers}: expected one or more.")
    if name == "ray":
        with _ray(workers) as executor:
            yield executor
    elif workers == 1:
        yield None
    else:
        with _processes(workers) as executor:
            yield executor


class _Pool:
    """Processes on this machine."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def compute(
        self, work: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result]]:
        """See `Executor.compute`."""
        futures = {self.pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


@contextlib.contextmanager
def _processes(workers: int) -> Generator[Executor]:
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(
        workers,
        # A forked process would inherit torch's threads in an unknown state.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=partial(_begin, os.getpid(), threads),
    )
    try:
        yield _Pool(pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int, threads: int) -> None:
    """Sets up a worker: its share of the cores, and an end if its parent is killed."""
    torch.set_num_threads(threads)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _RayWorkers:
    """Workers of a Ray cluster."""

    def __init__(self, ray: Any, workers: int) -> None:
        self.ray = ray
        self.workers = workers

    def compute(
        self, work: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result]]:
        """See `Executor.compute`."""
        remote = self.ray.remote(work)
        waiting = list(jobs)[::-1]
        running: dict[Any, Job] = {}
        try:
            while waiting or running:
                # No more at a time than asked for: each holds a set of networks.
                while waiting and len(running) < self.workers:
                    job = waiting.pop()
                    running[remote.remote(job)] = job
                done, _ = self.ray.wait(list(running))
                for reference in done:
                    yield running.pop(reference), self.ray.get(reference)
        finally:
            for reference in running:
                self.ray.cancel(reference)


@contextlib.contextmanager
def _ray(workers: int) -> Generator[Executor]:
    if importlib.util.find_spec("ray") is None:
        raise RequestError(
            "--executor ray: Ray is not installed. Run `pip install 'robustgen[ray]'`, "
            "or use --executor local."
        )
    ray: Any = importlib.import_module("ray")
    started = not ray.is_initialized()
    if started:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield _RayWorkers(ray, workers)
    finally:
        if started:
            ray.shutdown()
