"""The launcher's side of a sweep: jobs composed and checked, then run as there is room, each by an agent of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.retry import Kind
from elastic_hydra.launcher.child import ProcessSpec, current_umask
from elastic_hydra.launcher.processes import Process, Server, ServerLost
from elastic_hydra.retry.failure import Failure
from elastic_hydra.retry.policy import decide_attempt
from elastic_hydra.sweep import job as agent
from elastic_hydra.sweep import journal, returns
from elastic_hydra.sweep.compose import compose, meet, teach_parser
from elastic_hydra.sweep.history import History
from elastic_hydra.sweep.host import Host
from elastic_hydra.sweep.interrupt import multirun_end_on_interrupt, stopped_by_signals
from elastic_hydra.sweep.job import Job
from elastic_hydra.sweep.journal import Journal
from elastic_hydra.sweep.machine import this_machine
from elastic_hydra.sweep.slots import Slot, Slots, next_to_start
from elastic_hydra.sweep.summary import Ended, describe, render, rerun_command
from elastic_hydra.sweep.task import configure_hydra_log

__all__ = ["Sweep"]

log = logging.getLogger("elastic_hydra")

_COMPOSED_AHEAD = 32
"""Jobs of a batch that are composed, and refused if need be, before the first one starts; the others while it runs."""
_GRACE_MARGIN = 5.0
"""Seconds that an agent gets on top of its own shutdown timeout to end its workers and itself."""


@dataclass(eq=False)
class _Running:
    """A job that has been started."""

    job: Job
    process: Process
    slot: Slot
    started: float
    """On the monotonic clock, in seconds."""
    earlier_starts: int
    """How often its workers had been started before, by an earlier launcher."""


@dataclass(eq=False)
class _Batch:
    """Jobs on their way from their overrides over waiting and running to what they returned."""

    planned: deque[tuple[int, list[str]]]
    """Numbers and overrides of those that are not composed yet."""
    slots: Slots
    jobs: list[Job] = field(default_factory=list)
    """Those that are composed, in Hydra's order."""
    waiting: list[Job] = field(default_factory=list)
    running: list[_Running] = field(default_factory=list)
    returns: dict[int, JobReturn] = field(default_factory=dict)
    ended: dict[int, Ended] = field(default_factory=dict)
    next_start: float = 0.0
    """Not before, on the monotonic clock."""
    overtaken: int = 0
    """How many jobs have overtaken the first that waits."""
    refused: ConfigError | None = None
    """Why a job that was composed late cannot be launched."""

    def choose(self) -> tuple[Job, Slot] | None:
        """Take the job that is to start now out of those that wait, and a slot for it."""
        ready = [job for job in self.waiting if job.not_before <= time.monotonic()]
        chosen = next_to_start([job.launch.demand for job in ready], self.slots, self.overtaken)
        if chosen is None:
            return None
        index, slot = chosen
        self.overtaken = self.overtaken + 1 if index else 0
        self.waiting.remove(ready[index])
        return ready[index], slot

    def pause(self) -> float:
        """Return how long nothing can start even if there is room, in seconds; 0 when something can."""
        earliest = min((job.not_before for job in self.waiting), default=0.0)
        return max(0.0, max(self.next_start, earliest) - time.monotonic())


