"""Jobs in worker processes, each of which makes what it needs once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from worldmodel.errors import RunError

#: fork hangs once the parent has used EGL
CONTEXT = multiprocessing.get_context("spawn")

Needs = TypeVar("Needs")
Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    make: Callable[[], Needs], work: Callable[[Needs, Job], Result], jobs: Iterable[Job],
    workers: int,
) -> Iterator[Result]:  # fmt: skip
    """Yield ``work(make(), job)`` of each of ``jobs`` as they come, not in order.

    ``make`` is called once in each of ``workers`` processes, which have a thread each; a job is
    drawn when a process is free for it. All must be picklable. An error of ``make`` or ``work`` is
    raised here, RunError where a process dies. Then, and at Ctrl-C, what runs is waited for, which
    is short where ``work`` looks at :func:`stopping`.
    """
    stop = CONTEXT.Event()
    pool = ProcessPoolExecutor(workers, CONTEXT, initializer=_start, initargs=(make, stop))
    queue, pending = iter(jobs), set[Future[Result]]()
    try:
        while True:
            while len(pending) < workers and (job := next(queue, None)) is not None:
                pending.add(pool.submit(_work, work, job))
            if not pending:
                return
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process died, which is mostly the lack of memory; what is finished is kept. "
            "Run the same command again with fewer workers, as in workers=1"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def stopping() -> bool:
    """In a worker process: whether nobody waits any more for what it does."""
    return _stop is not None and _stop.is_set()


_needs: Any  # in each worker process: what it made, or the exception that it met instead
_stop: Event | None = None


def _start(make: Callable[[], Any], stop: Event) -> None:
    global _needs, _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"  # workers share the cores
    try:
        _needs = make()
    except Exception as error:  # told by _work: an initializer's own error only breaks the pool
        _needs = error


def _work(work: Callable[[Any, Any], Any], job: Any) -> Any:
    if isinstance(_needs, Exception):
        raise _needs
    return work(_needs, job)


def end_with_parent() -> None:
    """A killed parent would leave its workers waiting for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
