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
from dataclasses import dataclass, field

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.advised import advice_for, python_advice
from elastic_hydra.hosts.slurm_commands import answer_of, require_programs
from elastic_hydra.hosts.slurm_options import additional_options, advice, named_options
from elastic_hydra.hosts.slurm_queue import SlurmQueue
from elastic_hydra.hosts.srun import SrunTransport, srun_environment
from elastic_hydra.hosts.transport import host_command

__all__ = ["SlurmEngine", "SlurmTransport", "advice", "engine", "options_of"]

_KEY = "hydra.launcher.hosts"
_OPTIONS = ("-N1", "-n1", "--export=ALL", "--mpi=none")


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
    queue: SlurmQueue = field(default_factory=SlurmQueue)
    """Says why hosts wait."""
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
        self.job_name = f"{keys.name}.{secrets.token_hex(4)}"
        """The job's name, which no other job has: by it, the job is found when nobody knows its number."""
        argv = ["srun", *options_of(keys), f"--job-name={self.job_name}", *_with_setup(keys.setup, keys.python)]
        advice = python_advice(keys.python or sys.executable, place) | dict(sentences)
        super().__init__(argv, srun_environment(os.environ), place, advice)

    def kill(self) -> None:
        """End srun, and so the job."""
        super().kill()
        ended = self.ended()
        if ended is not None and ended.code < 0:  # it was killed, and could not tell Slurm
            subprocess.Popen(  # nobody waits for a controller that does not answer
                ["scancel", "--quiet", f"--name={self.job_name}"],
                env=srun_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )


def options_of(keys: HostsConfig) -> list[str]:
    """Return the options of srun for one host."""
    signal = [f"--signal=USR1@{keys.signal_delay_s}"] if keys.signal_delay_s else []
    return [*_OPTIONS, *named_options(keys), *signal, *additional_options(keys)]


def _with_setup(setup: Sequence[str] | None, python: str | None) -> list[str]:
    """Return the command that runs the host process, after some lines of bash.

    These may print, which is for people, and must not read the stream.
    """
    command = host_command(python or "")
    if not setup:
        return command
    lines = "\n".join(setup)
    return ["bash", "-c", f"{{\n{lines}\n}} </dev/null >&2\nexec {shlex.join(command)}"]
