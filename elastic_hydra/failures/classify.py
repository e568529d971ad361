"""From all the evidence to one `Failure`: which rank failed first, and what kind of failure it is."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elastic_hydra import timeouts
from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.config.words import Kind
from elastic_hydra.failures.cause import (
    in_words,
    is_connection,
    is_out_of_memory,
    one_line,
    root,
)
from elastic_hydra.failures.echo import is_echo, lost_other_rank
from elastic_hydra.failures.evidence import Death, Evidence, ExceptionFacts, MemoryFacts, Overrun

__all__ = ["Failure", "classify", "signal_name"]

CANNOT_START = 127
"""Exit code of a process that could not be set up, as with a shell."""

_RESULT_ERROR = "elastic_hydra.supervisor.outcome.ResultError"
_RENDEZVOUS = ("RendezvousError", "torch.distributed.elastic.rendezvous.api.RendezvousError")


@dataclass(frozen=True)
class Failure:
    """Why a worker group ended, told by the rank that failed first."""

    kind: Kind
    reason: str
    """What has happened, in one line, for people."""
    host: str
    """Name of the host whose agent has found the cause."""
    time: float
    """When it happened, in seconds since the epoch."""
    rank: int | None = None
    """The rank that failed first; None when no worker was the cause."""
    pid: int = 0
    """Process id of that rank's worker."""
    uptime: float = 0.0
    """Seconds that this worker had run."""
    exitcode: int | None = None
    """Its exit code; minus the signal's number when a signal killed it; None: unknown."""
    signal: str = ""
    """Name of the signal that killed it; empty when none did."""
    names: tuple[str, ...] = ()
    """Names of the exception's class and of its bases, nearest first."""
    message: str = ""
    traceback: str = ""
    log_dir: str = ""
    """Folder with the logs of that rank."""
    echoes: tuple[int, ...] = ()
    """Ranks of the same node that failed only because this rank did."""
    stacks: tuple[str, ...] = ()
    """Files with the workers' stacks."""
    not_restarted: str = ""
    """Why no restart followed, where one might have."""
    connection: bool = False
    """Whether the failure is a lost connection, whatever the exception's class."""

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as plain values that JSON takes."""
        return dataclasses.asdict(self) | {"kind": self.kind.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Failure:
        """Return the failure that `as_dict` has made values of; unknown keys, of a later version, are left out."""
        known = {f.name for f in dataclasses.fields(cls)}
        kept: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known
        }
        return cls(**kept | {"kind": Kind(values["kind"])})

    @property
    def type_name(self) -> str:
        """The exception's class; empty when there is none."""
        return self.names[0] if self.names else ""


def classify(evidence: Evidence) -> Failure:
    """Find the root cause in the evidence.

    Args:
        evidence: all that the agent knows.

    Returns:
        the failure of the rank that failed first. Ranks that died because of it are its `echoes`.
    """
    if evidence.signal_to_agent:
        reason = f"host {evidence.host} was told to stop by {evidence.signal_to_agent}"
        return Failure(Kind.preempted, reason, evidence.host, evidence.time, signal=evidence.signal_to_agent)
    if evidence.rendezvous is not None:
        return _of_rendezvous(evidence, evidence.rendezvous)
    if evidence.overrun is not None:
        return _of_overrun(evidence, evidence.overrun)
    if evidence.deaths:
        return _of_deaths(evidence)
    return Failure(
        Kind.hang,
        "a worker process is stuck in the kernel and cannot be ended"
        if evidence.stuck
        else "the workers ended, nobody saw how",
        evidence.host,
        evidence.time,
        stacks=evidence.stacks,
    )


def _of_rendezvous(evidence: Evidence, error: ExceptionFacts) -> Failure:
    return Failure(
        Kind.rendezvous,
        f"the nodes did not find together: {in_words(error)}",
        evidence.host,
        evidence.time,
        names=error.names,
        message=error.message,
        traceback=error.traceback,
        connection=True,
    )


def _of_overrun(evidence: Evidence, overrun: Overrun) -> Failure:
    return Failure(
        overrun.kind,
        overrun.reason + (f" (host {evidence.host})" if evidence.nodes > 1 else ""),
        evidence.host,
        overrun.time,
        rank=overrun.rank,
        uptime=overrun.uptime,
        stacks=evidence.stacks,
    )


