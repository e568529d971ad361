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
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.compat.hydra import configure_hydra_log
from elastic_hydra.compat.hydra_loader import foreseen_directories
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.failures.classify import Failure
from elastic_hydra.failures.policy import Decision, decide_attempt, in_time
from elastic_hydra.journal import events, reader, writer
from elastic_hydra.journal.reader import Recorded
from elastic_hydra.journal.writer import Journal
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.resources import gpu_memory
from elastic_hydra.resources.allocator import Allocator
from elastic_hydra.resources.facts import facts_of_this_host
from elastic_hydra.resources.slots import Slot
from elastic_hydra.supervisor import standard_input
from elastic_hydra.supervisor.client import ENDS, Client, ServerLost
from elastic_hydra.supervisor.forked import ProcessSpec, current_umask
from elastic_hydra.sweep import agent_process, obstacle, returns
from elastic_hydra.sweep.batch import Batch, Running
from elastic_hydra.sweep.compose import compose, meet, teach_parser
from elastic_hydra.sweep.console import take_all_text
from elastic_hydra.sweep.directories import Directories
from elastic_hydra.sweep.errors import JobError
from elastic_hydra.sweep.job import NO_CONFIG, Job
from elastic_hydra.sweep.kept_server import KeptServer
from elastic_hydra.sweep.obstacle import Obstacle
from elastic_hydra.sweep.results import Results, duration, has_one_batch
from elastic_hydra.sweep.resume import History
from elastic_hydra.sweep.settings import check_same, sweep_settings
from elastic_hydra.sweep.stop import (
    Stopped,
    StopSignals,
    keep_last_screen,
    multirun_end_on_interrupt,
    signal_of,
)
from elastic_hydra.sweep.summary import describe, log_of, shown_path
from elastic_hydra.sweep.table import NOT_STARTED, Ended
from elastic_hydra.sweep.task import HydraState

__all__ = ["Sweep"]

log = logging.getLogger("elastic_hydra")

