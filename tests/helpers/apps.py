"""Hydra apps that tests write, run as a user would, and look after."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.helpers.terminals import Terminal

TAKES_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
"""A program that executes another one, whose session has the terminal that is standard input, as in a window."""

MARKER = "ELASTIC_HYDRA_TEST_RUN"
"""Environment variable that all processes of one run of an app have, whoever their parent is."""

HEAD = """
import json, logging, os, signal, subprocess, sys, time
from pathlib import Path
import elastic_hydra, hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

log = logging.getLogger(__name__)


def note(**what):
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / f"seen.{os.environ['RANK']}.json").write_text(json.dumps(what))
"""

SPY = """
import os
from pathlib import Path
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf


def number(config):
    return "none" if OmegaConf.is_missing(config.hydra.job, "num") else config.hydra.job.num


class Spy(Callback):
    \"\"\"Writes each call into a file; appending a short line is atomic.\"\"\"

    def __init__(self, file):
        self.file = file

    def write(self, *words):
        with open(self.file, "a") as file:
            file.write(" ".join(map(str, words)) + "\\n")

    def on_run_start(self, config, **kwargs):
        self.write("run_start", os.getpid())

    def on_run_end(self, config, job_return, **kwargs):
        self.write("run_end", os.getpid(), job_return.status.name, repr(job_return._return_value))

    def on_multirun_start(self, config, **kwargs):
        self.write("multirun_start", os.getpid())

    def on_multirun_end(self, config, **kwargs):
        self.write("multirun_end", os.getpid())

    def on_job_start(self, config, **kwargs):
        self.write("job_start", number(config))
        folder = Path(config.hydra.runtime.output_dir)
        (folder / "agent.pid").write_text(str(os.getpid()))

    def on_job_end(self, config, job_return, **kwargs):
        self.write("job_end", number(config), job_return.status.name, repr(job_return._return_value))
"""


def marked(mark: str) -> list[psutil.Process]:
    """Find all processes whose variable MARKER has a value."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARKER) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@dataclass
class Finished:
    """An app that has ended."""

    returncode: int
    output: str
    """What it wrote to the console."""
    folder: Path
    """Of the sweep."""

    def seen(self, job: int | None, rank: int) -> dict[str, Any]:
        """Return what the task noted in a job's folder; None: in that of a single run."""
        folder = self.folder if job is None else self.folder / str(job)
        result: dict[str, Any] = json.loads((folder / f"seen.{rank}.json").read_text())
        return result

    def calls(self, name: str) -> list[list[str]]:
        """Return the arguments of the calls of a callback."""
        lines = (self.folder.parent / "calls").read_text().splitlines()
        return [line.split()[1:] for line in lines if line.split()[0] == name]


