"""Jobs of one experiment, one after the other or in processes of their own."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from allmodes.errors import AllmodesError, RunError

_POLL = 0.2  # seconds between two looks at the worker processes


class Job(Protocol):
    """A frozen record that can be sent to a process; its folder lies in the experiment's."""

    @property
    def path(self) -> Path:
        """Folder of the job."""
        ...


JobT = TypeVar("JobT", bound=Job)
Show = Callable[[JobT, Any], None]
Work = Callable[[JobT, Callable[[Any], None]], None]  # the job, and what it calls with its progress


def run_jobs(work: Work[JobT], jobs: Sequence[JobT], *, workers: int, show: Show[JobT]) -> None:
    """Run every job: in this process for one worker, else in as many processes as there are workers.

    work: a function, or a partial of one, that a new process can import. show: called here with each progress
    that a job reports. Raises the first job's error, as RunError from another process; the others are ended.
    """
    if workers == 1:
        for job in jobs:
            work(job, lambda seen, job=job: show(job, seen))
    else:
        _run_in_processes(work, jobs, workers=workers, show=show)


def _run_in_processes(work: Work[JobT], jobs: Sequence[JobT], *, workers: int, show: Show[JobT]) -> None:
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[tuple[JobT, Any]] = context.Queue()
    waiting, running = list(jobs), dict[JobT, SpawnProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[job] = context.Process(target=_worker, args=(work, job, messages))
                running[job].start()
            _deliver(messages, show)
            for job, process in list(running.items()):
                if process.exitcode is None:
                    continue
                del running[job]
                _deliver(messages, show)
                if process.exitcode != 0:
                    raise RunError(
                        f"the process of {job.path.name} ended with exit code {process.exitcode}; "
                        f"{_how_to_continue(job.path.parent)}"
                    )
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _how_to_continue(folder: Path) -> str:
    """A run resumes by its folder; the jobs of a study or a benchmark lie in a folder that is no run."""
    is_run = (folder / "config.json").exists()
    return f"continue with `allmodes run --resume {folder}`" if is_run else "the same command continues"


class _Failure(str):
    """What went wrong in a job, as its process sends it."""

    __slots__ = ()


def _deliver(messages: Any, show: Callable[[Any, Any], None]) -> None:
    """Show what the workers have sent; waits a moment for the first message."""
    for wait in [_POLL] + [0.0] * 100:
        try:
            job, message = messages.get(timeout=wait)
        except queue.Empty:
            return
        if isinstance(message, _Failure):
            raise RunError(f"{job.path.name}: {message}")
        show(job, message)


def _worker(work: Callable[[Any, Callable[[Any], None]], None], job: Job, messages: Any) -> None:
    """A job in a process of its own, which ends with its parent even when that is killed."""
    parent = cast("BaseProcess", multiprocessing.parent_process())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides on Ctrl-C

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        work(job, lambda seen: messages.put((job, seen)))
    except AllmodesError as error:
        messages.put((job, _Failure(error)))
