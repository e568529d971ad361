"""What the checks need to know of the host."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from elastic_hydra.config.backends import BACKENDS

__all__ = ["HostFacts"]


@dataclass(frozen=True)
class HostFacts:
    """What the launcher found on this host."""

    cpus: int
    """CPUs that this process may use."""
    gpus: int
    """Accelerators that it sees."""
    torch: tuple[int, int]
    """Version of the installed torch."""
    memory: int = 0
    """Bytes of memory that it may use."""
    backends: Collection[str] = tuple(BACKENDS)
    """Rendezvous backends that torch knows."""
    event_handlers: Collection[str] = ("null", "console")
    """Event log handlers that torch knows."""
    has_etcd: bool = False
    """Whether the client package of etcd is installed."""
    quota: float | None = None
    """CPUs' worth of time that its container may use; None without a limit."""
    time_left: float | None = field(default=None, compare=False)
    """Seconds for which it was still there when it was looked at; None: nothing limits it, or nobody has asked.
    Hosts that came at different moments are alike all the same."""

    def within_quota(self, cpus: int) -> int:
        """Return how many threads some of the CPUs can keep busy: their share of the quota, 1 or more.

        Args:
            cpus: the number of CPUs.
        """
        return cpus if self.quota is None else max(1, min(cpus, int(self.quota * cpus / self.cpus)))
