"""What a launcher wants of all its hosts, and who takes what comes from one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.supervisor.open_server import what_to_load
from elastic_hydra.supervisor.protocol import LONGEST, Load

__all__ = ["Heard", "Wanted"]


@dataclass(frozen=True)
class Wanted:
    """What the servers of all hosts of a sweep are told when they start."""

    shared: Mapping[str, object]
    """Objects that payloads will refer to, as for `open_server`."""
    load: Load
    data: bytes
    """The shared objects, pickled."""
    shutdown_timeout: float
    """Seconds between SIGTERM and SIGKILL for what still runs when the launcher is gone."""
    silence: float
    """Seconds without a sign of life after which each side gives the other up."""

    @classmethod
    def of(
        cls, shared: Mapping[str, object], preload: Sequence[str], shutdown_timeout: float, silence: float
    ) -> Wanted:
        """Pickle the shared objects, once for all hosts.

        Args:
            shared: see the field.
            preload: modules that the servers import.
            shutdown_timeout: see the field.
            silence: see the field.

        Raises:
            ValueError: they are too large for a message.
            Exception: whatever pickling raises: queues and locks of `multiprocessing` cannot travel to another host.
        """
        load, pickled = what_to_load(shared, preload, elsewhere=True)
        if len(pickled.data) >= LONGEST:
            raise ValueError(
                f"it has {len(pickled.data)} bytes, and {LONGEST} at most can be sent: write large data into a file, "
                "and read it in the job"
            )
        return cls(shared, load, pickled.data, shutdown_timeout, silence)


@dataclass(frozen=True)
class Heard:
    """Takes what comes from a host besides the fates of processes. Nothing here may wait."""

    lines: Callable[[bytes], None]
    """Gets whole lines that agents and workers on the host have appended to its journal, with times of the host's
    clock; always before the end of the process that has written them is seen."""
    console: Callable[[Sequence[str]], None]
    """Gets lines of what agents and workers on the host have written to standard output and error."""
    told: Callable[[int], None]
    """Gets the number of a signal that somebody has sent to the host process, which does not act on it."""
