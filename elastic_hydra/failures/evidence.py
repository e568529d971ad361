"""What an agent knows about the end of its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.config.words import Kind

__all__ = ["Death", "Evidence", "ExceptionFacts", "MemoryFacts", "Overrun"]


@dataclass(frozen=True)
class ExceptionFacts:
    """What is known of an exception: its names and texts, so that its class need not be imported here."""

    type_name: str
    """Module and qualified name of the exception's class."""
    bases: tuple[str, ...] = ()
    """Modules and qualified names of the base classes, nearest first."""
    message: str = ""
    traceback: str = ""
    cause: ExceptionFacts | None = None
    """The exception that this one was raised from, with `from`."""
    context: ExceptionFacts | None = None
    """The exception that was being handled when this one was raised."""
    members: tuple[ExceptionFacts, ...] = ()
    """The members of an exception group; empty for any other exception."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names that the class and its bases go by: qualified and short, nearest first."""
        names: dict[str, None] = {}
        for name in (self.type_name, *self.bases):
            names.setdefault(name)
            names.setdefault(name.rpartition(".")[2])
        return tuple(names)


@dataclass(frozen=True)
class Death:
    """How one worker ended, as its agent saw it."""

    rank: int
    """The worker's global rank."""
    time: float
    """When it ended, in seconds since the epoch, with fractions."""
    exitcode: int | None = None
    """Its exit code; minus the signal's number when a signal killed it; None: it has failed, but has not ended yet."""
    uptime: float = 0.0
    """Seconds that it had run."""
    pid: int = 0
    exception: ExceptionFacts | None = None
    """The exception that it raised; None: none is known."""
    last_line: str = ""
    """The last line that it wrote to standard error."""
    what: str = ""
    """The supervisor's explanation, where it knows more than the exit code says; else empty."""
    refused: bool = False
    """Whether the worker could not be started at all."""
    log_dir: str = ""
    """Folder with its logs."""


@dataclass(frozen=True)
class Overrun:
    """A limit of `hydra.launcher.watch` that was exceeded."""

    kind: Kind
    """`hang`, `start_up`, `timeout` or `oom`."""
    reason: str
    """What has happened, in one line, for people."""
    rank: int | None
    """The rank that exceeds the limit most; None when the limit is one for the whole group."""
    time: float
    """When it was seen, in seconds since the epoch."""
    uptime: float = 0.0
    """Seconds that the workers had run."""


@dataclass(frozen=True)
class MemoryFacts:
    """What the kernel says about memory, and about the processes that it has killed while the workers ran."""

    known: bool = False
    """Whether this process can see what the kernel's memory killer does."""
    kills: int = 0
    """Processes that the kernel's memory killer has killed while the workers ran."""
    scope: str = ""
    """Where these kills were counted: `cgroup` (in the workers' group) or `host`; empty when there are none."""
    killed_pids: tuple[int, ...] = ()
    """Process ids of the workers that were killed, as far as the kernel's log can be read."""
    limit: int | None = None
    """Bytes that the cgroup may use; None without a limit."""
    peak: int | None = None
    """The most bytes that the cgroup has used at once; None: unknown."""
    rss: Mapping[int, int] = field(default_factory=dict)
    """Bytes that each killed worker used, by process id, from the kernel's log."""
    host_total: int | None = None
    """Bytes of memory that the host has; None: unknown."""
    host_available: int | None = None
    """Bytes of memory that are free on the host now; None: unknown."""

    def in_words(self) -> str:
        """Return the known figures as a text; empty when none is known."""
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
    """All that an agent knows when its workers have failed."""

    host: str
    """Name of the agent's host."""
    time: float
    """The time now, in seconds since the epoch."""
    deaths: Sequence[Death] = ()
    """The deaths of workers that ended by themselves; those that the agent has stopped thereafter are not in it."""
    overrun: Overrun | None = None
    """The limit that was exceeded; None: none was."""
    memory: MemoryFacts = MemoryFacts()
    rendezvous: ExceptionFacts | None = None
    """The error of the rendezvous, if the nodes did not find together."""
    signal_to_agent: str = ""
    """Name of the signal that told the agent itself to stop; empty: none did."""
    stuck: bool = False
    """Whether a process hangs in the kernel and cannot be ended."""
    nodes: int = 1
    """How many nodes the group had."""
    stacks: tuple[str, ...] = ()
    """Files into which the workers' stacks were written."""
