"""What lives as long as a sweep, over all batches of jobs that its sweeper hands over."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from elastic_hydra.control.listener import ControlSocket
from elastic_hydra.control.mailbox import Mailbox
from elastic_hydra.jobs.task import HydraState
from elastic_hydra.resources.host import Host
from elastic_hydra.supervisor.foreground import Foreground
from elastic_hydra.sweeps.composer import Composer
from elastic_hydra.sweeps.failure_limit import FailureLimit
from elastic_hydra.sweeps.host_pool import HostPool
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.kept_server import KeptServer
from elastic_hydra.sweeps.obstacle import Obstacle
from elastic_hydra.sweeps.results import Results
from elastic_hydra.sweeps.resume import History
from elastic_hydra.sweeps.scheduler import Scheduler

__all__ = ["Shared", "SweepState"]

log = logging.getLogger("elastic_hydra")


@dataclass(frozen=True)
class Shared:
    """What all agents get: a server that is a fork of the launcher has these objects, and they are not pickled."""

    task: TaskFunction
    context: HydraContext
    hydra_state: HydraState


@dataclass
class SweepState:
    """What the batches of a sweep have in common."""

    dir: Path
    """The sweep's."""
    settings: DictConfig
    """The sweep's `hydra.launcher`."""
    hosts: Mapping[str, Host]
    """By their names."""
    shared: Shared
    server: KeptServer
    """On the launcher's own host."""
    pool: HostPool | None
    """The other hosts; None: jobs run on the launcher's own."""
    history: History
    composer: Composer
    results: Results
    failures: FailureLimit
    obstacle: Obstacle = field(default_factory=Obstacle)
    control: ControlSocket | None = None
    """Where commands on this host ask for something; None: nobody can."""
    mailbox: Mailbox | None = None
    """Where commands on other hosts ask for something; None: nobody can."""
    foreground: Foreground | None = None
    """Who has the terminal, as somebody debugs the jobs; None: nobody does."""
    single: bool = False
    """Whether it is a run without `-m`."""
    said_way: str = ""
    """How jobs are launched, as it was said last."""

    def open_control(self) -> str:
        """Hear commands of this user on this host from now on.

        Returns:
            the name of the socket; empty when there can be none, as where the system is not Linux.
        """
        try:
            self.control = ControlSocket()
        except (OSError, AttributeError) as error:  # a sandbox forbids it; no epoll
            log.warning(
                "elastic-hydra stop and stacks cannot reach this launcher: it has no control socket (%s)", error
            )
            return ""
        return self.control.name

    def open_mailbox(self) -> None:
        """Hear commands of this user on other hosts from now on."""
        try:
            self.mailbox = Mailbox(self.dir)
        except OSError as error:
            log.warning("elastic-hydra stop cannot reach this launcher from other hosts (%s)", error)

    def scheduler(self, planned: Iterable[tuple[int, list[str]]]) -> Scheduler:
        """Make the scheduler of a batch, for which all slots are free.

        Args:
            planned: numbers and overrides of the jobs, in their order.
        """
        if self.pool is not None:
            hosts = self.pool.slots()
        else:
            hosts = HostSlots()
            for name, host in self.hosts.items():
                hosts.add(name, host.allocator.slots(), ends=host.ends)
        return Scheduler(planned, hosts, stagger=float(self.settings.stagger), failures=self.failures)
