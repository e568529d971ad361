"""Who this process is: one description, given by whoever makes the process, and read by `current()`.

A process that none of ours has made is a launcher. A fork begins with the description of its parent; what differs is
replaced at once by the code that has forked it (`open_server`, `spare`). A new interpreter describes itself by what its
starter has sent to it (`fresh_server`, `entry`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from elastic_hydra.supervisor.pickles import EVERYTHING

if TYPE_CHECKING:
    from elastic_hydra.supervisor.main_module import Interpreter

__all__ = ["ProcessContext", "Role", "change", "current"]


class Role(Enum):
    """What a process is for."""

    launcher = "launcher"
    """It runs the user's app, and was not started by this package."""
    server = "server"
    """It starts and supervises the others; also a fork of it that waits for its orders."""
    agent = "agent"
    """It runs one job on this host, and starts the workers of that job by its own connection to the server."""
    worker = "worker"
    """It runs the function of one rank, or another function that needs no connection to the server."""


@dataclass(frozen=True)
class ProcessContext:
    """Who this process is, and what it has from the process that made it."""

    role: Role = Role.launcher
    descends_from_launcher: bool = False
    """Whether a chain of forks leads from the launcher to this process, so that both have the same objects."""
    same_main: bool = False
    """Whether `__main__` is here what it is in the process that reads what this one pickles."""
    main_to_execute: Interpreter | None = None
    """Whose `__main__` this process has yet to execute before it runs a function."""
    connection: socket.socket | None = None
    """An agent's connection to the server; None in every other process."""
    shared: Mapping[str, object] = field(default_factory=dict)
    """Objects to which payloads refer by name; the server and all its forks have them."""
    server_environment: Mapping[str, str] = field(default_factory=dict)
    """The environment in which the server has started; empty in a process that is no fork of a server."""
    launch_directory: str | None = None
    """Where the server has started; None in a process that is no fork of a server."""
    single_threaded_server: bool = False
    """Whether the server's thread pools have one thread each, whatever those of the launcher have."""
    received_files: tuple[int, ...] = ()
    """File descriptors to which the pickles refer that a new interpreter has got from its starter."""

    @property
    def main_names(self) -> Container[str]:
        """Names in `__main__` that mean the same to whoever reads what this process pickles."""
        return EVERYTHING if self.same_main else ()

    def __str__(self) -> str:
        facts = [f"{self.role.value} (pid {os.getpid()}, child of {os.getppid()})"]
        if self.role is not Role.launcher:
            facts.append("a fork of the launcher" if self.descends_from_launcher else "no fork of the launcher")
        if self.connection is not None:
            facts.append("connected to the server")
        if self.main_to_execute is not None:
            facts.append("has yet to execute __main__")
        return ", ".join(facts)


_current = ProcessContext()


def current() -> ProcessContext:
    """Return the description of this process."""
    return _current


def change(**facts: Any) -> None:
    """Say what differs from the description that this process has had so far.

    Args:
        facts: values of fields of `ProcessContext`.
    """
    global _current
    _current = replace(_current, **facts)