_COMPOSED_AHEAD = 32
"""Jobs of a batch that are composed, and refused if need be, before the first one starts; the others while it runs."""
_SERVERS_IN_VAIN = 3
"""After so many servers that have died before they started a job, what waits is not started."""
_GRACE_MARGIN = 5.0
"""Seconds that an agent gets on top of its own timeouts to end its workers and itself."""


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
        self._settings = sweep_settings(config)
        self._dir = Path(str(config.hydra.sweep.dir)).absolute()
        self._facts = facts_of_this_host()
        self._allocator = Allocator(self._settings, self._facts)
        self._gpu_memory = self._allocator.gpu_memory()
        self._shared = {"task": task_function, "context": context, "state": HydraState()}
        self._kept_server = KeptServer(self._shared)
        self._results = Results(context, config, self._dir)
        self._said_way = ""
        """How jobs are launched, as it was said last."""
        self._failures = 0
        self._obstacle = Obstacle()
        self._journal: Journal | None = None
        self._history = self._read_history()
        self._directories = Directories(self._history.recorded)

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
        planned = deque(
            (self._history.number(overrides, first + i), list(overrides)) for i, overrides in enumerate(job_overrides)
        )
        self._say_what_is_recorded([num for num, _ in planned])
        new = ((num, overrides) for num, overrides in planned if num not in self._history.recorded)
        self._directories.foresee(new, foreseen_directories(self._context.config_loader))
        batch = Batch(planned, self._allocator.slots())
        while batch.planned and len(batch.jobs) < _COMPOSED_AHEAD:
            batch.jobs.append(self._compose(*batch.planned.popleft()))
        check_same(self._settings, batch.jobs)
        teach_parser(batch.jobs[0])
        if self._settings.dry_run:
            return self._plan(batch)
        record = self._open_journal(batch.jobs)
        self._results.plan(batch.size())
        for job in batch.jobs:
            self._admit(batch, job, record)
        signals = StopSignals(self._settings.signals_to_handle)
        with multirun_end_on_interrupt(self._context, self._config), signals:
            try:
                self._run(batch, record, signals)
                record.flush_patiently()
            except BaseException as interrupt:
                signals.deaf = True
                by_signal = isinstance(interrupt, (KeyboardInterrupt, Stopped))
                reason = signal_of(interrupt).name if by_signal else repr(interrupt)
                record.write(events.SweepStopped(reason=reason))
                self._show(batch, record, last=True)
                if isinstance(interrupt, KeyboardInterrupt):
                    keep_last_screen()
                raise
        self._show(batch, record)
        if batch.refused is not None:
            raise batch.refused
        if record.problem:
            raise JobError(f"the sweep is not completely recorded: {record.problem}")
        return [batch.returns[job.num] for job in batch.jobs]

    def _plan(self, batch: Batch) -> list[JobReturn]:
        """Compose and check all jobs, and show what would be launched."""
        while batch.planned:
            batch.jobs.append(self._compose(*batch.planned.popleft()))
        slots = self._allocator.rehearse((job.launch.demand for job in batch.jobs), batch.slots)
        for job, slot in zip(batch.jobs, slots, strict=True):
            overrides = " ".join(filter_overrides(job.overrides))
            bindings = self._allocator.bindings(job.launch, job.env_set, slot)
            log.info("\t#%s : %s\n%s", job.num, overrides, describe(job, slot, bindings))
        return [returns.nothing(job) for job in batch.jobs]

    # --- before --------------------------------------------------------------------------------------------------

    def _configure_log(self) -> None:
        configure_hydra_log(self._config.hydra.hydra_logging, self._config, self._context)
        take_all_text()

    def _compose(self, num: int, overrides: list[str]) -> Job:
        recorded_dir = self._history.output_dir(num)
        job = compose(self._context, self._config, self._facts, num, overrides, recorded_dir)
        try:
            job.launch = self._allocator.fitted(job.launch, job.env_set)
        except NumaError as error:
            raise ConfigError(f"job #{job.num}: {error}") from error
        if recorded_dir is not None:
            self._history.check(num, _yaml(job))
        if self._history.settled(num) is None:
            self._directories.claim(job)
        return job

    def _read_history(self) -> History:
        mode, mine = str(self._settings.resume).lower(), str(self._config.hydra.job.name)
        if mode == "false":
            return History()
        record = reader.read(self._dir / writer.FILE_NAME)
        if record.task not in (None, mine):
            raise ConfigError(
                f"hydra.launcher.resume={mode}: hydra.sweep.dir={self._dir} has a sweep of {record.task}, and this is "
                f"{mine}. Choose that sweep's own directory, or a new one"
            )
        history = History(record, mode)
        if not self._settings.dry_run:
            history.check_trust()
        return history

    def _say_what_is_recorded(self, nums: list[int]) -> None:
        if self._history.mode == "false":
            return
        first = self._journal is None
        found = self._history.found(nums, has_one_batch(self._config), first)
        if not self._history.recorded and first:
            found = f"nothing is recorded in {shown_path(self._dir)}"
        if found:
            log.info("hydra.launcher.resume=%s: %s", self._history.mode, found)

    def _open_journal(self, jobs: list[Job]) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._dir, shared=any(job.launch.several_nodes for job in jobs))
            resume, past = self._history.mode != "false", self._history.recorded
            if resume and self._journal.path == past.path and self._journal.position() != past.end:
                raise ConfigError(
                    f"hydra.sweep.dir={self._dir}: another launcher has ended there while this one was starting. Start "
                    "this one again, so that it reads all of the journal"
                )
            self._journal.write(
                events.SweepBegan(
                    pid=os.getpid(),
                    host=os.uname().nodename,
                    task=str(self._config.hydra.job.name),
                    command=[sys.executable, *sys.argv],
                    dir=os.path.abspath(self._dir),
                    resume=resume,
                )
            )
        return self._journal

    def _admit(self, batch: Batch, job: Job, record: Journal) -> None:
        """Put a job among those that wait to run, unless its recorded end counts."""
        meet(job)
        settled, value = self._settled(job)
        if settled is None:
            batch.waiting.append(job)
            if job.num not in self._history.recorded:  # else it stays what it was until it is started again
                config, folder = _yaml(job), str(job.output_dir)
                record.write(events.JobComposed(num=job.num, overrides=job.overrides, config=config, dir=folder))
            return
        batch.returns[job.num] = returns.recorded(job, settled, value, self._history.mode)
        job.config = NO_CONFIG
        self._results.add(
            Ended(job.num, job.overrides, settled.state, settled.reason, job.log_dir, value, recorded=True)
        )

    def _settled(self, job: Job) -> tuple[Recorded | None, Any]:
        """Return what is recorded of a job that is not run again, and the value that it has returned."""
        settled = self._history.settled(job.num)
        if settled is None or settled.value is None:
            return settled, None
        try:
            return settled, settled.value.load()
        except ConfigError:
            raise
        except Exception as error:  # its class has moved or changed: unpickling may raise anything
            log.warning(
                "#%s runs again: its recorded value cannot be read (%s: %s)", job.num, type(error).__name__, error
            )
            return None, None

    def _compose_next(self, batch: Batch, record: Journal) -> None:
        """Compose one more job while others run; one that is refused lets those end, and no other start."""
        try:
            job = self._compose(*batch.planned.popleft())
            check_same(self._settings, [job])
            self._admit(batch, job, record)
            batch.jobs.append(job)
        except ConfigError as error:
            log.error("no more jobs are started: %s", error)
            batch.refused = error
            batch.planned.clear()
            self._leave_out(batch, "a job of this sweep cannot be launched", record)

    # --- running -------------------------------------------------------------------------------------------------

    def _run(self, batch: Batch, record: Journal, signals: StopSignals) -> None:
        while batch.planned and not batch.waiting:  # recorded jobs that are not to be run need no server
            self._compose_next(batch, record)
        if not batch.waiting:
            return
        grace = max(job.launch.keys.shutdown_timeout for job in batch.jobs) + _GRACE_MARGIN
        try:
            self._run_on_servers(batch, record, signals, grace)
        except ServerLost as error:
            self._leave_out(batch, str(error), record)

    def _run_on_servers(self, batch: Batch, record: Journal, signals: StopSignals, grace: float) -> None:
        """Run the jobs on one server; on another one if that was killed, which ends the jobs that ran and no others."""
        method, in_vain = batch.jobs[0].launch.keys.start_method, 0
        while batch.waiting or batch.planned:
            with self._kept_server.used(method, grace, [record.lock]) as server:
                count = len(batch.waiting) + sum(self._history.settled(num) is None for num, _ in batch.planned)
                before = batch.started
                how = "each in an interpreter of its own" if method == "spawn" else server.reason
                way = f"{_size(batch.jobs)}; workers: {how}"
                # A sweeper with many batches would have the same said again and again.
                level = logging.INFO if way != self._said_way or batch.started else logging.DEBUG
                where, self._said_way = shown_path(self._dir), way
                log.log(level, "Launching %s job%s, %s; output: %s", count, "s"[: count > 1], way, where)
                self._work_off_or_stop(batch, server, record, signals, grace)
            in_vain = in_vain + 1 if server.lost and batch.started == before else 0
            if in_vain == _SERVERS_IN_VAIN:
                raise ServerLost(f"{in_vain} warm servers have died one after the other before they started a job")

    def _work_off_or_stop(
        self, batch: Batch, server: Client, record: Journal, signals: StopSignals, grace: float
    ) -> None:
        try:
            self._work_off(batch, server, record, signals)
        except BaseException as interrupt:
            try:
                _stop(server, batch.running, signal_of(interrupt), grace)
            finally:
                signals.deaf = True
                while batch.running:
                    one = batch.running.pop(0)
                    self._end(batch, one, returns.of(one.job, one.process, signal_of(interrupt)), record)
            raise

    def _work_off(self, batch: Batch, server: Client, record: Journal, signals: StopSignals) -> None:
        """Start each job as soon as there is room for it, until all have ended or the server is lost."""
        while batch.waiting or batch.running or batch.planned:
            if (batch.waiting or batch.planned) and (reason := self._enough(batch, record)):
                self._leave_out(batch, reason, record)
                continue
            self._give_back_emptied(batch)
            pause = batch.pause()
            if pause == 0.0 and not server.lost and not self._obstacle.look(record, batch.waiting):
                with signals.held():
                    started = self._start_next(batch, server, record)
                if started:
                    continue
            if server.lost and not batch.running:
                return
            composed = bool(batch.planned)
            if composed:
                self._compose_next(batch, record)  # meanwhile: what runs needs nothing of us
            if composed and not batch.running:
                continue  # there is nothing to wait for, and perhaps something to start
            with contextlib.suppress(ServerLost):
                pauses = [0.0] if composed else [pause] if pause else []
                pauses += [max(0.0, left) for one in batch.running if (left := one.time_left()) is not None]
                pauses += [gpu_memory.INTERVAL] * bool(batch.leaving)
                pauses += [obstacle.INTERVAL] * bool(self._obstacle.reason)
                server.wait(
                    lambda: any(one.process.exitcode is not None for one in batch.running), min(pauses, default=None)
                )
                self._kill_overdue(batch, server)
            for one in [one for one in batch.running if one.process.exitcode is not None]:
                with signals.held():
                    self._settle(batch, one, record)
                    server.forget([one.process])

    def _settle(self, batch: Batch, one: Running, record: Journal) -> None:
        """Take a job whose agent has ended out of those that run: it has ended, or it is tried again."""
        end = returns.of(one.job, one.process, overdue=one.overdue)
        self._kept_server.learn(end.imported)
        batch.running.remove(one)
        if (leaving := self._gpu_memory.left(one.slot, one.gpu_memory)) is not None:
            batch.leaving.append(leaving)
        else:
            batch.slots.give_back(one.slot)
        decision = self._decide(one.job, end)
        if end.failure is not None and decision is not None and decision.again:
            self._try_again(batch, one.job, end, end.failure, decision, record)
        else:
            self._end(batch, one, end, record, decision.reason if decision is not None else "")

    def _give_back_emptied(self, batch: Batch) -> None:
        """Give back the slots whose GPUs are empty again, or should have been long ago."""
        for leaving in list(batch.leaving):
            occupied = self._gpu_memory.occupied(leaving)
            if occupied and time.monotonic() < leaving.deadline:
                continue
            batch.leaving.remove(leaving)
            batch.slots.give_back(leaving.slot)
            for gpu, used in occupied.items():
                log.warning(
                    "GPU %s: %.1f GB of a job that has ended are still in use; the next one starts all the same "
                    "(hydra.launcher.resources.gpu_memory_wait=%g)",
                    gpu,
                    used / 1e9,
                    self._gpu_memory.wait,
                )

    def _kill_overdue(self, batch: Batch, server: Client) -> None:
        """Kill agents that do not see to their job's time limit: they hang, or somebody has stopped them."""
        for one in batch.running:
            if not one.overdue and (left := one.time_left()) is not None and left <= 0.0:
                one.overdue = True
                server.signal([one.process], signal.SIGKILL)

    def _start_next(self, batch: Batch, server: Client, record: Journal) -> bool:
        """Start a job if there is room for one that waits; say whether there was."""
        chosen = batch.choose()
        if chosen is None:
            return False
        self._start(batch, server, *chosen, record)
        batch.next_start = time.monotonic() + float(self._settings.stagger)
        return True

    def _start(self, batch: Batch, server: Client, job: Job, slot: Slot, record: Journal) -> None:
        """Start a job's agent in its slot; a server that is lost meanwhile leaves the job where it was."""
        log.info("\t#%s : %s", job.num, " ".join(filter_overrides(job.overrides)))
        cpus = None if slot.allowance is None else frozenset(slot.allowance.cpus)
        if job.began is None:
            job.began, job.journal, job.journal_start = time.monotonic(), record.path, record.position()
        record.write(events.AttemptStarted(num=job.num, attempt=job.attempt, gpus=slot.gpus, cpus=sorted(cpus or ())))
        spec = ProcessSpec(None, self._allocator.environment(slot), os.getcwd(), current_umask(), cpus=cpus, agent=True)
        job.label = f"#{job.num}" if batch.side_by_side(self._settings.parallel) else ""
        job.stdin = not job.label and standard_input.is_ours()
        job.slot, in_use = slot.allowance, self._gpu_memory.look(slot)
        shared = self._shared
        payload = (agent_process.run, (job, shared["task"], shared["context"], shared["state"], list(sys.argv)))
        try:
            process = server.start(spec, payload)
        except ServerLost:
            batch.slots.give_back(slot)
            batch.waiting.insert(0, job)
        else:
            batch.running.append(Running(job, process, slot, in_use))
            batch.started += 1

    def _decide(self, job: Job, end: returns.End) -> Decision | None:
        """Decide about a job whose agent was lost; None: it was not, and what failed is beyond another attempt."""
        if end.failure is None or not end.agent_lost:
            return None
        limit, draw = job.launch.keys.watch.time_limit, random.SystemRandom().random()
        decision = decide_attempt(job.launch.keys.retry, job.attempt + 1, end.failure, draw)
        return in_time(decision, None if limit is None else limit - job.elapsed)

    def _try_again(
        self, batch: Batch, job: Job, end: returns.End, failure: Failure, decision: Decision, record: Journal
    ) -> None:
        """Put a job whose agent was lost back to the front of the queue."""
        when = f"in {decision.after:.1f} s" if decision.after > 0 else "at once"
        log.warning("#%s: %s; tried again %s: %s", job.num, failure.reason, when, decision.reason)
        kind, reason = failure.kind.value, failure.reason
        lost = events.AttemptLost(num=job.num, attempt=job.attempt, kind=kind, reason=reason)
        record.write(lost, durable=True)
        not_before = time.monotonic() + decision.after
        restarts = _restarts(job, end, record)
        batch.waiting.insert(0, replace(job, attempt=job.attempt + 1, restarts=restarts, not_before=not_before))

    # --- after ---------------------------------------------------------------------------------------------------

    def _end(self, batch: Batch, one: Running, end: returns.End, record: Journal, no_further: str = "") -> None:
        """Take down how a job ended, and say it when it did not end well, and why it is not tried again."""
        job, failure, seconds = one.job, end.failure, one.job.elapsed
        attempts, restarts = job.attempt + 1, len(_restarts(job, end, record))
        reason = failure.reason if failure is not None else ""
        kind = failure.kind.value if failure is not None else ""
        see = log_of(failure, job.log_dir) if failure is not None else None
        value = end.job_return._return_value if failure is None else None
        batch.returns[job.num] = end.job_return
        job.config = NO_CONFIG
        ended = Ended(job.num, job.overrides, end.state, reason, see, value, seconds, attempts, restarts)
        event = events.JobEnded(
            num=job.num,
            state=end.state,
            kind=kind,
            reason=reason,
            seconds=round(seconds, 3),
            attempts=attempts,
            restarts=restarts,
        )
        record.write_end(event, value)
        if see is None:
            self._results.finished(ended)
        else:
            self._failures += end.state == "failed"
            self._results.add(ended)
            why = reason + (f"; not restarted: {failure.not_restarted}" if failure and failure.not_restarted else "")
            why += f"; not tried again: {no_further}" if no_further else ""
            where, far = shown_path(see), self._results.progress()
            log.error("#%s %s after %s: %s; see %s%s", job.num, end.state, duration(seconds), why, where, far)

    def _enough(self, batch: Batch, record: Journal) -> str:
        """Say why no more jobs are to start; nothing when they are."""
        if self._obstacle.is_lasting and not batch.running:
            return self._obstacle.reason
        if self._settings.on_failure == "stop" and self._failures:
            return "a job has failed, and hydra.launcher.on_failure=stop"
        limit = self._settings.max_failures
        if limit is None:
            return ""
        most = float(limit) * batch.size() if "." in str(limit) else int(limit)
        if self._failures <= most:
            return ""
        return f"{self._failures} jobs have failed, and hydra.launcher.max_failures={limit}"

    def _leave_out(self, batch: Batch, reason: str, record: Journal) -> None:
        while batch.planned and batch.refused is None:
            self._compose_next(batch, record)
        count = len(batch.waiting)
        log.error("%s %s not started: %s", count, "job is" if count == 1 else "jobs are", reason)
        for job in batch.waiting:
            error = JobError(f"not started: {reason}")
            batch.returns[job.num] = returns.failed(job, error)
            self._results.add(Ended(job.num, job.overrides, NOT_STARTED, reason))
        batch.waiting.clear()

    def _show(self, batch: Batch, record: Journal, *, last: bool = False) -> None:
        self._configure_log()
        for num, overrides in [*((job.num, job.overrides) for job in batch.jobs), *batch.planned]:
            self._results.add_not_started(num, overrides)
        problem = ""
        if record.problem and not record.flush(durable=True):
            missing = "; what is missing there will run again when the sweep is resumed" if record.missing() else ""
            problem = f"{record.problem}{missing}"
        self._results.end_of_batch(problem, record.folder, last=last)


