"""An ssh server for tests: on the loopback interface, for the user who runs them, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.nodes.hosts import Host

__all__ = ["Sshd", "require_sshd", "sshd"]

_HERE = Host("", "127.0.0.1")

_SBIN = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
_SERVER = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Banner {folder}/banner
ForceCommand {folder}/login
"""
_CLIENT = """\
Host n1 n2
  HostName {address}
  IdentityFile {folder}/key
Host closed
  HostName 127.0.0.1
  Port 1
Host stranger
  HostName 127.0.0.1
  UserKnownHostsFile /dev/null
Host keyless
  HostName 127.0.0.1
  IdentityFile {folder}/other_key
Host *
  Port {port}
  User {user}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


class Sshd:
    """A server that knows one key, and what a client needs to find it.

    The hosts `n1` and `n2` are both this machine, whose login script prints a line. `closed`, `stranger` and `keyless`
    cannot be reached: no server is at the port, its key is not known, or it does not take the user's key.

    Args:
        folder: for all its files.
        host: where it runs; a namespace's processes and files are those of this machine.
    """

    def __init__(self, folder: Path, host: Host = _HERE) -> None:
        self.folder = folder
        for name in ("host_key", "key", "other_key"):
            self._keygen("-f", str(folder / name))
        (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
        (folder / "banner").write_text("Authorised users only!\n")
        login = folder / "login"
        login.write_text('#!/bin/sh\necho "Welcome to this machine."\neval "$SSH_ORIGINAL_COMMAND"\n')
        login.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        kind, key, *_ = (folder / "host_key.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[{host.address}]:{self.port} {kind} {key}\n")
        (folder / "sshd_config").write_text(_SERVER.format(address=host.address, port=self.port, folder=folder))
        client = _CLIENT.format(address=host.address, port=self.port, folder=folder, user=getpass.getuser())
        (folder / "config").write_text(client)
        self.options: Sequence[str] = (f"-F{folder}/config",)
        """For ssh."""
        self._log = (folder / "log").open("wb")
        server = shutil.which("sshd", path=_SBIN)
        assert server is not None
        self._server = subprocess.Popen(
            host.command([server, "-D", "-e", "-f", str(folder / "sshd_config")]),  # it wants an absolute path
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._await()

    def _keygen(self, *options: str) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", *options], check=True, capture_output=True)

    def _await(self) -> None:
        deadline = time.monotonic() + 60.0
        while True:
            log = (self.folder / "log").read_text(errors="replace")
            if "Server listening on" in log:
                return
            assert self._server.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.02)

    def close(self) -> None:
        """End the server; connections that still are there go on without it."""
        self._server.send_signal(signal.SIGTERM)
        self._server.wait()
        self._log.close()


def _lack() -> str:
    missing = [program for program in ("sshd", "ssh", "ssh-keygen") if shutil.which(program, path=_SBIN) is None]
    if missing:
        return f"an ssh server needs {', '.join(missing)}: the packages openssh-server and openssh-client"
    if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
        return "an ssh server that root starts needs the folder /run/sshd"
    return ""


def require_sshd() -> None:
    """Skip a test where there can be no ssh server."""
    if why := _lack():
        pytest.skip(why)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An ssh server; the test is skipped where there can be none."""
    require_sshd()
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o755)
    server = Sshd(folder)
    try:
        yield server
    finally:
        server.close()
