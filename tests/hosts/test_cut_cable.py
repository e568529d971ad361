"""A host by ssh behind a cable that is cut and mended: network namespaces, where frames vanish without a sign."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from elastic_hydra import timeouts
from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.ssh import SshTransport
from elastic_hydra.supervisor.waiting import wait
from tests.helpers.launching import wait_until_gone
from tests.helpers.sshd import Sshd, require_sshd
from tests.hosts.hosts import PATIENCE, await_end, connect, is_there, start
from tests.nodes.hosts import Cable, Host

pytestmark = pytest.mark.system


@dataclass
class Network:
    """A host with an ssh server, and another one where ssh is started."""

    cable: Cable
    login: Host
    host: Host
    sshd: Sshd

    def connect(self, silence: float) -> HostConnection:
        transport = SshTransport("n1", options=self.sshd.options)
        transport._argv = self.login.command(transport._argv)
        return connect(transport, silence=silence)

    def cut(self) -> None:
        self.cable.drop(self.host, "disabled")

    def mend(self) -> None:
        self.cable.drop(self.host, "forwarding")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    require_sshd()
    with contextlib.ExitStack() as stack:
        try:
            cable = Cable(tmp_path)
            stack.callback(cable.close)
            login, host = cable.connect(8), cable.connect(1)
        except OSError as error:
            pytest.skip(f"no network namespaces: {error}")
        folder = tmp_path / "sshd"
        folder.mkdir(mode=0o755)
        yield Network(cable, login, host, stack.enter_context(contextlib.closing(Sshd(folder, host))))


def test_a_cable_that_is_cut_for_less_than_the_silence_loses_nothing(network: Network) -> None:
    with contextlib.closing(network.connect(silence=120.0)) as connection:
        assert is_there(connection), connection.fate
        process = start(connection, signal.pause)
        assert wait([connection], lambda: process.pid is not None, PATIENCE)
        network.cut()
        another = start(connection, os.getpid)
        assert not wait([connection], lambda: connection.lost or another.exitcode is not None, 16.0)
        network.mend()
        await_end(connection, another)
        assert (another.exitcode, process.exitcode, connection.state) == (0, None, State.ready)


def test_nothing_runs_on_a_host_that_was_cut_off_when_its_jobs_are_started_elsewhere(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "HOST_MARGIN", 10.0)
    with contextlib.closing(network.connect(silence=15.0)) as connection:
        assert is_there(connection), connection.fate
        process = start(connection, signal.pause)
        assert wait([connection], lambda: process.pid is not None, PATIENCE)
        assert process.pid is not None
        network.cut()
        await_end(connection, process)
        assert connection.fate.endswith("was lost: no sign of life for 15 s (hydra.launcher.hosts.silence)")
        assert wait_until_gone([process.pid], 0.0) == []
    network.mend()
    with contextlib.closing(network.connect(silence=60.0)) as connection:
        assert is_there(connection), connection.fate