class Running:
    """An app that has been started.

    Args:
        command: it.
        cwd: where.
        folder: of the sweep.
        environ: environment variables that it gets besides those of this process.
        terminal: on which it runs, which has all that it writes; None: `output` has that.
    """

    def __init__(
        self, command: list[str], cwd: Path, folder: Path, environ: dict[str, str], terminal: Terminal | None = None
    ) -> None:
        self.folder = folder
        self.output = ""
        self._mark = uuid.uuid4().hex
        self.environ = {**os.environ, **environ, MARKER: self._mark, "PYTHONUNBUFFERED": "1"}
        """All its variables: what is started with them belongs to this run, too."""
        if terminal is not None:
            command = [sys.executable, "-c", TAKES_TERMINAL, *command]
        self._popen = subprocess.Popen(
            command,
            cwd=cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL if terminal is None else terminal.slave,
            stdout=subprocess.PIPE if terminal is None else terminal.slave,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The launcher's."""
        return self._popen.pid

    def ended_within(self, seconds: float) -> int | None:
        """Wait that long for the launcher's end, and return its exit code if it has come."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def wait_for(self, *texts: str) -> None:
        """Read the console until all of these have been there, but for the path of the app, which names the test."""
        assert self._popen.stdout is not None
        while not all(text in self.output.replace(str(self.folder.parent), "") for text in texts):
            line = self._popen.stdout.readline()
            self.output += line
            assert line, f"ended without {texts}:\n{self.output}"

    def signal(self, number: int) -> None:
        """Send a signal to the launcher, and to nobody else."""
        self._popen.send_signal(number)

    def finish(self) -> Finished:
        """Wait for the launcher's end."""
        assert self._popen.stdout is not None
        self.output += self._popen.stdout.read()
        return Finished(self._popen.wait(), self.output, self.folder)

    def wait_for_launcher(self) -> int:
        """Wait for the launcher's end, while others may still hold its console."""
        return self._popen.wait()

    def processes(self) -> list[psutil.Process]:
        """Find all that belong to this run, wherever they have moved to."""
        return marked(self._mark)

    def survivors(self, within: float = 60.0) -> list[str]:
        """Return the commands of those that are still there after some seconds."""
        deadline = time.monotonic() + within
        while (left := self.processes()) and time.monotonic() < deadline:
            psutil.wait_procs(left, timeout=max(0.0, deadline - time.monotonic()))
        return [f"{process.pid}: {' '.join(process.cmdline())}" for process in left]

    def kill(self) -> None:
        """Leave nothing behind, whatever a test has found."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


STAYS = """
    mark = Path(HydraConfig.get().runtime.output_dir) / "tried"
    if cfg.x == 1 and not mark.exists():
        mark.touch()
        print("waits for ever, child of", os.getppid(), flush=True)
        time.sleep(600)
    return cfg.x * 10
"""
"""A task of which the first attempt at the job with x=1 does not end."""


class App:
    """A Hydra app in a folder of its own.

    Args:
        folder: where it is written.
        body: of the task function `main(cfg)`.
        before: code in front of it.
        guarded: whether `main()` is called under `if __name__ == "__main__"`.
        module: run as `python -m` with this name instead of as a file.
        inside: a command that runs the app's, given as its arguments.
        single: whether `elastic_hydra.main` decorates it, and it runs without `-m`.
    """

    def __init__(
        self,
        folder: Path,
        body: str,
        *,
        before: str = "",
        guarded: bool = True,
        module: str | None = None,
        inside: Sequence[str] = (),
        single: bool = False,
    ) -> None:
        self.folder = folder
        self._single = single
        self._inside = inside
        self._module = module
        self.path = folder / (module.replace(".", "/") + ".py" if module else "app.py")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        call = 'if __name__ == "__main__":\n    main()\n' if guarded else "main()\n"
        decorator = "elastic_hydra.main" if single else "hydra.main"
        task = f"@{decorator}(version_base=None, config_path=None)\ndef main(cfg):\n"
        code = textwrap.dedent(before) + "\n\n" + task + textwrap.indent(textwrap.dedent(body), "    ") + "\n\n" + call
        self.path.write_text(HEAD + code)
        (folder / "spy.py").write_text(SPY)

    def environment(self) -> dict[str, str]:
        """Return the environment in which it finds what belongs to it."""
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": path}

    @contextlib.contextmanager
    def started(
        self,
        *overrides: str,
        name: str = "sweep",
        environ: dict[str, str] | None = None,
        terminal: Terminal | None = None,
    ) -> Iterator[Running]:
        """Run the app, as a sweep unless it is single, on a terminal if there is one; in the end, it is killed."""
        start = ["-m", self._module] if self._module else [str(self.path)]
        out = self.folder / name
        where = [f"hydra.run.dir={out}"] if self._single else ["-m", f"hydra.sweep.dir={out}"]
        command = [*self._inside, sys.executable, *start, *where, "hydra/launcher=elastic"]
        spy = ["+hydra.callbacks.spy._target_=spy.Spy", f"+hydra.callbacks.spy.file={self.folder / 'calls'}"]
        environ = {**self.environment(), **(environ or {})}
        running = Running([*command, *spy, *overrides], self.folder, out, environ, terminal)
        try:
            yield running
        finally:
            running.kill()

    def run(self, *overrides: str, environ: dict[str, str] | None = None) -> Finished:
        """Run the app to its end, as a sweep unless it is single, and see that nothing is left of it."""
        with self.started(*overrides, environ=environ) as running:
            finished = running.finish()
            assert running.survivors() == []
        return finished


def interrupted(code: int) -> bool:
    """Whether an exit code says Ctrl-C: as the shell writes it, or as the kernel does."""
    return code in (128 + signal.SIGINT, -signal.SIGINT)
