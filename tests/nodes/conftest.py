"""Hosts, and launchers that are gone when a test is over."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nodes.hosts import Cable, Host, Program, sweep


@pytest.fixture(scope="session")
def cable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cable]:
    """Three hosts h1 to h3, each with a network of its own."""
    missing = [tool for tool in ("ip", "nsenter", "unshare") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip("hosts need root" if not missing else f"hosts need {', '.join(missing)} (iproute2, util-linux)")
    try:
        made = Cable(tmp_path_factory.mktemp("cable"))
    except OSError as error:
        pytest.skip(f"hosts need network namespaces, which are forbidden here: {error}")
    for number in (1, 2, 3):
        made.connect(number)
    yield made
    made.close()


@pytest.fixture
def hosts(cable: Cable) -> list[Host]:
    """The hosts h1, h2, h3."""
    return [cable.hosts[f"h{n}"] for n in (1, 2, 3)]


@pytest.fixture
def here() -> list[Host]:
    """Two names for this machine."""
    return [Host("a", "127.0.0.1"), Host("b", "127.0.0.1")]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts programs, given a host, the function that makes one, and its arguments; ends them after the test."""
    programs: list[Program] = []

    def start(host: Host, *args: str, make: Callable[..., Program] = sweep, **kwargs: str) -> Program:
        program = make(host, tmp_path / f"{len(programs)}-{host.name}", *args, **kwargs)
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.end()


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago, below those that the kernel hands out."""
    return free_port()


def free_port() -> int:
    """Find a port outside the range from which the kernel takes ports for connections."""
    for number in range(20000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", number))
            except OSError:
                continue
            return number
    raise OSError("no free port")
