"""A batch of jobs in the launcher's process: composed and checked first, then run, each by an agent of its own."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.config.resolve import Launch, Machine, resolve
from elastic_hydra.launcher.child import ProcessSpec
from elastic_hydra.launcher.processes import Process, Server, ServerLost
from elastic_hydra.launcher.store import host_store
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.sweep import job as agent
from elastic_hydra.sweep.job import Job, JobError, JobInterruptedError
from elastic_hydra.sweep.machine import this_machine
from elastic_hydra.sweep.slots import Slot, Slots, cuda_visible_devices, next_to_start
from elastic_hydra.sweep.task import configure_hydra_log

__all__ = ["Sweep"]

log = logging.getLogger("elastic_hydra")

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


@dataclass(eq=False)
class _Queue:
    """The jobs of a batch, on their way from waiting over running to what they returned."""

    waiting: list[Job]
    slots: Slots
    stagger: float
    """Seconds between two starts."""
    running: list[_Running] = field(default_factory=list)
    returns: dict[int, JobReturn] = field(default_factory=dict)
    next_start: float = 0.0
    """Not before, on the monotonic clock."""
    overtaken: int = 0
    """How many jobs have overtaken the first that waits."""

    def choose(self) -> tuple[Job, Slot] | None:
        """Take the job that is to start now out of those that wait, and a slot for it."""
        chosen = next_to_start([job.launch.demand for job in self.waiting], self.slots, self.overtaken)
        if chosen is None:
            return None
        index, slot = chosen
        self.overtaken = self.overtaken + 1 if index else 0
        return self.waiting.pop(index), slot


class Sweep:
    """Runs the jobs that Hydra's sweeper hands to the launcher.

    Args:
        context: Hydra's.
        task_function: the user's.
        config: of the sweep.
    """

    def __init__(self, context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = context
        self._task_function = task_function
        self._config = config
        self._machine: Machine = this_machine()
        self._shared = {"task": task_function, "context": context, "state": Singleton.get_state()}

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
        configure_hydra_log(self._config.hydra.hydra_logging, self._config, self._context)
        jobs = [self._compose(first + i, list(overrides)) for i, overrides in enumerate(job_overrides)]
        if not jobs:
            return []
        Path(str(self._config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        with _stopped_by_signals(), self._multirun_end_on_interrupt():
            return self._run(jobs)

    # --- composing -----------------------------------------------------------------------------------------------

    def _compose(self, num: int, overrides: list[str]) -> Job:
        config = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(num)
            config.hydra.job.num = num
        with _hydra_config(config):
            output_dir = Path(os.path.abspath(os.path.join(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))))
            with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
                config.hydra.runtime.output_dir = str(output_dir)
        with _hydra_config(config):
            launch = self._resolve(num, config)
        return Job(num, overrides, config, launch, output_dir, self._run_id(num, overrides, launch, config))

    def _resolve(self, num: int, config: DictConfig) -> Launch:
        try:
            settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
            environ = {**os.environ, **{str(k): str(v) for k, v in config.hydra.job.env_set.items()}}
            return resolve(settings, self._machine, environ)
        except OmegaConfBaseException as error:
            raise ConfigError(f"job #{num}: {error}") from error

    @staticmethod
    def _run_id(num: int, overrides: list[str], launch: Launch, config: DictConfig) -> str:
        """Name a job's rendezvous: unlike any other's on one node, the same for all launchers on several."""
        if not launch.several_nodes:
            return f"{uuid.uuid4().hex}-{num}"
        name = launch.rendezvous_id
        if name is None:
            what = [str(config.hydra.job.name), str(config.hydra.job.config_name), *overrides]
            name = hashlib.sha256("\0".join(what).encode()).hexdigest()[:16]
        return f"{name}-{num}"

    # --- running -------------------------------------------------------------------------------------------------

    def _run(self, jobs: list[Job]) -> list[JobReturn]:
        for job in jobs:
            _meet(job)
        queue = _Queue(list(jobs), self._slots(), float(self._config.hydra.launcher.stagger))
        grace = max(job.launch.shutdown_timeout for job in jobs) + _GRACE_MARGIN
        while queue.waiting:
            # Once; a second time only if the server was killed, which ends the jobs that ran and none of the others.
            with Server.open(jobs[0].launch.start_method, self._shared, grace) as server:
                log.info("Launching %s jobs, %s; workers: %s", len(queue.waiting), _size(jobs), server.reason)
                try:
                    self._work_off(queue, server)
                except Exception:
                    _stop(server, queue.running, signal.SIGTERM, grace)
                    raise
                except BaseException as interrupt:
                    number = signal.SIGINT if isinstance(interrupt, KeyboardInterrupt) else signal.SIGTERM
                    _stop(server, queue.running, number, grace)
                    raise
        return [queue.returns[job.num] for job in jobs]

    def _work_off(self, queue: _Queue, server: Server) -> None:
        """Start each job as soon as there is room for it, until all have ended or the server is lost."""
        while queue.waiting or queue.running:
            pause = queue.next_start - time.monotonic()
            chosen = queue.choose() if pause <= 0 and not server.lost else None
            if chosen is not None:
                job, slot = chosen
                with contextlib.suppress(ServerLost):  # seen below, as the end of what ran
                    queue.running.append(self._start(server, job, slot))
                queue.next_start = time.monotonic() + queue.stagger
                continue
            if server.lost and not queue.running:
                return
            with contextlib.suppress(ServerLost):
                timeout = pause if queue.waiting and pause > 0 else None
                server.wait(lambda: any(one.process.exitcode is not None for one in queue.running), timeout)
            for one in [one for one in queue.running if one.process.exitcode is not None]:
                queue.running.remove(one)
                queue.slots.give_back(one.slot)
                queue.returns[one.job.num] = _job_return(one.job, one.process)
                server.forget([one.process])
                self._report(one.job, queue.returns[one.job.num], time.monotonic() - one.started)

    def _slots(self) -> Slots:
        settings = self._config.hydra.launcher
        parallel = None if settings.parallel == "auto" else int(settings.parallel)
        host = read_machine(NumaConfig(), os.environ)
        return Slots(
            host.topology,
            host.allowance,
            host.devices,
            self._machine.gpus,
            self._machine.memory,
            int(settings.resources.jobs_per_gpu),
            parallel,
        )

    def _start(self, server: Server, job: Job, slot: Slot) -> _Running:
        log.info("\t#%s : %s", job.num, " ".join(filter_overrides(job.overrides)))
        environment = dict(os.environ)
        if slot.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = cuda_visible_devices(slot, os.environ)
        spec = ProcessSpec(
            argv=None,
            environment=environment,
            cwd=os.getcwd(),
            umask=_umask(),
            cpus=None if slot.allowance is None else frozenset(slot.allowance.cpus),
            agent=True,
        )
        shared = self._shared
        payload = (agent.run, (job, shared["task"], shared["context"], shared["state"], list(sys.argv)))
        return _Running(job, server.start(spec, payload), slot, time.monotonic())

    @staticmethod
    def _report(job: Job, job_return: JobReturn, seconds: float) -> None:
        if job_return.status is JobStatus.COMPLETED:
            log.debug("#%s finished after %.1f s", job.num, seconds)
            return
        error = job_return._return_value
        notes = "".join(f" [{note}]" for note in getattr(error, "__notes__", ()))
        log.error("#%s FAILED after %.1f s: %s%s", job.num, seconds, agent.describe_failure(job, error), notes)

    @contextlib.contextmanager
    def _multirun_end_on_interrupt(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            raise
        except BaseException:
            if tuple(map(int, hydra.__version__.split(".")[:2])) < (1, 4):
                # Hydra 1.3 leaves this call out when it is interrupted; 1.4 does it itself.
                callbacks = self._context.callbacks
                callbacks.on_multirun_end(config=self._config, config_name=self._config.hydra.job.config_name)
            raise


def _stop(server: Server, running: list[_Running], number: int, grace: float) -> None:
    """End all that runs: in order, or at once if interrupted again."""
    if not running:
        return
    processes = [one.process for one in running]
    log.warning("stopping %s; a second Ctrl-C kills at once", ", ".join(f"#{one.job.num}" for one in running))
    try:
        server.stop(processes, number, grace)
    except BaseException:
        server.stop(processes, signal.SIGKILL, 0.0)
        raise


def _meet(job: Job) -> None:
    """Host the store where the nodes of this sweep meet, if it is this node that shall; agents only connect to it."""
    launch = job.launch
    if not launch.several_nodes or launch.backend not in ("c10d", "static"):
        return
    host, port = parse_rendezvous_endpoint(launch.endpoint, default_port=0)
    wanted = launch.rdzv_configs.get("is_host")
    if launch.backend == "static":
        wanted = launch.rdzv_configs["rank"] == 0
    try:
        host_store(host, port, wanted)
    except OSError as error:
        raise ConfigError(
            f"hydra.launcher.rendezvous.endpoint={launch.endpoint}: this node cannot host the store there: {error}"
        ) from error
    launch.rdzv_configs["is_host"] = False


def _job_return(job: Job, process: Process) -> JobReturn:
    """Take what the agent has handed over, or say what became of the agent."""
    try:
        result = process.outcome()
    except Exception as error:
        return _failed(job, JobError(f"the result of job #{job.num} cannot be read: {type(error).__name__}: {error}"))
    if result is not None and result.error is not None:
        return _failed(job, agent.unpack(result.error))
    if process.exitcode == 0 and result is not None:
        restored: JobReturn = result.value.restored()
        if isinstance(restored._return_value, JobInterruptedError):
            log.warning("#%s was stopped by a signal that this launcher did not send", job.num)
        return restored
    how = process.refused or (
        f"killed by {signal.Signals(-process.exitcode).name}"
        if process.exitcode is not None and process.exitcode < 0
        else f"ended with exit code {process.exitcode}"
    )
    where = f"pid {process.pid}; the workers' logs: {job.output_dir / (job.launch.log_dir or 'logs')}"
    return _failed(job, JobError(f"the agent of job #{job.num} was lost: {how} ({where})"))


def _failed(job: Job, error: BaseException) -> JobReturn:
    config = job.config.copy()
    with read_write(config), open_dict(config):
        hydra_config = OmegaConf.masked_copy(config, ["hydra"])
        del config["hydra"]
    return JobReturn(
        overrides=list(OmegaConf.to_container(job.config.hydra.overrides.task)),
        cfg=config,
        hydra_cfg=hydra_config,
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.FAILED,
        _return_value=error,
    )


def _size(jobs: list[Job]) -> str:
    sizes = sorted({job.launch.nproc_per_node for job in jobs})
    workers = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"each with {workers} worker{'s' if sizes[-1] > 1 else ''} per node"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _hydra_config(config: DictConfig) -> Iterator[None]:
    """Make `${hydra:…}` refer to a job's configuration for a while."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the sweep in order, with the exit code that a shell gives such an end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
