"""How the workers of one agent are started: each as a fork of the warm server, or in a new interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.distributed.elastic.utils.logging import get_logger

from elastic_hydra.elastic.debugging import call_debugged
from elastic_hydra.elastic.entrypoint import run_entrypoint
from elastic_hydra.elastic.launch_config import LaunchConfig
from elastic_hydra.elastic.placement import Placer
from elastic_hydra.elastic.script import run_script, script_arguments
from elastic_hydra.numa.allowance import affinity
from elastic_hydra.supervisor import entry
from elastic_hydra.supervisor.client import Client, Process
from elastic_hydra.supervisor.entry import Payload
from elastic_hydra.supervisor.forked import ProcessSpec, current_umask
from elastic_hydra.supervisor.passing import Pickled

if TYPE_CHECKING:
    from elastic_hydra.elastic.worker_group import WorkerGroup

__all__ = ["Starter"]

logger = get_logger("elastic_hydra.agent")

_FIXED_AT_START = (
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "MALLOC_CONF",
    "MALLOC_ARENA_MAX",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "GOMP_CPU_AFFINITY",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_SCHEDULE",
    "PYTHONHASHSEED",
    "PYTHONOPTIMIZE",
)
"""Variables that the loader, OpenMP and Python read once, when they start: a fork keeps what its parent had."""


@dataclass
class Starter:
    """How the workers of one agent are started; it stands where torch has the name of a start method."""

    server: Client
    config: LaunchConfig
    placer: Placer
    """Where the workers run."""
    stdin: bool = False
    """Whether rank 0 has the launcher's standard input."""
    workers: WorkerGroup | None = None
    """The last group, from before its first process is there: a signal may come while it is started."""

    def start_all(self, group: WorkerGroup, processes: dict[int, Process]) -> None:
        """Start the workers of a group.

        Args:
            group: they are described by it.
            processes: takes each as soon as it is started, by local rank: the next one's start may fail.
        """
        cwd, umask = os.getcwd(), current_umask()
        cpus = affinity()  # the workers are the server's children, but shall run where this agent may
        inherited = {**os.environ, **self.config.worker_env}
        program = isinstance(group.entrypoint, str) or self.config.start_method == "spawn"
        placement = self.placer.place(group.nprocs, inherited, program)
        pickled: tuple[tuple[Any, ...], Pickled] | None = None
        for local_rank in range(group.nprocs):
            environment = {**inherited, **group.envs[local_rank], **self.config.worker_env}
            environment |= {**placement.environment(local_rank), **group.environment(local_rank)}
            args = tuple(group.args[local_rank])
            argv, payload = self._command(group.entrypoint, args, environment)
            if self.config.watch.is_on() and payload is None:
                environment.setdefault("PYTHONFAULTHANDLER", "1")  # it cannot be asked for its stacks in another way
            spec = ProcessSpec(
                argv=argv,
                environment=environment,
                cwd=cwd,
                umask=umask,
                cpus=cpus,
                binding=placement.binding(local_rank),
                speaks=local_rank == 0,
                stdin=self.stdin and environment.get("RANK") == str(self.config.debug.rank if self.config.debug else 0),
                stdout=group.stdouts[local_rank],
                stderr=group.stderrs[local_rank],
            )
            key = (argv is None, *args)
            if payload is not None and (pickled is None or not _same(pickled[0], key)):
                pickled = key, self.server.pickled(payload, fresh=argv is not None)
            data = pickled[1] if payload is not None and pickled is not None else None
            processes[local_rank] = self.server.start(spec, data)

    def _command(
        self, entrypoint: Callable[..., Any] | str, args: tuple[Any, ...], environment: Mapping[str, str]
    ) -> tuple[list[str] | None, Payload | None]:
        """Return the program that a worker executes, or the function that it runs in a fork of the server, or both."""
        fresh = self._needs_interpreter(environment)
        if not isinstance(entrypoint, str):
            return entry.command() if fresh else None, self._debugged((run_entrypoint, (entrypoint, args)))
        words = None if fresh else script_arguments(entrypoint, args)
        if words is None:
            return [entrypoint, *map(str, args)], None
        return None, self._debugged((run_script, (words,)))

    def _debugged(self, payload: Payload) -> Payload:
        return payload if self.config.debug is None else (call_debugged, (self.config.debug, *payload))

    def _needs_interpreter(self, environment: Mapping[str, str]) -> bool:
        """Whether a worker needs an interpreter of its own: asked for, or because of what its environment says."""
        if self.config.start_method == "spawn":
            return True
        servers = self.server.environment
        names = [name for name in _FIXED_AT_START if environment.get(name) != servers.get(name)]
        if names:
            logger.info("workers are spawned: %s takes effect in a new interpreter only", ", ".join(names))
        return bool(names)


def _same(args: tuple[Any, ...], others_args: tuple[Any, ...]) -> bool:
    """Whether two workers get the same arguments; torch makes a copy of every string for each."""
    return len(args) == len(others_args) and all(
        arg is others_arg or (type(arg) is type(others_arg) is str and arg == others_arg)
        for arg, others_arg in zip(args, others_args, strict=True)
    )
