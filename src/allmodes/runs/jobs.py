"""Jobs of one experiment, run one after the other or in separate processes."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from allmodes.errors import AllmodesError, RunError

_POLL = 0.2  # seconds between two checks of the worker processes


class Job(Protocol):
    """A frozen record that can be sent to a process; its folder is in the experiment's folder."""

    @property
    def path(self) -> Path:
        """Folder of the job."""
        ...


JobT = TypeVar("JobT", bound=Job)
Show = Callable[[JobT, Any], None]
Work = Callable[[JobT, Callable[[Any], None]], None]  # (job, function to call with its progress)


def run_jobs(work: Work[JobT], jobs: Sequence[JobT], *, workers: int, show: Show[JobT]) -> None:
    """Run every job: in this process for one worker, else in one process per worker.

    work: a function, or a partial of one, that a new process can import. show: called in this process with
    each progress of a job. Raises the error of the first job that fails (as RunError, if it ran in another
    process) and ends the others.
    """
    if workers == 1:
        for job in jobs:
            work(job, lambda seen, job=job: show(job, seen))
    else:
        _run_in_processes(work, jobs, workers=workers, show=show)


def _run_in_processes(work: Work[JobT], jobs: Sequence[JobT], *, workers: int, show: Show[JobT]) -> None:
    context = _context(work)
    messages: multiprocessing.Queue[tuple[JobT, Any]] = context.Queue()
    waiting, running = list(jobs), dict[JobT, BaseProcess]()
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


def _context(work: Callable[..., None]) -> Any:
    """Starts processes, on Linux as copies of one that has imported what `work` needs; that takes seconds."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.func.__module__ if isinstance(work, partial) else work.__module__])
    return context


def _how_to_continue(folder: Path) -> str:
    """How to resume: a run by its folder; a study or benchmark, whose folder is not a run, by its command."""
    is_run = (folder / "config.json").exists()
    return f"resume with `allmodes run --resume {folder}`" if is_run else "run the same command again"


class _Failure(str):
    """The error of a job, as its process sends it."""

    __slots__ = ()


def _deliver(messages: Any, show: Callable[[Any, Any], None]) -> None:
    """Show the messages of the workers; waits briefly for the first one."""
    for wait in [_POLL] + [0.0] * 100:
        try:
            job, message = messages.get(timeout=wait)
        except queue.Empty:
            return
        if isinstance(message, _Failure):
            raise RunError(f"{job.path.name}: {message}")
        show(job, message)


def _worker(work: Callable[[Any, Callable[[Any], None]], None], job: Job, messages: Any) -> None:
    """A job in its own process, which ends with its parent even if that is killed."""
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
