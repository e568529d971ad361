"""`elastic-hydra status --watch`: a sweep is watched while its journal grows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import pytest

from elastic_hydra.journal.events import AttemptStarted, JobEnded, SweepBegan
from elastic_hydra.journal.writer import Journal
from tests.cli.recorded import composed
from tests.helpers.terminals import Terminal

pytestmark = pytest.mark.system

WATCH = [sys.executable, "-c", "import sys; from elastic_hydra.cli.main import main; sys.exit(main())", "status", "-w"]


class Sweep:
    """A sweep of two jobs whose launcher lives until it is ended.

    Args:
        folder: the sweep's directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = Journal(folder)
        self._journal.write(SweepBegan(command=["python", "train.py"], dir=str(folder)))
        for num in (0, 1):
            self._journal.write(composed(folder, num, f"lr={num}"))

    def start(self, num: int) -> None:
        """Let a job begin, and write a line."""
        log_dir = self.folder / str(num) / "logs" / "restart_0" / "rank_0"
        log_dir.mkdir(parents=True)
        (log_dir / "stdout.log").write_text(f"epoch 7 of job {num}\n")
        self._journal.write(AttemptStarted(num=num, attempt=0, first_restart=0))

    def finish(self, num: int, value: float) -> None:
        """Let a job end."""
        self._journal.write_end(JobEnded(num=num, state="finished", reason="", seconds=3.0), value)

    def end(self) -> None:
        """Let the launcher end: nobody holds the lock any more."""
        os.unlink(self.folder / "journal.lock")


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path / "sweep")


@contextlib.contextmanager
def watching(sweep: Sweep, stdout: int, environ: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Watch the sweep; a terminal as standard output is the controlling one, so that Ctrl-C is for the watcher."""

    def take_terminal() -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*WATCH, str(sweep.folder)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=take_terminal,
        # No line is broken because of a width that the environment of the tests tells.
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **(environ or {})},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of the watcher; return its exit code and what it has said on standard error."""
    return process.wait(120), stream(process.stderr).read()


def stream(found: IO[str] | None) -> IO[str]:
    assert found is not None
    return found


def test_on_a_terminal_the_status_is_drawn_anew_until_the_sweep_has_ended(sweep: Sweep) -> None:
    with Terminal(columns=200, rows=20) as terminal, watching(sweep, terminal.slave) as process:
        terminal.wait_for_text(f"{sweep.folder}: running for", "2 waiting")
        sweep.start(0)
        terminal.wait_for_text("1 running, 1 waiting", "epoch 7 of job 0")
        sweep.finish(0, 0.25)
        sweep.start(1)
        terminal.wait_for_text("1 running, 1 finished", "epoch 7 of job 1")
        sweep.finish(1, 0.5)
        sweep.end()
        assert ended(process) == (0, "")
        terminal.wait_for_text("2 finished")
        assert "running" not in terminal.text  # what was drawn before has been drawn over
        assert terminal.text.count("#1") == 1
        assert not terminal.screen.cursor.hidden


def test_in_a_pipe_each_change_is_a_line(sweep: Sweep) -> None:
    with watching(sweep, subprocess.PIPE) as process:
        lines = stream(process.stdout)
        assert lines.readline().endswith(" running: 2 waiting\n")
        sweep.start(0)
        assert lines.readline().endswith(" running: 1 running, 1 waiting\n")
        sweep.finish(0, 0.25)
        assert lines.readline().endswith(" running: 1 waiting, 1 finished\n")
        sweep.end()
        assert lines.readline().endswith(" died: 1 not started, 1 finished\n")
        assert lines.read() == ""
        assert ended(process) == (1, "")


def test_a_terminal_that_cannot_be_drawn_on_gets_lines(sweep: Sweep) -> None:
    with Terminal(columns=200) as terminal, watching(sweep, terminal.slave, {"TERM": "dumb"}) as process:
        terminal.wait_for_text("running: 2 waiting")
        sweep.end()
        assert ended(process) == (1, "")
        terminal.wait_for_text("died: 2 not started")
    assert b"\x1b" not in terminal.raw


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_ctrl_c_ends_it_without_a_traceback(sweep: Sweep, term: str) -> None:
    with Terminal(columns=200) as terminal, watching(sweep, terminal.slave, {"TERM": term}) as process:
        terminal.wait_for_text("2 waiting")
        terminal.type("\x03")
        code, said = ended(process)
        assert (code, said.strip()) == (130, "")
        terminal.read()
        assert not terminal.screen.cursor.hidden
        assert "Traceback" not in terminal.text