def _of_deaths(evidence: Evidence) -> Failure:
    first = _first(evidence.deaths)
    echoes = tuple(d.rank for d in evidence.deaths if d is not first and is_echo(d))
    kind, words = _kind_and_words(first, evidence)
    where = f"rank {first.rank}" + (f" on host {evidence.host}" if evidence.nodes > 1 else "")
    reason = f"{where} {words}"
    if echoes:
        ranks = f"rank{'s' if len(echoes) > 1 else ''} {', '.join(map(str, echoes))}"
        reason += f"; {ranks} died because of it"
    error = root(first.exception) if first.exception is not None else None
    return Failure(
        kind,
        reason,
        evidence.host,
        first.time,
        rank=first.rank,
        pid=first.pid,
        uptime=first.uptime,
        exitcode=first.exitcode,
        signal=signal_name(first.exitcode),
        names=error.names if error else (),
        message=error.message if error else first.what,
        traceback=first.exception.traceback if first.exception else "",
        log_dir=first.log_dir,
        echoes=echoes,
        stacks=evidence.stacks,
        connection=error is not None and is_connection(error),
    )


def _first(deaths: Sequence[Death]) -> Death:
    """Return the death that has caused the others.

    The earliest report need not be the cause: a peer may report its closed connection before the agent sees the death
    that has closed it.
    """
    earliest = min(deaths, key=lambda death: death.time)
    causes = [death for death in deaths if not is_echo(death)]
    if not causes:
        return earliest
    cause = min(causes, key=lambda death: death.time)
    return cause if cause.time <= earliest.time + timeouts.ROOT_CAUSE_LAG else earliest


def _kind_and_words(death: Death, evidence: Evidence) -> tuple[Kind, str]:
    if death.refused:
        return Kind.start_up, f"could not be started: {death.what}"
    error = death.exception
    if error is not None:
        return _kind_of_exception(death, error, evidence)
    code = death.exitcode
    if code is not None and code < 0:
        return _kind_of_signal(death, -code, evidence.memory)
    if code == CANNOT_START:
        return Kind.start_up, f"could not be started: exit code {code}; see its stderr"
    if code == 1 and death.last_line:  # as after sys.exit("why")
        return Kind.exit, f"ended with exit code 1: {death.last_line}"
    return Kind.exit, death.what or f"ended with exit code {code}"


def _kind_of_exception(death: Death, raised: ExceptionFacts, evidence: Evidence) -> tuple[Kind, str]:
    error, words = root(raised), in_words(raised)
    if is_out_of_memory(error):
        return Kind.oom, f"ran out of memory: {words}"
    if any(name in _RENDEZVOUS for name in error.names):
        return Kind.rendezvous, f"raised {words}"
    if evidence.nodes > 1 and is_echo(death) and lost_other_rank(death):
        return Kind.peer, f"lost the connection to a worker on another node: {words}"
    if error.type_name == _RESULT_ERROR:
        return Kind.exception, one_line(error.message, 500).removeprefix(f"rank {death.rank} ")
    return Kind.exception, f"raised {words}"


def _kind_of_signal(death: Death, number: int, memory: MemoryFacts) -> tuple[Kind, str]:
    name = signal_name(-number)
    by_name = death.pid != 0 and death.pid in memory.killed_pids
    if number == signal.SIGKILL and (by_name or memory.kills > 0):
        figures = [f"it used {bytes_in_words(memory.rss[death.pid])}"] if death.pid in memory.rss else []
        if words := memory.in_words():
            figures.append(words)
        # If only kills on the whole host can be counted, the kernel may have killed another process at that time.
        likely = "" if by_name or memory.scope == "cgroup" else ", probably"
        text = f"was killed{likely} by the kernel for lack of memory"
        return Kind.oom, text + (f" ({'; '.join(figures)})" if figures else "")
    hints: dict[int, str] = {
        signal.SIGKILL: "sent by somebody, not by the kernel for lack of memory"
        if memory.known
        else "sent by somebody, or by the kernel for lack of memory: that cannot be seen here",
        signal.SIGSEGV: "invalid memory access in native code",
        signal.SIGBUS: "often a full /dev/shm, or a file on a disk that has gone",
        signal.SIGABRT: "native code gave up; its last words are in its stderr",
        signal.SIGILL: "the program needs a CPU that this host has not",
    }
    return Kind.signal, f"was killed by {name}" + (f" ({hints[number]})" if number in hints else "")


def signal_name(exitcode: int | None) -> str:
    """Return the name of the signal that killed a process; empty when none did.

    Args:
        exitcode: the exit code of the process, minus the signal's number when a signal killed it; None: unknown.
    """
    if exitcode is None or exitcode >= 0:
        return ""
    try:
        return signal.Signals(-exitcode).name
    except ValueError:  # a real-time signal
        return f"SIG{-exitcode}"
