"""The processes of another host, as the launcher sees them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable

from elastic_hydra.supervisor.anonymous_files import anonymous_file
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.protocol import Exited, Refused, ResultPart, Started

__all__ = ["Fate", "RemoteProcesses"]

Fate = Started | Refused | ResultPart | Exited
"""What a host says of a process."""


class RemoteProcesses:
    """Those that one connection has asked for, until they are forgotten."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}
        self._ids = 0

    def add(self, *, is_program: bool) -> Process:
        """Return a new one, which is to be started."""
        self._ids += 1
        process = Process(self._ids, -1 if is_program else anonymous_file("elastic-hydra-result"))
        self._processes[process.id] = process
        return process

    def note(self, message: Fate, wall_offset: float) -> None:
        """Note what has become of one; it may be forgotten here.

        Args:
            message: what the host says.
            wall_offset: its clock minus that of this process, in seconds.
        """
        process = self._processes.get(message.id)
        if process is None:
            return
        match message:
            case Started(_, pid):
                process.pid = pid
            case ResultPart(_, data):
                with open(process.result_fd, "ab", buffering=0, closefd=False) as file:
                    while data:
                        data = data[file.write(data) :]
            case Exited(_, code, exit_time):
                process.exitcode, process.exit_time = code, exit_time - wall_offset
            case Refused(_, reason):
                process.refused, process.exitcode, process.exit_time = reason, 1, time.time()

    @property
    def any_runs(self) -> bool:
        """Whether one has not ended."""
        return any(process.exitcode is None for process in self._processes.values())

    def have_ended(self, fate: str) -> None:
        """Note that nothing of them runs any more, and why."""
        for process in self._processes.values():
            if process.exitcode is None:
                process.exitcode, process.exit_time, process.fate = -signal.SIGKILL, time.time(), fate

    def forget(self, processes: Iterable[Process] | None = None) -> None:
        """Drop what is kept of processes; None: of all."""
        for process in list(self._processes.values()) if processes is None else list(processes):
            process.close()
            self._processes.pop(process.id, None)
