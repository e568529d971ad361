"""Hosts that are Slurm jobs of their own: srun asks for each, waits in the queue, and carries the stream.

::

    launcher (login shell) ── srun ══ slurmstepd on some node ── host process      job 71, runs
                           └─ srun                                                 job 72, waits in the queue

They come when the queue gives them, and one that is preempted takes no other with it. Slurm tells a host before it ends
it: by SIGUSR1 before the time limit, by SIGTERM when the job is preempted or cancelled. A job that is no longer wanted
is cancelled by the end of its srun; or by its name, if srun was killed and could not tell Slurm.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.advised import advice_for, python_advice
from elastic_hydra.hosts.slurm_commands import answer_of, require_programs
from elastic_hydra.hosts.srun import SrunTransport, srun_environment
from elastic_hydra.hosts.transport import host_command

__all__ = ["SlurmEngine", "SlurmTransport", "engine", "options_of"]

_KEY = "hydra.launcher.hosts"
_OPTIONS = ("-N1", "-n1", "--export=ALL", "--mpi=none")
_WORDS = (
    "partition",
    "gpus_per_node",
    "cpus_per_task",
    "gres",
    "mem_per_cpu",
    "mem_per_gpu",
    "cpus_per_gpu",
    "constraint",
    "exclude",
    "qos",
    "account",
    "comment",
)
"""Keys that are options of srun, with `-` for `_`."""
_ADVICE = {
    r"[Ii]nvalid partition": "{key}.partition={partition}: there is no such partition; `sinfo` lists them",
    r"[Ii]nvalid account": (
        "{key}.account={account}: you cannot charge it there; `sacctmgr show associations user=$USER` lists yours"
    ),
    r"[Ii]nvalid qos": (
        "{key}.qos={qos}: there is none of that name for you; `sacctmgr show associations user=$USER` lists yours"
    ),
    r"[Ii]nvalid feature": "{key}.constraint={constraint}: no node has that feature; `sinfo -o '%N %f'` lists them",
    r"[Ii]nvalid generic resource": "{key}.gres={gres}: no node has that; `sinfo -o '%N %G'` lists what they have",
    r"node configuration is not available|Memory specification can not": (
        "No node that can be used now is as large as {key}.cpus_per_task, mem_gb and gpus_per_node ask: "
        "`sinfo -N -o '%N %c %m %G %T'` lists the nodes"
    ),
    r"[Ii]nvalid node name": "{key}.exclude or nodelist names a node that does not exist; `sinfo -N` lists them",
    r"time limit|TimeLimit": "{key}.timeout_min={timeout_min}: more than that partition allows (`sinfo -o '%P %l'`)",
    r"violates accounting/QOS policy|[Ll]imit": (
        "That is a limit of your account's, or of the partition's: ask for less per host ({key}.cpus_per_task, mem_gb, "
        "gpus_per_node, timeout_min), or for fewer hosts ({key}.max)"
    ),
    r"unrecognized option|invalid option": "Correct {key}.additional_parameters: srun has no such option",
    r"partition not available": "The partition takes no jobs now: choose another {key}.partition, or come back later",
    r"configuration source": (
        "This machine knows of no Slurm cluster: start the sweep where `sinfo` works, or choose another "
        "hydra/launcher/hosts"
    ),
    r"Unable to contact|Socket timed out": "Slurm's controller does not answer: ask `scontrol ping`, and try again",
}


def engine(keys: HostsConfig) -> SlurmEngine:
    """Return hosts that Slurm will be asked for; that it could give one is made sure of now.

    Raises:
        ConfigError: it could not.
    """
    require_programs("slurm", "srun", "scancel")
    made = SlurmEngine(keys)
    made.check()
    return made


@dataclass(frozen=True)
class SlurmEngine:
    """Hosts that Slurm is asked for as there is work, and let go when there is none."""

    keys: HostsConfig
    is_elastic = True

    def places(self) -> Sequence[str]:
        """Return names for as many hosts as there may be."""
        return [f"job {number}" for number in range(1, (self.keys.max or 1) + 1)]

    def transport(self, place: str) -> SlurmTransport:
        """Return a new job, not submitted yet."""
        return SlurmTransport(self.keys, place, advice(self.keys))

    def check(self) -> None:
        """Ask Slurm whether such a job could ever run.

        Raises:
            ConfigError: it could not; with what to do.
        """
        argv = ["srun", "--test-only", *options_of(self.keys), "true"]
        try:
            answer = answer_of(argv, srun_environment(os.environ))
        except TimeoutError as error:
            raise ConfigError(f"{_KEY}.engine=slurm: {error}") from error
        if answer.code != 0:
            said = answer.said.replace("\n", "; ")
            what = advice_for([answer.said], advice(self.keys)) or f"`{shlex.join(argv)}` must work"
            raise ConfigError(f"{_KEY}.engine=slurm: Slurm refuses such a host ({said}). {what}")


class SlurmTransport(SrunTransport):
    """srun with a job of its own.

    Args:
        keys: what to ask for.
        place: for people.
        sentences: what to do about srun's messages.
    """

    def __init__(self, keys: HostsConfig, place: str, sentences: Mapping[str, str]) -> None:
        self._job = f"{keys.name}.{secrets.token_hex(4)}"
        """The job's name, which no other job has: by it, the job is found when nobody knows its number."""
        argv = ["srun", *options_of(keys), f"--job-name={self._job}", *_with_setup(keys.setup, keys.python)]
        advice = python_advice(keys.python or sys.executable, place) | dict(sentences)
        super().__init__(argv, srun_environment(os.environ), place, advice)

    def kill(self) -> None:
        """End srun, and so the job."""
        super().kill()
        ended = self.ended()
        if ended is not None and ended.code < 0:  # it was killed, and could not tell Slurm
            subprocess.run(
                ["scancel", "--quiet", f"--name={self._job}"],
                env=srun_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )


def options_of(keys: HostsConfig) -> list[str]:
    """Return the options of srun for one host."""
    options = [f"--{name.replace('_', '-')}={value}" for name in _WORDS if (value := getattr(keys, name)) is not None]
    if keys.timeout_min is not None:
        options.append(f"--time={keys.timeout_min}")
    if keys.mem_gb is not None:
        options.append(f"--mem={round(keys.mem_gb * 1024)}M")
    if keys.signal_delay_s:
        options.append(f"--signal=USR1@{keys.signal_delay_s}")
    for name, value in keys.additional_parameters.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        elif value is not None and value is not False:
            options.append(f"{option}={value}")
    return [*_OPTIONS, *options]


def advice(keys: HostsConfig) -> dict[str, str]:
    """Return what to do about srun's messages."""
    named = ("partition", "account", "qos", "constraint", "gres", "timeout_min")
    shown = {name: "null" if getattr(keys, name) is None else getattr(keys, name) for name in named}
    return {pattern: text.format(key=_KEY, **shown) for pattern, text in _ADVICE.items()}


def _with_setup(setup: Sequence[str] | None, python: str | None) -> list[str]:
    """Return the command that runs the host process, after some lines of bash.

    These may print, which is for people, and must not read the stream.
    """
    command = host_command(python or "")
    if not setup:
        return command
    lines = "\n".join(setup)
    return ["bash", "-c", f"{{\n{lines}\n}} </dev/null >&2\nexec {shlex.join(command)}"]
