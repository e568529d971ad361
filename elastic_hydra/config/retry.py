"""`hydra.launcher.retry` and `hydra.launcher.watch`: what happens when a worker dies, hangs or takes too much."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional and List, not `|` and `list`.
# ruff: noqa: UP006, UP035, UP045

import re
import signal
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, List, Optional

from elastic_hydra.config.keys import names_its_keys

__all__ = [
    "GROUPS",
    "PROGRESS",
    "WORDS",
    "Action",
    "BackoffConfig",
    "Kind",
    "Memory",
    "RetryConfig",
    "WatchConfig",
    "is_class_name",
    "is_word",
    "number_of_bytes",
]


class Kind(str, Enum):
    """What kind of end a worker group came to."""

    exception = "exception"
    """A worker raised."""
    exit = "exit"
    """A worker ended by itself, with an exit code or without a result."""
    signal = "signal"
    """A signal killed a worker, and neither we nor the kernel's memory killer sent it."""
    oom = "oom"
    """No memory: the kernel's out-of-memory killer, an allocation that failed (also on the GPU), or our limit."""
    hang = "hang"
    """No progress within `watch.progress_limit`, or a process stuck in the kernel."""
    timeout = "timeout"
    """The job's `watch.time_limit` is over."""
    start_up = "start_up"
    """A worker could not be started, or showed no sign of life within `watch.start_up_limit`."""
    rendezvous = "rendezvous"
    """The nodes did not find together."""
    peer = "peer"
    """Workers lost the connection to one whose end nobody saw: its node has gone."""
    preempted = "preempted"
    """A node was told to stop by a signal to its agent."""
    agent = "agent"
    """The job's agent itself was lost."""


GROUPS = {
    "deterministic": (
        "mistakes that the next try would make again: ImportError, SyntaxError, TypeError, NameError, AttributeError, "
        "NotImplementedError, errors of Hydra, OmegaConf and argparse, exit codes 2, 126, 127"
    ),
    "connection": (
        "lost connections: NCCL and gloo errors, DistBackendError, DistNetworkError, DistStoreError, ConnectionError, "
        "TimeoutError, and the kinds peer and rendezvous"
    ),
    "transient": "connection, and the kinds signal, hang, preempted and agent",
}
"""Words for `only_on` and `never_on` that stand for several things, and what they stand for."""

WORDS = (*(kind.value for kind in Kind), *GROUPS)
"""What `only_on` and `never_on` take besides class names, exit codes and signals."""


@names_its_keys
@dataclass
class BackoffConfig:
    """How long to wait before a restart."""

    initial: float = 0.0
    """Seconds before the first restart; 0: at once."""
    factor: float = 2.0
    """Each further wait is so many times as long, 1 or more."""
    maximum: float = 300.0
    """Seconds that no wait exceeds."""
    jitter: float = 0.25
    """Part of the wait by which it is made longer or shorter at random, 0 to 1, so that jobs that died together do not
    come back together."""


@names_its_keys
@dataclass
class RetryConfig:
    """What happens when a worker dies: `hydra/launcher/retry=none|restart|transient|preemptible`."""

    max_restarts: int = 0
    """How often the worker group of a job is started again: one budget for the job, over all nodes."""
    window: Optional[float] = None
    """Only restarts within the last so many seconds count against `max_restarts`; null: all."""
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    only_on: List[Any] = field(default_factory=list)
    """Only these are followed by a restart: kinds (`oom`, `signal`, …), exception classes or bases of them (`OSError`,
    `torch.OutOfMemoryError`), exit codes (`75`), signals (`SIGBUS`), groups (`transient`, `connection`,
    `deterministic`). Empty: all."""
    never_on: List[Any] = field(default_factory=lambda: ["deterministic"])
    """These are never followed by a restart; the same words. It has the last word over `only_on`."""
    min_uptime: float = 0.0
    """A worker that dies by itself before so many seconds never got started, and is not restarted; 0: it is."""
    max_attempts: int = 1
    """How often a job is tried whose agent itself was lost, 1 or more."""


class Action(str, Enum):
    """What follows when a limit is exceeded."""

    log = "log"
    restart = "restart"
    fail = "fail"


class Memory(str, Enum):
    """How memory is measured."""

    pss = "pss"
    rss = "rss"


PROGRESS = ("heartbeat", "output", "cpu")


@names_its_keys
@dataclass
class WatchConfig:
    """Limits for a running job: `hydra/launcher/watch=none|hangs`. Nothing is looked at that has no limit."""

    time_limit: Optional[float] = None
    """Seconds of wall-clock time for the job, with restarts and waits; then it has failed, whatever `action` says."""
    start_up_limit: Optional[float] = None
    """Seconds from the start of the workers until each has given a first sign of life: a heartbeat or output."""
    progress_limit: Optional[float] = None
    """Seconds that a worker may be without progress."""
    progress: List[str] = field(default_factory=lambda: ["heartbeat", "output", "cpu"])
    """What counts as progress, any of: `heartbeat` (the worker called `elastic_hydra.heartbeat()`; ranks that never do
    are judged by those that do), `output` (any rank's stdout or stderr file grew), `cpu` (the worker and its children
    used at least 1 % of a CPU). A worker that waits for a GPU or in a collective operation may use a whole CPU: with
    `cpu` only true standstill is seen."""
    memory_limit: Any = None
    """Memory of all the workers of one node, with their children, as `32GB` or in bytes; null: none."""
    memory: Memory = Memory.pss
    """How it is measured: `pss` (shared pages are shared out), `rss` (quicker; counts them for each process)."""
    action: Action = Action.log
    """When a limit is exceeded: `log` (say so, write every rank's stacks, go on), `restart` (as `retry` allows), or
    `fail`. Except for `log`, the group is stopped after its stacks are written."""
    interval: Optional[float] = None
    """Seconds between two looks; null: a tenth of the smallest limit, at most 5, for memory at most 1."""

    def is_on(self) -> bool:
        """Whether there is any limit."""
        limits = (self.time_limit, self.start_up_limit, self.progress_limit, self.memory_limit)
        return any(limit is not None for limit in limits)


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def number_of_bytes(size: Any) -> Optional[int]:
    """Read a size such as `16GB`, `512MiB` or a number of bytes; None: it is none."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGT]I?)?B?", str(size).strip().upper())
    return None if match is None else int(float(match[1]) * _UNITS[match[2] or ""])


def is_word(word: Any) -> bool:
    """Whether a word can stand in `only_on` and `never_on`; any class name can, for classes may be the user's."""
    if isinstance(word, bool) or not isinstance(word, (str, int)):
        return False
    text = str(word).strip()
    if re.fullmatch(r"-?[0-9]{1,9}", text):
        return -64 <= int(text) <= 255
    if text.startswith("SIG"):
        return text in signal.Signals.__members__
    return text in WORDS or is_class_name(text)


def is_class_name(word: Any) -> bool:
    """Whether a word has the form of a class's name, as against a kind's, a group's, a signal's or an exit code."""
    text = str(word).strip()
    if text.startswith("SIG") or not all(part.isidentifier() for part in text.split(".")):
        return False
    return text.rpartition(".")[2][0].isupper()
