"""Jobs that run in the launcher's own process, for debuggers of an IDE that follow one process only.

There is no agent and no server here: a job of one worker runs while the launcher waits for it. What ends the process
ends the sweep, and the next job finds what the last one has left in memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from elastic_hydra.compat.hydra import configure_hydra_log, returned
from elastic_hydra.compat.hydra_run_job import run_job
from elastic_hydra.elastic.worker_failure import facts_of
from elastic_hydra.failures.classify import classify
from elastic_hydra.failures.evidence import Death, Evidence
from elastic_hydra.jobs.agent_process import jobs_part
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.console import prepare_console
from elastic_hydra.jobs.errors import JobError
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.jobs.task import record_start
from elastic_hydra.resources.gpu_memory import Leaving
from elastic_hydra.resources.slots import Slot
from elastic_hydra.supervisor import signal_queue
from elastic_hydra.supervisor.entry import exit_code
from elastic_hydra.supervisor.outcome import Outcome
from elastic_hydra.supervisor.process import Process
from elastic_hydra.sweeps.state import Shared
from elastic_hydra.sweeps.stop import Order

__all__ = ["InlineAgents"]

__tracebackhide__ = True

_ONE_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "GROUP_RANK": "0",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "0",  # torch takes a free one, and nobody else has to know it
}
"""What torch and its users find out about a group of one worker."""


@dataclass(eq=False)
class _Ran(Process):
    """Stands for the process of an agent."""

    end: AttemptEnd | None = None

    def outcome(self, *, errors_only: bool = False) -> Outcome | None:
        """Return how the job has ended."""
        return None if self.end is None else Outcome(value=self.end)


class InlineAgents:
    """Stands for `Agents`: a job that is started runs when the launcher waits.

    Args:
        shared: what all jobs get.
    """

    lost = False

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._started: dict[int, tuple[Attempt, _Ran]] = {}

    def start(self, attempts: Sequence[Attempt], slots: Sequence[Slot], first_rank: int = 0) -> None:
        """Note that a job is to run; its one slot is all of the host."""
        (attempt,) = attempts
        self._started[attempt.job.num] = attempt, _Ran(attempt.job.num, -1, pid=os.getpid())

    def wait(self, until: float | None) -> None:
        """Run the job that was started, however long it takes.

        Raises:
            KeyboardInterrupt: Ctrl-C has ended it.
        """
        for attempt, ran in self._started.values():
            if ran.exitcode is None:
                with _handlers_put_back():
                    ran.end = signal_queue.interruptibly(_run, attempt, self._shared)
                ran.exitcode, ran.exit_time = 0, time.time()

    def ended(self) -> list[tuple[int, int]]:
        """Return the jobs that have ended, and are not forgotten yet, each with the rank of its one node."""
        return [(num, 0) for num, (_, ran) in self._started.items() if ran.exitcode is not None]

    def process(self, num: int, rank: int = 0) -> Process:
        """Return what stands for the process of a job's agent."""
        return self._started[num][1]

    def leaving(self, num: int, rank: int = 0) -> Leaving | None:
        """Return what a job still holds: what this process keeps, it keeps."""
        return None

    def forget(self, num: int, rank: int = 0) -> None:
        """Drop what is kept of a job that has ended."""
        del self._started[num]

    def kill(self, num: int) -> None:
        """Do nothing: no limit holds for these jobs."""

    def signal(self, num: int, number: int, host: str | None = None) -> None:
        """Do nothing: nobody can ask while a job runs."""

    def stop(self, attempts: list[Attempt], order: Order, shutdown_timeout: float) -> None:
        """Do nothing: what has interrupted the launcher has interrupted the job."""


@contextlib.contextmanager
def _handlers_put_back() -> Iterator[None]:
    """Have Ctrl-C interrupt the job as it does any script, and what the job sets end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(attempt: Attempt, shared: Shared) -> AttemptEnd:
    job, began = attempt.job, time.time()
    job_dir_key, job_subdir_key = job.dir_keys

    def task(task_config: DictConfig) -> Any:
        os.environ.update(_ONE_RANK)
        record_start(attempt.journal_path, job.num, attempt.number)
        value = _called(shared, task_config)
        return value if job.launch.keys.return_values == "rank0" else {0: value}

    environment = dict(os.environ)
    try:
        job_return = run_job(
            task_function=task,
            config=job.config,
            job_dir_key=job_dir_key,
            job_subdir_key=job_subdir_key,
            hydra_context=shared.context,
        )
    finally:
        os.environ.clear()
        os.environ.update(environment)
        configure_hydra_log(job.config.hydra.hydra_logging, job.config, shared.context)
        prepare_console()
    return _end(job_return, job, began)


def _called(shared: Shared, task_config: DictConfig) -> Any:
    """Call the user's function; `sys.exit` ends the job, as it would end a worker, and not the sweep."""
    try:
        return shared.task(task_config)
    except SystemExit as stop:
        if code := exit_code(stop):
            raise _ExitError(code) from None
        return None


class _ExitError(JobError):
    """The task has called `sys.exit` with a code that says that it has failed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"rank 0 ended with exit code {code}")
        self.code = code


def _end(job_return: JobReturn, job: Job, began: float) -> AttemptEnd:
    if job_return.status is not JobStatus.FAILED:
        return AttemptEnd(job_return, restarts=())
    raised = returned(job_return)
    raised.__traceback__ = jobs_part(raised.__traceback__)
    code, facts = (raised.code, None) if isinstance(raised, _ExitError) else (1, facts_of(raised))
    now = time.time()
    death = Death(0, now, code, now - began, os.getpid(), facts, log_dir=str(job.output_dir))
    return AttemptEnd(job_return, classify(Evidence(os.uname().nodename, now, [death])), restarts=())
