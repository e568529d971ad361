"""`hydra.launcher.watch`: limits for a running job, and what follows when one is exceeded."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional and List, not `|` and `list`.
# ruff: noqa: UP006, UP035, UP045

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, List, Optional

from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.sizes import number_of_bytes

__all__ = ["PROGRESS", "Action", "Memory", "WatchConfig", "check_watch"]


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
"""What may count as progress."""


@names_its_keys
@dataclass
class WatchConfig:
    """Limits for a running job: `hydra/launcher/watch=none|hangs`. Only what has a limit is measured."""

    time_limit: Optional[float] = None
    """Seconds of wall-clock time for the job, with restarts and waits; then it has failed, whatever `action` says.
    null: no limit."""
    start_up_limit: Optional[float] = None
    """Seconds from the start of the workers until each has given a first sign of life: a heartbeat or output. null: no
    limit."""
    progress_limit: Optional[float] = None
    """Seconds that a worker may be without progress; null: no limit."""
    progress: List[str] = field(default_factory=lambda: list(PROGRESS))
    """What counts as progress, any of: `heartbeat` (the worker called `elastic_hydra.heartbeat()`; ranks that never do
    are judged by those that do), `output` (any rank's stdout or stderr file grew), `cpu` (the worker and its children
    used at least 1 % of a CPU). A worker that waits for a GPU or in a collective operation may use a whole CPU: with
    `cpu` only true standstill is seen."""
    memory_limit: Any = None
    """Memory of all the workers of one node, with their children, as `32GB` or in bytes; null: no limit."""
    memory: Memory = Memory.pss
    """How memory is measured: `pss` (shared pages are divided among processes), `rss` (quicker; counts shared pages
    for each process)."""
    action: Action = Action.log
    """When a limit is exceeded: `log` (say so, write every rank's stacks, go on), `restart` (as `retry` allows), or
    `fail`. Except for `log`, the group is stopped after its stacks are written."""
    interval: Optional[float] = None
    """Seconds between two looks; null: a tenth of the smallest limit, at most 5, for memory at most 1."""

    def is_on(self) -> bool:
        """Whether there is any limit."""
        limits = (self.time_limit, self.start_up_limit, self.progress_limit, self.memory_limit)
        return any(limit is not None for limit in limits)

    def memory_limit_in_bytes(self) -> Optional[int]:
        """Return `memory_limit` as a number; None: there is none."""
        return None if self.memory_limit is None else number_of_bytes(self.memory_limit)


def check_watch(watch: WatchConfig, retry: RetryConfig, problems: Problems) -> None:
    """Check these keys, by themselves and together with those of `retry`.

    Args:
        watch: `hydra.launcher.watch`.
        retry: `hydra.launcher.retry`.
        problems: takes what is wrong.
    """
    for key in ("time_limit", "start_up_limit", "progress_limit", "interval"):
        value = getattr(watch, key)
        problems.require(value is None or value > 0, f"watch.{key}", value, "must be more than 0 (seconds), or null")
    if watch.memory_limit is not None and not watch.memory_limit_in_bytes():
        problem = "must be a size such as 16GB, 512MiB, or a number of bytes, more than 0"
        problems.add("watch.memory_limit", watch.memory_limit, problem)
    for word in watch.progress:
        problems.one_of("watch.progress", word, PROGRESS, f"must be of {', '.join(PROGRESS)}")
    if not watch.progress:
        problems.add("watch.progress", "[]", f"must be at least one of {', '.join(PROGRESS)}")
    if watch.is_on() and watch.action == Action.restart and retry.max_restarts == 0:
        problem = f"nothing is restarted with {ROOT}.retry.max_restarts=0: pick a retry profile"
        problems.add("watch.action", watch.action, problem)
