"""What is launched elsewhere, as far as a text must say it: the command, where it writes, and what its jobs take."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.nodes import Nodes, nodes_of
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.config.sizes import number_of_bytes
from elastic_hydra.config.values import count, value_at
from elastic_hydra.render.asked import configurations
from elastic_hydra.render.command import Command
from elastic_hydra.sweeps.rerun import key_of, resuming_command
from elastic_hydra.sweeps.start import RUN_DIR, SWEEP_DIR

__all__ = ["Plan", "plan_of"]


@dataclass(frozen=True)
class Plan:
    """What is launched. Of numbers, None means that they depend on the machine, or differ from job to job."""

    command: Command
    single: bool
    """Whether it is one run, and no sweep."""
    folder: str
    """Where it writes: its journal, its jobs' directories. The text names it, so that a second start goes on there."""
    cwd: str
    """Where it is started on this machine."""
    nodes: Nodes
    has_endpoint: bool
    """Whether the settings say where nodes meet."""
    workers: int | None
    """On each node."""
    gpus: int | None
    """Of each node."""
    cpus: int | None
    """Of each node."""
    memory: int | None
    """Of each node, in bytes."""
    shutdown_timeout: int
    checkpoint_timeout: int
    requeue: str = "never"

    @property
    def has_requeue(self) -> bool:
        """Whether the command line itself says whether the launcher's job goes back into the queue."""
        return any(key_of(word) == self.command.key("requeue") for word in self.command.given)

    @property
    def seconds_to_end(self) -> int:
        """Seconds from SIGTERM until the launcher has ended, at most."""
        return int(timeouts.end_of_server(timeouts.end_of_agent(self.shutdown_timeout)))

    def words(self, further: Sequence[str] = (), *, here: bool = True, folder: str | None = None) -> list[str]:
        """Return the command that starts it, or goes on with it where it was started before.

        Args:
            further: overrides that take the place of those of the same keys.
            here: whether it runs with the files of this machine.
            folder: where it writes; None: as said in `folder`.
        """
        where = Path(self.folder if folder is None else folder)
        program = self.command.program(here=here)
        return resuming_command(program, self.command.arguments, where, further, single=self.single)


def plan_of(command: Command) -> Plan:
    """Ask an app what it would launch.

    Args:
        command: of the launch.

    Raises:
        ConfigError: the app cannot say it, or it cannot be said as one text.
    """
    first, *others = [_read(command, said) for said in configurations(command)]
    for other in others:
        if other.nodes != first.nodes:
            raise ConfigError(
                f"{command.key('nodes')}: is {_range(first.nodes)} for the first job and {_range(other.nodes)} for the "
                "last, and a text is for one number of nodes: write one for each, with only its jobs swept"
            )
        first = replace(
            first,
            workers=_common(first.workers, other.workers),
            gpus=_common(first.gpus, other.gpus),
            cpus=_common(first.cpus, other.cpus),
            memory=_common(first.memory, other.memory),
        )
    return first


def _common(one: int | None, other: int | None) -> int | None:
    """Return what two jobs take; None: it differs, so somebody has to say how much is enough for all."""
    return one if one == other else None


def _read(command: Command, said: Mapping[str, Any]) -> Plan:
    settings: Mapping[str, Any] = said["launcher"]
    if not command.is_run and settings.get("_target_") != ElasticConfig._target_:
        raise ConfigError(f"{command.name}: its launcher is not the elastic one: add hydra/launcher=elastic")
    single = not command.is_multirun and said.get("mode") != "MULTIRUN"
    problems = Problems()
    nodes = nodes_of(settings["nodes"], problems)
    problems.raise_any()
    engine = value_at(settings, "hosts.engine") if "hosts" in settings else "local"
    if engine != "local":
        raise ConfigError(
            f"{command.key('hosts.engine')}={engine}: such a launcher finds its hosts itself: start it without a text"
        )
    workers, parallel = count(settings["nproc_per_node"], 1), count(settings["parallel"], 1)
    gpus, cpus = (count(value_at(settings, f"resources.{kind}_per_worker"), 0) for kind in ("gpus", "cpus"))
    memory = number_of_bytes(value_at(settings, "resources.memory_per_job"))
    shared = value_at(settings, "resources.jobs_per_gpu") != 1
    return Plan(
        command,
        single,
        _folder(command, said, single),
        os.getcwd(),
        nodes,
        bool(value_at(settings, "rendezvous.endpoint")),
        workers,
        None if shared else _product(workers, parallel, gpus),
        _product(workers, parallel, cpus),
        _product(parallel, memory),
        int(settings["shutdown_timeout"]),
        int(settings["checkpoint_timeout"]),
        str(settings["requeue"]),
    )


def _product(*factors: int | None) -> int | None:
    product = 1
    for factor in factors:
        if factor is None:
            return None
        product *= factor
    return product


def _folder(command: Command, said: Mapping[str, Any], single: bool) -> str:
    """Return the directory that the launch would have if it was started now."""
    if not command.is_run:
        return str(said["run" if single else "sweep"]["dir"])
    key = RUN_DIR if single else SWEEP_DIR
    for word in command.given:
        with contextlib.suppress(HydraException):
            if word.startswith(f"{key}="):
                return str(OverridesParser.create().parse_override(word).value())
    return time.strftime(os.path.join("outputs" if single else "multirun", "%Y-%m-%d", "%H-%M-%S"))  # as Hydra has it


def _range(nodes: Nodes) -> str:
    return str(nodes.least) if nodes.least == nodes.most else f"{nodes.least}:{nodes.most}"
