"""A Ray cluster for tests: a head, and nodes that may come and go, all on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.launching import wait_until_gone

__all__ = ["PATIENCE", "TOO_SLOW", "RayCluster", "ray_cluster"]

PATIENCE = 120.0
"""Seconds that a test waits for what must come."""
TOO_SLOW = "timed out during startup"
"""What Ray says when a node has not started within 30 seconds, which nothing can change."""
_ACTOR = "ray::HostActor"
_STORE = "--object-store-memory=80000000"


class RayCluster:
    """A cluster whose processes are known by their environment.

    Args:
        folder: for the files of Ray's; its path is short, since sockets are in it.
    """

    def __init__(self, folder: str) -> None:
        self.environment = {
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A node that is only slow must not count as dead.
            "RAY_health_check_failure_threshold": "1000",
            # Otherwise all that runs on its hosts yields to whatever else this machine does.
            "RAY_worker_niceness": "0",
        }
        self._start("--head", "--port=0", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false")
        self.environment["RAY_ADDRESS"] = Path(folder, "ray", "ray_current_cluster").read_text()

    def add_node(self, *options: str) -> int:
        """Add a node, and return the process id of its raylet."""
        before = set(self._raylets())
        self._start(f"--address={self.environment['RAY_ADDRESS']}", *options)
        (raylet,) = set(self._raylets()) - before
        return raylet

    def _start(self, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", *options, _STORE, "--disable-usage-stats"]
        # Tests hide GPUs; Ray would hold what it is told of them against what it sees.
        ours = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        environment = {**ours, **self.environment}
        for _ in range(3):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE)
            if done.returncode == 0:
                return
            assert TOO_SLOW in done.stdout + done.stderr, done.stdout + done.stderr
        pytest.skip("Ray gives a node 30 seconds to start, and this machine is too busy for that")

    def _raylets(self) -> list[int]:
        return [process.pid for process, name in self.processes() if name == "raylet"]

    def actor(self) -> psutil.Process:
        """Return the worker of Ray's that runs an actor of ours, once the actors of earlier hosts have ended."""
        deadline = time.monotonic() + PATIENCE
        while len(actors := [process for process, name in self.processes() if name.startswith(_ACTOR)]) != 1:
            assert time.monotonic() < deadline, actors
            time.sleep(0.05)
        return actors[0]

    def processes(self) -> Iterator[tuple[psutil.Process, str]]:
        """Return what has been started by the cluster, or in its environment, and lives; with its name."""
        mark = f"RAY_TMPDIR={self.environment['RAY_TMPDIR']}".encode()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                # psutil reads no environment of whose beginning Ray has made a title.
                is_ours = mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if is_ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    yield process, process.name()

    def stop(self) -> None:
        """Kill all of it, also what starts meanwhile."""
        while pids := [process.pid for process, _ in self.processes()]:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert wait_until_gone(pids, PATIENCE) == []


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a cluster whose head has no room, and take it away at the end."""
    folder = tempfile.mkdtemp(prefix="eh", dir="/tmp")
    try:
        cluster = RayCluster(folder)
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
