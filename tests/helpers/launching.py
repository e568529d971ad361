"""What the launcher's tests share: launches here, scripts that launch by themselves, and a look at processes."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from torch.distributed.launcher import api as torch_api

from elastic_hydra import LaunchConfig, elastic_launch
from elastic_hydra.elastic.worker_failure import WorkersFailedError

START_METHODS = ("warm", "forkserver", "spawn")


def config(
    workers: int = 2, start_method: str = "warm", nodes: int = 1, max_restarts: int = 0, **settings: Any
) -> LaunchConfig:
    """Make a configuration, without restarts unless a test asks for some."""
    return LaunchConfig(nodes, nodes, workers, start_method=start_method, max_restarts=max_restarts, **settings)


def launch(entrypoint: Any, *args: Any, **settings: Any) -> dict[int, Any]:
    """Launch with our launcher."""
    values: dict[int, Any] = elastic_launch(config(**settings), entrypoint)(*args)
    return values


def launch_failing(entrypoint: Any, *args: Any, **settings: Any) -> WorkersFailedError:
    """Launch what must fail, and return the error."""
    with pytest.raises(WorkersFailedError) as caught:
        launch(entrypoint, *args, **settings)
    return caught.value


def variable(name: str) -> str | None:
    """Return an environment variable of this process; `os.environ.get` itself pickles with another one's variables."""
    return os.environ.get(name)


def end_at_once(code: int) -> None:
    """End this process without a word; as `os._exit`, which coverage replaces by something that does not pickle."""
    os._exit(code)


def torch_config(workers: int = 2, **settings: Any) -> torch_api.LaunchConfig:
    """Make torch's own configuration for one node, without restarts, with the log folder that it never removes."""
    defaults: dict[str, Any] = {
        "max_restarts": 0,
        "start_method": "fork",
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
    }
    return torch_api.LaunchConfig(1, 1, workers, **(defaults | settings))


def torch_launch(entrypoint: Any, *args: Any, **settings: Any) -> dict[int, Any]:
    """Launch with torch's launcher, in a process of its own because of all that it leaves behind."""
    values: dict[int, Any] = in_a_fork(lambda: torch_api.elastic_launch(torch_config(**settings), entrypoint)(*args))
    return values


def in_a_fork(function: Callable[[], Any]) -> Any:
    """Call a function in a fork of this process with a temporary folder of its own, and return its value."""
    reader, writer = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        pid = os.fork()
        if pid == 0:
            tempfile.tempdir = folder
            with contextlib.suppress(BaseException), os.fdopen(writer, "wb") as file:
                file.write(cloudpickle.dumps(function()))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            data = file.read()
        os.waitpid(pid, 0)
    return pickle.loads(data)


# --- processes ---------------------------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int], timeout: float) -> list[int]:
    """Wait for the ends of processes; return those that still live."""
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as files:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                files.callback(os.close, fd)
                # A zombie is readable as well: nobody may be there to reap it, but it does nothing any more.
                select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
    return [pid for pid in pids if is_alive(pid)]


class Script:
    """A program that launches, in a process of its own, and says on standard output what the test waits for."""

    def __init__(
        self, folder: Path, source: str, *args: str, command: Sequence[str] = (sys.executable,), **variables: str
    ) -> None:
        self.path = folder / "script.py"
        self.path.write_text(textwrap.dedent(source))
        self.process = subprocess.Popen(
            [*command, "-u", str(self.path), *args],
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr.txt").open("wb"),
            # A folder of its own: who is killed by SIGKILL cannot remove its temporary files.
            env={**os.environ, "TMPDIR": str(folder), **variables},
            start_new_session=True,
        )
        self._stderr = folder / "stderr.txt"
        self._unread = b""

    def words(self, count: int, timeout: float = 60.0) -> list[str]:
        """Wait for so many words on its standard output."""
        deadline = time.monotonic() + timeout
        assert self.process.stdout is not None
        while len(self._unread.split()) < count or not self._unread.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                pytest.fail(f"the script said only {self._unread.split()!r}\n{self.stderr}")
            self._unread += data
        words, self._unread = self._unread.decode().split(), b""
        return words

    def pids(self, count: int) -> list[int]:
        """Wait for so many process ids on its standard output."""
        return [int(word) for word in self.words(count)]

    def output(self, timeout: float = 60.0) -> str:
        """Wait for its end and return what else it said."""
        out, _ = self.process.communicate(timeout=timeout)
        return (self._unread + (out or b"")).decode()

    @property
    def stderr(self) -> str:
        """What it said on standard error so far."""
        return self._stderr.read_text()

    @property
    def server_pid(self) -> int:
        """The process that starts its workers."""
        (server,) = psutil.Process(self.process.pid).children()
        return int(server.pid)

    def end(self) -> None:
        """Kill it, with all that is in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def script(folder: Path, source: str, *args: str, **variables: str) -> Iterator[Script]:
    """Run a script; whatever becomes of the test, it does not outlive it."""
    running = Script(folder, source, *args, **variables)
    try:
        yield running
    finally:
        running.end()


def seconds(action: Callable[[], Any]) -> float:
    """Return how long it takes."""
    start = time.monotonic()
    action()
    return time.monotonic() - start
