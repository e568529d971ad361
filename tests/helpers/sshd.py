"""An ssh server for tests: on the loopback interface, for the user who runs them, with keys of its own."""

from __future__ import annotations

import contextlib
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

__all__ = ["Sshd", "sshd"]

_SBIN = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
_SERVER = """\
ListenAddress 127.0.0.1
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
  HostName 127.0.0.1
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
    """

    def __init__(self, folder: Path) -> None:
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
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (folder / "sshd_config").write_text(_SERVER.format(port=self.port, folder=folder))
        (folder / "config").write_text(_CLIENT.format(port=self.port, folder=folder, user=getpass.getuser()))
        self.options: Sequence[str] = (f"-F{folder}/config",)
        """For ssh."""
        self._log = (folder / "log").open("wb")
        server = shutil.which("sshd", path=_SBIN)
        assert server is not None
        self._server = subprocess.Popen(
            [server, "-D", "-e", "-f", str(folder / "sshd_config")],  # it wants an absolute path
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
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as sock:
                assert sock.recv(4) == b"SSH-"
                return
            log = (self.folder / "log").read_text(errors="replace")
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


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An ssh server; the test is skipped where there can be none."""
    if why := _lack():
        pytest.skip(why)
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o755)
    server = Sshd(folder)
    try:
        yield server
    finally:
        server.close()