def _stop(server: Client, running: list[Running], number: signal.Signals, grace: float) -> None:
    """End all that runs: in order, or at once if interrupted again."""
    processes = [one.process for one in running]
    jobs = ", ".join(f"#{one.job.num}" for one in running)
    while processes:
        try:
            again = "a second Ctrl-C" if number == signal.SIGINT else "Ctrl-C"
            log.warning("%s: stopping %s; %s kills at once", number.name, jobs, again)
            wait = grace
            if number not in ENDS:
                wait += max(one.job.launch.keys.checkpoint_timeout for one in running)
            server.stop(processes, number, wait)
            return
        except Stopped as another:  # noqa: PERF203
            number = another.number
        except BaseException:
            server.stop(processes, signal.SIGKILL, 0.0)
            raise


def _restarts(job: Job, end: returns.End, record: Journal) -> tuple[float, ...]:
    """Return when a job's workers were restarted: as its agent says or, where that was lost, as the journal does."""
    if end.restarts is not None:
        return end.restarts
    try:
        return reader.restarts(record.path, job.num, job.journal_start)
    except OSError as error:
        log.warning("#%s: %s cannot be read (%s): its last restarts are not counted", job.num, record.path, error)
        return job.restarts


def _yaml(job: Job) -> str:
    # Without `task_config`, which copies Hydra's part as well to take it away again.
    keys: Any = [str(key) for key in job.config if key != "hydra"]
    return OmegaConf.to_yaml(OmegaConf.masked_copy(job.config, keys))


def _size(jobs: list[Job]) -> str:
    sizes = sorted({job.launch.nproc_per_node for job in jobs})
    workers = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"each with {workers} worker{'s' if sizes[-1] > 1 else ''} per node"
