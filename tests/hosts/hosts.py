"""Hosts for tests: host processes on this machine, behind a program's standard input and output."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.transport import CommandTransport, Transport, host_command
from elastic_hydra.hosts.wanted import Heard, Wanted
from elastic_hydra.journal.host_record import HostRecord
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.waiting import wait

PATIENCE = 120.0
"""Seconds that a test waits for an event that must come."""


@dataclass
class Record:
    """What has come from a host."""

    lines: list[bytes] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def heard(self) -> Heard:
        return Heard(self.lines.append, self.console.extend, self.told.append)


def connect(
    transport: Transport | None = None,
    record: Record | None = None,
    *,
    silence: float = 60.0,
    timeout: float = 1.0,
    host_record: HostRecord | None = None,
) -> HostConnection:
    wanted = Wanted.of({}, [], timeout, silence)
    heard = (Record() if record is None else record).heard()
    return HostConnection(transport or CommandTransport(host_command()), wanted, heard, host_record)


def is_there(connection: HostConnection) -> bool:
    """Wait until a connection is ready, or has ended."""
    assert wait([connection], lambda: connection.state not in (State.coming, State.opening), PATIENCE)
    return connection.state is State.ready


def start(connection: HostConnection, function: Callable[..., object], *args: object, agent: bool = False) -> Process:
    spec = ProcessSpec(None, dict(connection.environment), os.getcwd(), agent=agent)
    return connection.start(spec, (function, args))


def await_end(connection: HostConnection, *processes: Process) -> None:
    assert wait([connection], lambda: all(process.exitcode is not None for process in processes), PATIENCE)