class Sweep:
    """Runs the jobs that Hydra's sweeper hands to the launcher, batch by batch.

    Args:
        context: Hydra's.
        task_function: the user's.
        config: of the sweep.

    Raises:
        ConfigError: another launcher is at work in the sweep's directory.
    """

    def __init__(self, context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = context
        self._config = config
        self._settings = config.hydra.launcher
        self._dir = Path(str(config.hydra.sweep.dir)).absolute()
        self._machine = this_machine()
        self._host = Host(self._settings, self._machine)
        self._shared = {"task": task_function, "context": context, "state": Singleton.get_state()}
        self._failures = 0
        self._journal: Journal | None = None
        self._history = History()

    def run(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run a batch of jobs, as many at once as the configuration says.

        Args:
            job_overrides: of each job.
            first: number of the first one.

        Returns:
            one `JobReturn` per job.

        Raises:
            ConfigError: a job cannot be launched as configured; then none is started.
            KeyboardInterrupt, SystemExit: the launcher was told to stop; then nothing of the sweep runs any more.
        """
        setup_globals()
        self._configure_log()
        if not job_overrides:
            return []
        planned = deque((first + i, list(overrides)) for i, overrides in enumerate(job_overrides))
        batch = _Batch(planned, self._host.slots())
        while batch.planned and len(batch.jobs) < _COMPOSED_AHEAD:
            batch.jobs.append(self._compose(*batch.planned.popleft()))
        if self._settings.dry_run:
            return self._plan(batch)
        record = self._open_journal(batch.jobs)
        for job in batch.jobs:
            self._admit(batch, job, record)
        with stopped_by_signals(), multirun_end_on_interrupt(self._context, self._config):
            try:
                self._run(batch, record)
            except BaseException as interrupt:
                for one in batch.running:
                    self._end(batch, one, returns.failed(one.job, agent.JobInterruptedError("stopped")), record)
                record.write("stop", reason=type(interrupt).__name__)
                self._show(batch)
                raise
        self._show(batch)
        if batch.refused is not None:
            raise batch.refused
        return [batch.returns[job.num] for job in batch.jobs]

    def _plan(self, batch: _Batch) -> list[JobReturn]:
        """Compose and check all jobs, and show what would be launched."""
        while batch.planned:
            batch.jobs.append(self._compose(*batch.planned.popleft()))
        for job, slot, bindings in self._host.rehearse(batch.jobs, batch.slots):
            overrides = " ".join(filter_overrides(job.overrides))
            log.info("\t#%s : %s\n%s", job.num, overrides, describe(job, slot, bindings))
        return [returns.nothing(job) for job in batch.jobs]

    # --- before --------------------------------------------------------------------------------------------------

    def _configure_log(self) -> None:
        configure_hydra_log(self._config.hydra.hydra_logging, self._config, self._context)

    def _compose(self, planned: int, overrides: list[str]) -> Job:
        if self._journal is None and str(self._settings.resume).lower() != "false":
            self._history = History(journal.read(self._dir / journal.FILE_NAME), str(self._settings.resume).lower())
        num = self._history.number(overrides, planned)
        job = compose(self._context, self._config, self._machine, num, overrides)
        self._host.check(job)
        if self._history.mode != "false":
            self._history.check(num, _yaml(job))
        return job

    def _open_journal(self, jobs: list[Job]) -> Journal:
        if self._journal is None:
            self._dir.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(self._dir, shared=any(job.launch.several_nodes for job in jobs))
            command = [sys.executable, *sys.argv]
            host, resume = os.uname().nodename, self._history.mode != "false"
            self._journal.write("sweep", pid=os.getpid(), host=host, command=command, resume=resume)
        return self._journal

    def _admit(self, batch: _Batch, job: Job, record: Journal) -> None:
        """Put a job among those that wait to run, unless its recorded end counts."""
        meet(job)
        settled = self._history.settled(job.num)
        if settled is None:
            batch.waiting.append(job)
            record.write("job", num=job.num, overrides=job.overrides, config=_yaml(job), dir=str(job.output_dir))
            return
        batch.returns[job.num] = returns.recorded(job, settled, self._history.mode)
        state, value, reason = settled.state, settled.value, settled.reason
        batch.ended[job.num] = Ended(job.num, job.overrides, state, 0.0, 0, value, reason, job.log_dir, True)

    def _compose_next(self, batch: _Batch, record: Journal) -> None:
        """Compose one more job while others run; one that is refused lets those end, and no other start."""
        try:
            batch.jobs.append(self._compose(*batch.planned.popleft()))
            self._admit(batch, batch.jobs[-1], record)
        except ConfigError as error:
            log.error("no more jobs are started: %s", error)
            batch.refused = error
            batch.planned.clear()
            batch.waiting.clear()

    # --- running -------------------------------------------------------------------------------------------------

    def _run(self, batch: _Batch, record: Journal) -> None:
        grace = max(job.launch.shutdown_timeout for job in batch.jobs) + _GRACE_MARGIN
        teach_parser(batch.jobs[0])
        while batch.waiting or batch.planned:
            # Once; a second time only if the server was killed, which ends the jobs that ran and none of the others.
            with Server.open(batch.jobs[0].launch.start_method, self._shared, grace) as server:
                count = len(batch.waiting) + len(batch.planned)
                how = server.reason
                if batch.jobs[0].launch.start_method == "spawn":
                    how = "each in an interpreter of its own"
                log.info("Launching %s job%s, %s; workers: %s", count, "s"[: count > 1], _size(batch.jobs), how)
                try:
                    self._work_off(batch, server, record)
                except BaseException as interrupt:
                    number = signal.SIGINT if isinstance(interrupt, KeyboardInterrupt) else signal.SIGTERM
                    _stop(server, batch.running, number, grace)
                    raise

    def _work_off(self, batch: _Batch, server: Server, record: Journal) -> None:
        """Start each job as soon as there is room for it, until all have ended or the server is lost."""
        while batch.waiting or batch.running or batch.planned:
            if (batch.waiting or batch.planned) and (reason := self._enough_failures(batch)):
                self._leave_out(batch, reason)
                continue
            pause = batch.pause()
            chosen = batch.choose() if pause == 0.0 and not server.lost else None
            if chosen is not None:
                self._start(batch, server, *chosen, record)
                batch.next_start = time.monotonic() + float(self._settings.stagger)
                continue
            if server.lost and not batch.running:
                return
            if batch.planned:
                self._compose_next(batch, record)  # meanwhile: what runs needs nothing of us
            with contextlib.suppress(ServerLost):
                timeout = 0.0 if batch.planned else pause or None
                server.wait(lambda: any(one.process.exitcode is not None for one in batch.running), timeout)
            for one in [one for one in batch.running if one.process.exitcode is not None]:
                batch.running.remove(one)
                batch.slots.give_back(one.slot)
                if not self._try_again(batch, one, record):
                    self._end(batch, one, returns.of(one.job, one.process), record)
                server.forget([one.process])

    def _start(self, batch: _Batch, server: Server, job: Job, slot: Slot, record: Journal) -> None:
        """Start a job's agent in its slot; a server that is lost meanwhile leaves the job where it was."""
        log.info("\t#%s : %s", job.num, " ".join(filter_overrides(job.overrides)))
        cpus = None if slot.allowance is None else frozenset(slot.allowance.cpus)
        record.write("start", num=job.num, attempt=job.attempt, gpus=slot.gpus, cpus=sorted(cpus or ()))
        spec = ProcessSpec(None, self._host.environment(slot), os.getcwd(), current_umask(), cpus=cpus, agent=True)
        job.journal, job.slot = record.path, slot.allowance
        shared = self._shared
        payload = (agent.run, (job, shared["task"], shared["context"], shared["state"], list(sys.argv)))
        try:
            process = server.start(spec, payload)
        except ServerLost:
            batch.slots.give_back(slot)
            batch.waiting.insert(0, job)
        else:
            batch.running.append(_Running(job, process, slot, time.monotonic(), _group_starts(job)))

    def _try_again(self, batch: _Batch, one: _Running, record: Journal) -> bool:
        """Put a job whose agent was lost back to the front of the queue, if it may be tried again."""
        job, lost = one.job, returns.agent_lost(one.process)
        if not lost:
            return False
        failure = Failure(Kind.agent, f"its agent was lost: {lost}", os.uname().nodename, time.time())
        decision = decide_attempt(job.launch.retry, job.attempt + 1, failure, random.SystemRandom().random())
        if not decision.again:
            return False
        log.warning("#%s: %s; %s", job.num, failure.reason, decision.reason)
        record.write("lost", durable=True, num=job.num, attempt=job.attempt, reason=lost)
        not_before = time.monotonic() + decision.after
        restarts = journal.restarts(record.path, job.num)
        batch.waiting.insert(0, replace(job, attempt=job.attempt + 1, restarts=restarts, not_before=not_before))
        return True

    # --- after ---------------------------------------------------------------------------------------------------

    def _end(self, batch: _Batch, one: _Running, job_return: JobReturn, record: Journal) -> None:
        """Take down how a job ended, and say it when it did not end well."""
        job, seconds = one.job, time.monotonic() - one.started
        error = job_return._return_value if job_return.status is JobStatus.FAILED else None
        state = returns.state(job_return)
        reason = "" if error is None else returns.reason(error)
        logs = job.log_dir
        restarts = max(0, _group_starts(job) - one.earlier_starts - 1)
        value = None if error is not None else job_return._return_value
        batch.returns[job.num] = job_return
        batch.ended[job.num] = Ended(job.num, job.overrides, state, seconds, restarts, value, reason, logs)
        extra: dict[str, Any] = {} if error is not None else journal.recordable(value)
        entry = {"num": job.num, "state": state, "seconds": round(seconds, 3), "restarts": restarts, "reason": reason}
        record.write("end", durable=True, **entry, **extra)
        if error is None:
            log.debug("#%s finished after %.1f s", job.num, seconds)
        else:
            self._failures += state == "failed"
            log.error("#%s %s after %.1f s: %s", job.num, state.upper(), seconds, reason)

    def _enough_failures(self, batch: _Batch) -> str:
        """Say why no more jobs are to start; nothing when they are."""
        if self._settings.on_failure == "stop" and self._failures:
            return "a job has failed, and hydra.launcher.on_failure=stop"
        limit = self._settings.max_failures
        if limit is None:
            return ""
        most = float(limit) * len(batch.jobs) if "." in str(limit) else int(limit)
        if self._failures <= most:
            return ""
        return f"{self._failures} jobs have failed, and hydra.launcher.max_failures={limit}"

    def _leave_out(self, batch: _Batch, reason: str) -> None:
        while batch.planned:
            job = self._compose(*batch.planned.popleft())
            batch.jobs.append(job)
            batch.waiting.append(job)
        log.error("%s jobs are not started: %s", len(batch.waiting), reason)
        for job in batch.waiting:
            error = agent.JobError(f"not started: {reason}")
            batch.returns[job.num] = returns.failed(job, error)
            batch.ended[job.num] = Ended(job.num, job.overrides, "waiting", 0.0, 0, None, str(error), job.log_dir)
        batch.waiting.clear()

    def _show(self, batch: _Batch) -> None:
        self._configure_log()
        for job in batch.waiting:
            batch.ended[job.num] = Ended(job.num, job.overrides, "waiting", 0.0, 0, None, "not started", job.log_dir)
        ended = [batch.ended[job.num] for job in batch.jobs]
        well = all(one.state == "finished" for one in ended)
        if well and len(ended) == 1:
            return
        log.info("%s", render(ended))
        if not well:
            log.info("To run what has not finished:\n%s", rerun_command(self._dir))


def _stop(server: Server, running: list[_Running], number: int, grace: float) -> None:
    """End all that runs: in order, or at once if interrupted again."""
    if not running:
        return
    processes = [one.process for one in running]
    try:
        log.warning("stopping %s; a second Ctrl-C kills at once", ", ".join(f"#{one.job.num}" for one in running))
        server.stop(processes, number, grace)
    except BaseException:
        server.stop(processes, signal.SIGKILL, 0.0)
        raise


def _group_starts(job: Job) -> int:
    return len(list(job.log_dir.glob("restart_*")))


def _yaml(job: Job) -> str:
    # Without `task_config`, which copies Hydra's part as well to take it away again.
    keys: Any = [str(key) for key in job.config if key != "hydra"]
    return OmegaConf.to_yaml(OmegaConf.masked_copy(job.config, keys))


def _size(jobs: list[Job]) -> str:
    sizes = sorted({job.launch.nproc_per_node for job in jobs})
    workers = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"each with {workers} worker{'s' if sizes[-1] > 1 else ''} per node"
