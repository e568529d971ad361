"""The launcher's side of a sweep: it plans the batches of jobs that Hydra's sweeper hands over, and runs them."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from elastic_hydra.compat.hydra import configure_hydra_log
from elastic_hydra.config.debug import POST_MORTEM
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import without_effect
from elastic_hydra.config.schema import INLINE
from elastic_hydra.failures.cause import one_line
from elastic_hydra.hosts.engines import engine_of
from elastic_hydra.hosts.time_left import time_left
from elastic_hydra.jobs.console import prepare_console
from elastic_hydra.jobs.errors import JobError
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.jobs.program import Program
from elastic_hydra.jobs.task import HydraState
from elastic_hydra.journal import events, reader, writer
from elastic_hydra.journal.writer import Journal
from elastic_hydra.live.view import View, view_of
from elastic_hydra.overview.words import shown_path
from elastic_hydra.resources.facts import facts_of_this_host
from elastic_hydra.resources.host import Host
from elastic_hydra.supervisor import standard_input
from elastic_hydra.supervisor.foreground import Foreground
from elastic_hydra.supervisor.signal_queue import interruptibly
from elastic_hydra.sweeps import returns
from elastic_hydra.sweeps.batch import Batch
from elastic_hydra.sweeps.compose import teach_parser
from elastic_hydra.sweeps.composer import Composer
from elastic_hydra.sweeps.detached import is_left_alone, output_of_this_launcher
from elastic_hydra.sweeps.environment import environment
from elastic_hydra.sweeps.failure_limit import FailureLimit
from elastic_hydra.sweeps.hands import stop_if_asked
from elastic_hydra.sweeps.host_pool import HostPool
from elastic_hydra.sweeps.kept_server import KeptServer
from elastic_hydra.sweeps.lease import await_other_host, await_other_hosts, keep
from elastic_hydra.sweeps.plan import planned_slots
from elastic_hydra.sweeps.requeue import Requeue
from elastic_hydra.sweeps.rerun import program_of
from elastic_hydra.sweeps.results import Results, given_overrides, has_one_batch, maximize
from elastic_hydra.sweeps.resume import History
from elastic_hydra.sweeps.settings import hosts_keys_of, sweep_settings
from elastic_hydra.sweeps.slurm_job import SlurmJob
from elastic_hydra.sweeps.start import RUN_DIR, SWEEP_DIR
from elastic_hydra.sweeps.state import Shared, SweepState
from elastic_hydra.sweeps.stop import (
    Stopped,
    keep_last_screen,
    multirun_end_on_interrupt,
    order_of,
    stop_signals,
)
from elastic_hydra.sweeps.summary import describe
from elastic_hydra.sweeps.supposed_hosts import supposed_hosts
from elastic_hydra.sweeps.token_file import TokenFile

__all__ = ["Sweep"]

log = logging.getLogger("elastic_hydra")

_WHERE = ("hosts", "sbatch")
"""What is configured of a program, and says only where it runs: a sweep may go on elsewhere."""
_COMPOSED_AHEAD = 32
"""Jobs of a batch that are composed, and refused if need be, before the first one starts; the others while it runs."""


class Sweep:
    """Runs the jobs that Hydra's sweeper hands to the launcher, batch by batch; or the one job of a run without `-m`.

    Args:
        context: Hydra's.
        task_function: the user's.
        config: of the sweep, or of the single run.
        single: whether it is a single run. Its directory is `hydra.runtime.output_dir`, which must be known.

    Raises:
        ConfigError: another launcher is at work in the sweep's directory.
    """

    def __init__(
        self, context: HydraContext, task_function: TaskFunction, config: DictConfig, *, single: bool = False
    ) -> None:
        self._context = context
        self._config = config
        self._single = single
        self._dir_key = RUN_DIR if single else SWEEP_DIR
        self._dir = Path(str(config.hydra.runtime.output_dir if single else config.hydra.sweep.dir)).absolute()
        self._settings = settings = sweep_settings(config)
        if settings.debug == POST_MORTEM and not standard_input.terminal():
            raise ConfigError(
                f"hydra.launcher.debug={POST_MORTEM}: standard input is no terminal, so nobody could type into the "
                "debugger. Start the sweep in a terminal, or leave the key out"
            )
        facts = facts_of_this_host()
        if settings.resources.duration is not None:
            facts = replace(facts, time_left=time_left(os.environ))
        self._facts = facts
        shared = Shared(task_function, context, HydraState())
        keys = hosts_keys_of(settings)
        if ignored := without_effect(keys):
            log.warning("hydra.launcher.hosts: %s has no effect with hosts=%s", ignored, keys.engine)
        engine = engine_of(keys)
        pool: HostPool | None = None
        hosts: Mapping[str, Host]
        if engine is None:
            host = Host.here(settings, facts)
            hosts = {host.name: host}
        elif settings.dry_run and keys.engine == "slurm":
            hosts = supposed_hosts(engine, settings, keys, facts)
        else:
            pool = HostPool(engine, keys, settings, vars(shared), TokenFile(self._dir, self._dir_key))
            hosts = pool.hosts
        self._is_program = isinstance(task_function, Program)
        # What is swept for a program are launch settings, and it returns no value.
        results = Results(context, config, self._dir, single=single, by_time=self._is_program)
        self._slurm_job = SlurmJob.of(os.environ)
        self._requeue = Requeue(settings, config, self._dir_key)
        if not settings.dry_run:
            await_other_host(self._dir / writer.FILE_NAME, self._dir_key, self._slurm_job)
        self._history = self._read_history()
        most = settings.max_failures
        self._state = SweepState(
            dir=self._dir,
            settings=settings,
            hosts=hosts,
            shared=shared,
            server=KeptServer(vars(shared), settings.preload),
            pool=pool,
            history=self._history,
            composer=Composer(context, config, settings, hosts, self._history, single=single),
            results=results,
            failures=FailureLimit(settings.on_failure, None if most is None else str(most)),
            single=single,
        )
        self._journal: Journal | None = None
        self._has_batch = False
        """Whether a batch has begun; until then the journal tells of no job of this launcher."""
        self._view: View | None = None

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
        return self._run_numbered(
            [(self._history.number(overrides, first + i), list(overrides)) for i, overrides in enumerate(job_overrides)]
        )

    def run_single(self) -> JobReturn:
        """Run the one job of a run without `-m`.

        Raises:
            ConfigError, KeyboardInterrupt, SystemExit: as `run`.
        """
        self._configure_log()
        # A directory has one run. When that is resumed with other overrides, the history says what differs.
        return self._run_numbered([(0, list(self._config.hydra.overrides.task))])[0]

    def close(self) -> None:
        """End the warm server, if there is one, and let other hosts go."""
        self._state.server.close()
        if self._state.pool is not None:
            self._state.pool.close()

    def _run_numbered(self, planned: list[tuple[int, list[str]]]) -> list[JobReturn]:
        """Run a batch of jobs, given their numbers and overrides."""
        self._say_what_is_recorded([num for num, _ in planned])
        composer = self._state.composer
        composer.foresee(planned)
        self._have_a_host(len(planned))
        try:
            jobs = self._compose_first(planned)
        except BaseException as error:
            if self._journal is not None and not self._has_batch:
                self._note_stop(error)
            raise
        if self._settings.dry_run:
            return self._plan(planned, jobs)
        return self._run(planned, jobs)

    def _compose_first(self, planned: list[tuple[int, list[str]]]) -> list[Job]:
        """Compose the jobs of a batch that are refused, if need be, before the first one starts; in a dry run, all."""
        is_dry, composer = self._settings.dry_run, self._state.composer
        ahead = planned if is_dry else planned[:_COMPOSED_AHEAD]
        jobs = [composer.compose(num, overrides) for num, overrides in ahead]
        composer.check_same(jobs)
        if not self._has_batch and (about := jobs[0].launch.about_nodes):
            log.info("%s", about)
        teach_parser(jobs[0])
        if not is_dry:
            _import_first(self._settings.preload)
        return jobs

    def _have_a_host(self, jobs: int) -> None:
        """Wait for the first host, if jobs run on others: what they have decides how jobs are composed.

        That may take days, so there is a journal already, and the sweep can be looked at and stopped.
        """
        if (pool := self._state.pool) is None:
            return
        journal = None if self._settings.dry_run else self._open_journal(())
        if journal is not None:
            pool.record(journal)  # why no host comes is what whoever looks at the sweep wants to know
        pool.listener = self._state.control
        with stop_signals(self._settings.signals_to_handle):
            try:
                pool.first(jobs, lambda: None if journal is None else self._stop_if_asked(journal))
            except BaseException as interrupt:
                pool.close()
                self._note_stop(interrupt)
                raise

    def _run(self, planned: list[tuple[int, list[str]]], jobs: list[Job]) -> list[JobReturn]:
        """Run a batch whose first jobs are composed."""
        journal = self._open_journal(jobs)
        unrecorded = sum(num not in self._history.recorded for num, _ in planned)
        journal.write(events.BatchBegan(jobs=unrecorded, parallel=str(self._settings.parallel)))
        self._has_batch = True
        self._state.results.plan(len(planned))
        batch = Batch(self._state, journal, planned, self._view_of(journal, jobs))
        for job in jobs:
            batch.admit(job)
        del jobs[:]  # so that each configuration, which is large, is freed when its job has ended
        # Hydra's callbacks hear of the end of a single run from Hydra itself.
        told = nullcontext() if self._single else multirun_end_on_interrupt(self._context, self._config)
        foreground = Foreground() if self._settings.debug else nullcontext()
        with told, stop_signals(self._settings.signals_to_handle), foreground as self._state.foreground:
            try:
                batch.run()
                interruptibly(journal.flush_patiently)
            except BaseException as interrupt:
                self._note_stop(interrupt, batch)
                raise
        self._show(batch, journal)
        if batch.refused is not None:
            raise batch.refused
        if journal.problem:
            raise JobError(f"the sweep is not completely recorded: {journal.problem}")
        returned = batch.returns()
        if self._is_program and any(map(_has_failed, returned)):
            raise SystemExit(1)  # all is said, and the exception of a program has nothing to say to Hydra
        return returned

    def _stop_if_asked(self, journal: Journal) -> None:
        stop_if_asked(self._state.control, self._state.mailbox, journal)

    def _note_stop(self, interrupt: BaseException, batch: Batch | None = None) -> None:
        """Record that the sweep ends before it is done, show how far it is, and see to its going on.

        Args:
            interrupt: what ends it.
            batch: its last one; None: none runs.
        """
        is_told = isinstance(interrupt, (KeyboardInterrupt, Stopped))
        if (journal := self._journal) is not None:
            said = one_line(str(interrupt)) if isinstance(interrupt, ConfigError) else repr(interrupt)
            journal.write(events.SweepStopped(reason=str(order_of(interrupt)) if is_told else said))
            if batch is not None:
                self._show(batch, journal, last=True)
            if is_told:
                self._requeue.ask(order_of(interrupt), journal, "" if batch is None else batch.given_up)
            if not (self._has_batch or self._requeue.job or is_left_alone(self._settings)):
                self._take_back(journal)
        if isinstance(interrupt, KeyboardInterrupt):
            keep_last_screen()

    def _take_back(self, journal: Journal) -> None:
        """Leave no trace of a launcher whose end is seen where it was started, and under which no job has run."""
        journal.take_back()
        self._journal = None
        if self._state.mailbox is not None:
            self._state.mailbox.close()

    def _plan(self, planned: list[tuple[int, list[str]]], jobs: list[Job]) -> list[JobReturn]:
        """Show what would be launched of a batch."""
        scheduler = self._state.scheduler(planned)
        for job in jobs:
            scheduler.composed(Attempt(job) if self._history.settled(job.num) is None else None)
        planned_for = planned_slots(scheduler)
        for job in jobs:
            overrides, slots = " ".join(filter_overrides(job.overrides)), planned_for.get(job.num)
            if slots is None and self._history.settled(job.num) is None:
                what = f"    it would wait until {job.launch.demand.nodes} hosts are there"
            elif slots is None:
                what = f"    recorded, and not run again: hydra.launcher.resume={self._history.mode}"
            else:
                first = slots[0]  # the other nodes of a job hold the like of it
                allocator = self._state.hosts[first.host].allocator
                what = describe(job, first, allocator.bindings(job.launch, job.env_set, first))
            log.info("\t#%s : %s\n%s", job.num, overrides, what)
        return [returns.nothing(job) for job in jobs]

    # --- before --------------------------------------------------------------------------------------------------

    def _configure_log(self) -> None:
        configure_hydra_log(self._config.hydra.hydra_logging, self._config, self._context)
        prepare_console()

    def _read_history(self) -> History:
        mode, task = str(self._settings.resume).lower(), str(self._config.hydra.job.name)
        if mode == "false" and self._requeue.job is None:
            return History()
        record = reader.read(self._dir / writer.FILE_NAME, self._dir_key)
        mode = self._requeue.resume_mode(mode, record)
        if mode == "false":
            return History()
        if record.task not in (None, task):
            raise ConfigError(
                f"hydra.launcher.resume={mode}: {self._dir_key}={self._dir} has a sweep of {record.task}, and this is "
                f"{task}. Choose that sweep's own directory, or a new one"
            )
        history = History(record, mode, _WHERE if self._is_program else ())
        if not self._settings.dry_run:
            history.check_trust()
        return history

    def _say_what_is_recorded(self, nums: list[int]) -> None:
        if self._history.mode == "false":
            return
        first = self._journal is None
        whole = has_one_batch(self._config) and not self._single
        found = self._history.found(nums, whole, first)
        if not self._history.recorded and first:
            found = f"nothing is recorded in {shown_path(self._dir)}"
        if found:
            log.info("hydra.launcher.resume=%s: %s", self._history.mode, found)

    def _open_journal(self, jobs: Sequence[Job]) -> Journal:
        if self._journal is None:
            shared = any(job.launch.launcher_per_node for job in jobs)
            self._journal = Journal(self._dir, shared=shared, key=self._dir_key)
            if self._slurm_job is not None or self._state.pool is not None:
                keep(self._journal.path, self._dir_key, self._slurm_job, self._shutdown_timeout(jobs))
            await_other_hosts(self._journal.path, self._dir_key)
            resume, past = self._history.mode != "false", self._history.recorded
            if resume and self._journal.path == past.path and self._journal.position() != past.end:
                raise ConfigError(
                    f"{self._dir_key}={self._dir}: another launcher has ended there while this one was starting. Start "
                    "this one again, so that it reads all of the journal"
                )
            program = program_of(given_overrides(self._config))
            event = events.SweepBegan(
                pid=os.getpid(),
                host=os.uname().nodename,
                task=str(self._config.hydra.job.name),
                command=[sys.executable, *(sys.orig_argv[1:] if program else sys.argv)],
                program=[sys.executable, *program[1:]] if program else [],
                sweeper=str(self._config.hydra.sweeper._target_),
                cwd=os.getcwd(),
                dir=os.path.abspath(self._dir),
                control="" if _has_inline(jobs) else self._state.open_control(),  # nobody would answer during a job
                resume=resume,
                slurm_job="" if self._requeue.job is None else self._requeue.job.id,
                output=output_of_this_launcher(),
                maximize=maximize(self._config),
                **environment(self._facts),
                single=self._single,
            )
            if self._slurm_job is not None or event.output:
                self._state.open_mailbox()
            self._requeue.begin(self._journal)
            self._journal.write(event)
        return self._journal

    def _shutdown_timeout(self, jobs: Sequence[Job]) -> float:
        """Return the longest one of some jobs; of none that are composed yet, that of the sweep."""
        return max((job.launch.keys.shutdown_timeout for job in jobs), default=float(self._settings.shutdown_timeout))

    def _view_of(self, journal: Journal, jobs: Sequence[Job]) -> View:
        """Return the view of the sweep. A job that is the only one, or is debugged, has the terminal for itself."""
        results = self._state.results
        debugged = any(job.launch.keys.debug for job in jobs) or _has_inline(jobs)
        if results.planned < 2 or debugged:
            return View()
        self._view = self._view or view_of(journal.path, results.outlook, live=bool(self._settings.live))
        return self._view

    # --- after ---------------------------------------------------------------------------------------------------

    def _show(self, batch: Batch, journal: Journal, *, last: bool = False) -> None:
        """Show what has become of a batch's jobs, those that were not started included."""
        self._configure_log()
        results = self._state.results
        for num, overrides in batch.jobs():
            results.add_not_started(num, overrides)
        problem = ""
        if journal.problem and not journal.flush(durable=True):
            missing = "; what is missing there will run again when the sweep is resumed" if journal.missing() else ""
            problem = f"{journal.problem}{missing}"
        results.end_of_batch(problem, journal.folder, last=last)


def _has_inline(jobs: Sequence[Job]) -> bool:
    """Whether jobs run in this process."""
    return any(job.launch.keys.start_method == INLINE for job in jobs)


def _has_failed(job_return: JobReturn) -> bool:
    return job_return.status is JobStatus.FAILED


def _import_first(names: Sequence[str]) -> None:
    """Import modules for all workers.

    Raises:
        ConfigError: one cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: PERF203
            what = f"cannot be imported ({type(error).__name__}: {error}); correct it, or leave it out"
            raise ConfigError(f"hydra.launcher.preload={name}: {what}") from error
