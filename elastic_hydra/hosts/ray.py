"""Hosts by Ray: each is an actor, which starts where the cluster has room for it, and is reached through one process.

The launcher itself has nothing of Ray in it: a driver joins the cluster for all its hosts, and carries their bytes.
Which module runs where::

    launcher            ray
    driver              ray_driver, ray_cluster, ray_door
    a worker of Ray's   ray_actor
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import IO, Any

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.lines import Lines
from elastic_hydra.hosts.transport import Ended, host_command
from elastic_hydra.supervisor import entry, own_ends
from elastic_hydra.supervisor.anonymous_files import anonymous_file

__all__ = ["Driver", "RayEngine", "RayTransport", "engine"]

_LONGEST = 1 << 16
"""Bytes of what the driver says about a host, at most; of what Ray has written when the driver has died, as many."""


def engine(keys: HostsConfig) -> RayEngine:
    """Return how hosts are reached by Ray.

    Raises:
        ConfigError: that cannot be, as configured.
    """
    if find_spec("ray") is None:
        raise ConfigError("hydra.launcher.hosts.engine=ray: Ray is not installed here: pip install 'ray>=2.60'")
    if keys.max is None:
        raise ConfigError(
            "hydra.launcher.hosts.max=null: by Ray, a sweep has as many hosts as it asks for: set how many it may have"
        )
    return RayEngine(keys)


class RayEngine:
    """Hosts that are wherever Ray has room for them. Ray sees as a demand those for which there is none yet.

    Args:
        keys: of the configuration.
    """

    is_elastic = True

    def __init__(self, keys: HostsConfig) -> None:
        assert keys.max is not None
        self._places = tuple(f"actor {number}" for number in range(1, keys.max + 1))
        self._request = {
            "argv": host_command(keys.python or ""),
            "cpus": keys.cpus_per_host,
            "gpus": keys.gpus_per_host,
            "resources": dict(keys.resources),
        }
        self._address = keys.address
        self._driver = Driver(self._address)

    def places(self) -> Sequence[str]:
        """Return a name for each actor that there may be."""
        return self._places

    def transport(self, place: str) -> RayTransport:
        """Return a new way to a host: a new actor, through a new driver if the last one has died."""
        if self._driver.ended() is not None:
            self._driver = Driver(self._address)
        return RayTransport(self._driver, self._request, f"Ray {place}")


class Driver:
    """The process that is Ray's driver. It starts when the first host is asked for, and ends with this object.

    Args:
        address: of the cluster.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        # When the launcher ends, the newest finalizer is the first: that of the hosts comes before this one.
        self._held = contextlib.ExitStack()
        weakref.finalize(self, self._held.close)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._output: IO[bytes] | None = None

    def ask(self, request: Mapping[str, Any], files: Sequence[socket.socket]) -> None:
        """Ask for a host.

        Args:
            request: what the host is to be.
            files: stream, console, and word.

        Raises:
            OSError: the driver cannot be started, or has died.
        """
        if self._control is None:
            self._start()
        assert self._control is not None
        socket.send_fds(self._control, [json.dumps(request).encode()], [file.fileno() for file in files])

    def _start(self) -> None:
        # What Ray writes is not for the terminal; it is read when the driver has died. A file never keeps it waiting.
        self._output = os.fdopen(anonymous_file("elastic-hydra-ray-driver"), "w+b", buffering=0)
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own_ends.own(control)
        with theirs:
            command = [*entry.interpreter("elastic_hydra.hosts.ray_driver"), self._address]
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=self._output, stderr=self._output, start_new_session=True
            )
        self._control = control
        self._held.callback(_end, self._process, control, self._output)

    def ended(self) -> Ended | None:
        """Return how the driver has ended; None: it runs, or was not started."""
        if self._process is None or self._process.poll() is None:
            return None
        assert self._output is not None
        return Ended(self._process.returncode, () if self._output.closed else _last_lines(self._output))


def _end(process: subprocess.Popen[bytes], control: socket.socket, output: IO[bytes]) -> None:
    """Have a driver end, now that nobody asks it for hosts any more, and wait for that."""
    control.close()
    try:
        process.wait(timeouts.RAY_DRIVER)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    output.close()


def _last_lines(output: IO[bytes]) -> tuple[str, ...]:
    lines = Lines(os.fdopen(os.dup(output.fileno()), "rb", buffering=0))
    output.seek(max(0, os.fstat(output.fileno()).st_size - _LONGEST))
    with contextlib.closing(lines):
        return lines.last()


class RayTransport:
    """The stream to the host process that one actor has started. A `Transport`.

    Args:
        driver: through which it goes.
        request: what the driver is asked for.
        name: for messages.
    """

    def __init__(self, driver: Driver, request: Mapping[str, Any], name: str) -> None:
        self._driver = driver
        self._request = request
        self._name = name
        self._console: Lines | None = None
        self._word: socket.socket | None = None
        self._said: Ended | None = None

    @property
    def name(self) -> str:
        """What this is, for messages."""
        return self._name

    def open(self) -> socket.socket:
        """Have the driver ask Ray for the actor.

        Raises:
            OSError: the driver cannot be started, or has died.
        """
        assert self._word is None, "a transport opens one stream"
        with (
            own_ends.connected() as (stream, a),
            own_ends.connected() as (console, b),
            own_ends.connected(socket.SOCK_SEQPACKET) as (word, c),  # the driver may say two words at once
        ):
            self._driver.ask(self._request, (a, b, c))
        word.setblocking(False)
        self._word = word
        file = os.fdopen(console.detach(), "rb", buffering=0)
        own_ends.own(file)
        self._console = Lines(file)
        return stream

    def fileno(self) -> int:
        """Return what becomes readable when there are new `lines`; -1 when the console has ended."""
        return -1 if self._console is None else self._console.fileno()

    def lines(self) -> list[str]:
        """Return what the host process and those below it have written to the console since the last call."""
        return [] if self._console is None else self._console.new()

    def ended(self) -> Ended | None:
        """Return how the actor has ended, in Ray's words; None: it has not, as far as is known."""
        if self._word is None or self._console is None:
            return self._said
        with contextlib.suppress(BlockingIOError):
            while data := self._word.recv(_LONGEST):
                word = json.loads(data)
                self._said = Ended(1, (*self._console.last(), word["why"]), word["host_is_gone"])
            if self._said is None:  # the driver has died without a word
                return self._driver.ended()
        return self._said

    def terminate(self) -> None:
        """Do nothing: `kill` does not wait."""

    def kill(self) -> None:
        """Let the driver have the actor, and the host process, end in order."""
        self.ended()
        if self._word is not None:
            self._word.close()
            self._word = None
        if self._console is not None:
            self._console.close()
