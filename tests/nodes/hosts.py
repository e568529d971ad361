"""Hosts that are network namespaces on one machine, and the launchers that tests start on them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

HERE = Path(__file__).parent
Seen = TypeVar("Seen")
_NETWORK = "10.211.78"
_UNSHARE = ("unshare", "--net", "--uts", "--mount", "--propagation", "private", "sh", "-c")


class Host:
    """A place to run programs: a network namespace with a name and an address of its own, or this machine itself.

    Args:
        name: its host name.
        address: under which the others reach it.
        pid: a process in its namespaces; None: this machine.
    """

    def __init__(self, name: str, address: str, pid: int | None = None) -> None:
        self.name = name
        self.address = address
        self.pid = pid

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` here."""
        if self.pid is None:
            return list(argv)
        return ["nsenter", f"--target={self.pid}", "--net", "--uts", "--mount", "--", *argv]


class Cable:
    """A switch with hosts on it, in namespaces that end with this process, however it ends.

    Nothing of it is visible outside: neither names nor addresses can collide with those of another test run.

    Args:
        folder: for files with the hosts' names.
        names: of hosts, by their numbers; the others are named h1, h2 and so on.
    """

    def __init__(self, folder: Path, names: Mapping[int, str] | None = None) -> None:
        self._folder = folder
        self._names = {number: (names or {}).get(number, f"h{number}") for number in range(1, 9)}
        self._holders: list[subprocess.Popen[bytes]] = []
        self._switch = self._hold("ip link add switch type bridge && ip link set switch up")
        self.hosts: dict[str, Host] = {}

    def _hold(self, setup: str) -> int:
        """Make namespaces that last as long as a process which waits for the end of ours."""
        holder = subprocess.Popen(
            [*_UNSHARE, f"ip link set lo up && {setup} && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            assert holder.stderr is not None
            raise OSError(holder.stderr.read().decode().strip() or "no network namespaces here")
        return holder.pid

    def connect(self, number: int) -> Host:
        """Put a new host on the switch."""
        name, address = self._names[number], f"{_NETWORK}.{10 + number}"
        names = self._folder / f"hosts.{name}"
        lines = ["127.0.0.1 localhost", *(f"{_NETWORK}.{10 + n} {other}" for n, other in self._names.items())]
        names.write_text("\n".join(lines) + "\n")
        pid = self._hold(f"hostname {name} && mount --bind {names} /etc/hosts")
        for command in (
            f"--target={self._switch} --net ip link add {name} type veth peer name eth0 netns {pid}",
            f"--target={self._switch} --net ip link set {name} master switch up",
            f"--target={pid} --net ip addr add {address}/24 dev eth0",
            f"--target={pid} --net ip link set eth0 up",
        ):
            subprocess.run(["nsenter", *command.split()], check=True, capture_output=True)
        self.hosts[name] = Host(name, address, pid)
        return self.hosts[name]

    def drop(self, host: Host, state: str) -> None:
        """Let frames from and to a host vanish (`disabled`), or not (`forwarding`); it sees no change of the cable."""
        number = {"disabled": "0", "forwarding": "3"}[state]
        command = f"--target={self._switch} --net bridge link set dev {host.name} state {number}"
        subprocess.run(["nsenter", *command.split()], check=True, capture_output=True)

    def close(self) -> None:
        """End the holders; a namespace goes when nothing runs in it any more."""
        for holder in self._holders:
            holder.kill()
            holder.communicate()


class Program:
    """A program on a host, with its output in a file and a file of events that its workers write."""

    def __init__(self, host: Host, folder: Path, argv: Sequence[str], **environment: str) -> None:
        folder.mkdir(parents=True)
        self.host = host
        self.folder = folder
        self.log = folder / "output"
        self._events = folder / "events"
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("TORCHELASTIC", "MASTER_", "PYTEST_"))}
        variables |= {
            "NODES_HOST": host.name,
            "NODES_EVENTS": str(self._events),
            "NODES_CHECKPOINT": str(folder.parent / "checkpoint"),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self.started = time.time()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                host.command(argv),
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def events(self, event: str = "", **fields: Any) -> list[dict[str, Any]]:
        """Return what the workers have noted so far, the oldest first."""
        if not self._events.exists():
            return []
        lines = [json.loads(line) for line in self._events.read_text().splitlines(keepends=True) if line.endswith("\n")]
        wanted = {**fields, **({"event": event} if event else {})}
        return [line for line in lines if wanted.items() <= line.items()]

    def output(self) -> str:
        """Return what it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, seen: Callable[[], Seen | None], what: str, timeout: float = 60.0) -> Seen:
        """Wait until `seen()` is true, and return it; it is an error when the program ends before."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None
            if found := seen():
                return found
            if ended or time.monotonic() > deadline:
                how = f"ended with {self.process.returncode}" if ended else f"did not within {timeout} s"
                raise AssertionError(f"{self.host.name}: waiting for {what}: {how}\n{self.output()}")
            time.sleep(0.02)

    def wait_for_event(self, event: str, timeout: float = 60.0, after: float = 0.0, **fields: Any) -> dict[str, Any]:
        """Wait for a worker's note, made after a moment in time."""
        what = f"{event} {fields}"
        return self.wait_for(lambda: [e for e in self.events(event, **fields) if e["at"] > after], what, timeout)[0]

    def wait_for_line(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Wait for a line of the output."""
        return self.wait_for(lambda: re.search(pattern, self.output(), re.MULTILINE), pattern, timeout)

    def wait(self, timeout: float = 90.0) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.host.name} does not end\n{self.output()}") from None

    def signal(self, number: int) -> None:
        """Send a signal to the program itself."""
        self.process.send_signal(number)

    def kill_agent(self) -> float:
        """Kill the agent of the newest job, and return when."""
        return self.signal_agent(signal.SIGKILL)

    def signal_agent(self, number: int) -> float:
        """Send a signal to the agent of the newest job, and return when."""
        moment = time.time()
        os.kill(self.events("agent")[-1]["pid"], number)
        return moment

    def end(self) -> None:
        """Leave nothing of it behind."""
        family = [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        with contextlib.suppress(psutil.Error):
            family += family[0].children(recursive=True) if family else []
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.process.wait()

    def results(self) -> dict[int, dict[str, Any]]:
        """Return what the jobs of a sweep came to on this node, by number."""
        return {e["job"]: e for e in self.events("result")}


def sweep(host: Host, folder: Path, *overrides: str, endpoint: str, nodes: str = "2", **environment: str) -> Program:
    """Start a sweep of the app on a host."""
    own = {override.partition("=")[0] for override in overrides}
    settings = {
        "hydra/launcher": "elastic",
        "hydra/launcher/rendezvous": "c10d",
        "hydra.launcher.rendezvous.endpoint": endpoint,
        "hydra.launcher.nodes": f'"{nodes}"',
        "hydra.launcher.nproc_per_node": "1",
        "hydra.launcher.parallel": "1",
        "hydra.sweep.dir": str(folder / "sweep"),
        "+hydra.callbacks.recorder._target_": "recorder.Recorder",
    }
    argv = [f"{key}={value}" for key, value in settings.items() if key not in own]
    return Program(host, folder, [sys.executable, str(HERE / "app.py"), "-m", *argv, *overrides], **environment)
