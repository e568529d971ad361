"""What an agent knows about how its workers ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.config.words import Kind

__all__ = ["Death", "Evidence", "ExceptionFacts", "MemoryFacts", "Overrun"]


@dataclass(frozen=True)
class ExceptionFacts:
    """An exception by its names, without the exception."""

    type_name: str
    """Module and qualified name of its class."""
    bases: tuple[str, ...] = ()
    """Those of its base classes, nearest first."""
    message: str = ""
    traceback: str = ""
    cause: ExceptionFacts | None = None
    """What it was raised from."""
    context: ExceptionFacts | None = None
    """What was being handled when it was raised."""
    members: tuple[ExceptionFacts, ...] = ()
    """Of an exception group."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names that the class and its bases go by: qualified and short, nearest first."""
        found: dict[str, None] = {}
        for name in (self.type_name, *self.bases):
            found.setdefault(name)
            found.setdefault(name.rpartition(".")[2])
        return tuple(found)


@dataclass(frozen=True)
class Death:
    """How one worker ended, as its agent saw it."""

    rank: int
    """Its global rank."""
    time: float
    """When, in seconds since the epoch, with fractions."""
    exitcode: int | None = None
    """Its exit code; minus the signal's number when one killed it; None while it is still on its way out."""
    uptime: float = 0.0
    """Seconds since it was started."""
    pid: int = 0
    exception: ExceptionFacts | None = None
    last_line: str = ""
    """What it wrote to standard error last."""
    what: str = ""
    """The supervisor's words, where it knows more than the exit code says."""
    refused: bool = False
    """Whether it could not be started at all."""
    log_dir: str = ""


@dataclass(frozen=True)
class Overrun:
    """A limit of `hydra.launcher.watch` that was exceeded."""

    kind: Kind
    """`hang`, `start_up`, `timeout` or `oom`."""
    reason: str
    rank: int | None
    """The worst offender's; None when the limit is the group's."""
    time: float
    uptime: float = 0.0


@dataclass(frozen=True)
class MemoryFacts:
    """What the kernel says about memory, before and after."""

    known: bool = False
    """Whether anything can be seen of the kernel's memory killer here."""
    kills: int = 0
    """Processes that the kernel's memory killer has killed meanwhile."""
    scope: str = ""
    """Where they were counted: `cgroup` (the workers' own) or `host`."""
    killed_pids: tuple[int, ...] = ()
    """Whom, as far as the kernel's log can be read."""
    limit: int | None = None
    """Bytes that the cgroup may use."""
    peak: int | None = None
    """Bytes that it used at most."""
    rss: Mapping[int, int] = field(default_factory=dict)
    """Bytes of each killed process, by its id, from the kernel's log."""
    host_total: int | None = None
    host_available: int | None = None

    def in_words(self) -> str:
        """Return the figures that are known."""
        words = []
        if self.peak is not None:
            words.append(f"the cgroup's peak was {bytes_in_words(self.peak)}")
        if self.limit is not None:
            words.append(f"its limit is {bytes_in_words(self.limit)}")
        if self.host_total is not None and self.host_available is not None:
            words.append(
                f"the host has {bytes_in_words(self.host_available)} of {bytes_in_words(self.host_total)} free now"
            )
        return ", ".join(words)


@dataclass(frozen=True)
class Evidence:
    """All that an agent knows when its workers have not ended well."""

    host: str
    time: float
    """Now, in seconds since the epoch."""
    deaths: Sequence[Death] = ()
    """Of workers that ended by themselves; not of those that were stopped because of them."""
    overrun: Overrun | None = None
    memory: MemoryFacts = MemoryFacts()
    rendezvous: ExceptionFacts | None = None
    """The error with which the nodes did not find together."""
    signal_to_agent: str = ""
    """The signal by which the agent itself was told to stop."""
    stuck: bool = False
    """Whether a process hangs in the kernel and cannot be ended."""
    nodes: int = 1
    """How many nodes the group had."""
    stacks: tuple[str, ...] = ()
    """Files into which the workers' stacks were written."""
