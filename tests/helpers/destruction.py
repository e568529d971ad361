"""Sweeps whose hosts and launchers are taken away at random moments, and what must hold in the end.

::

    test ── may_end: 5 ──▶ jobs run until they may end: while the journal has less than five ends
     └─ preempts, kills a host, kills the launcher: one disaster after the other, and after each, one more may end

So jobs run at each disaster, some end between any two of them, and nothing depends on how fast the machine is.
"""

from __future__ import annotations

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from elastic_hydra.journal.events import Event, JobEnded
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import MARKER, App, marked

__all__ = ["KEYS", "MORE_JOBS", "SIZES", "Destruction", "Launcher", "destruction_app"]

Seen = TypeVar("Seen")

KEYS = [
    "hydra.launcher.nproc_per_node=1",
    "hydra.launcher.parallel=2",
    "hydra.launcher.checkpoint_timeout=1",
    "hydra.launcher.shutdown_timeout=2",
    "hydra/launcher/logs=all",
    "hydra/launcher/retry=preemptible",
    "hydra.launcher.retry.backoff.initial=0",
    "hydra.launcher.retry.max_attempts=1000",
]
"""Of the launcher; a job that loses its host again and again is tried again all the same."""

_BODY = """
    import fcntl
    here = Path(HydraConfig.get().runtime.output_dir)
    lock = (here / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with (here.parent.parent / "breaches").open("a") as file:
            file.write(f"two copies of x={cfg.x}; one is process {os.getpid()}\\n")
    if cfg.x % 4 == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if cfg.x % 4 == 2:
        subprocess.Popen(["setsid", "sleep", "3600"])
    limit, journal, checkpoint = here.parent.parent / "may_end", here.parent / "journal.jsonl", here / "checkpoint"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    while step < 5 or journal.read_text().count('"state": "finished"') >= int(limit.read_text()):
        time.sleep(0.05)
        step += 1
        (here / "next").write_text(str(step))
        (here / "next").rename(checkpoint)
    return cfg.x * 10
"""
MORE_JOBS = 12
"""So many jobs more than disasters, since all that run may see at once that one may end."""
_PATIENCE = 600.0


SIZES = [
    pytest.param(False, marks=pytest.mark.timeout(900), id="short"),
    pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(7200)], id="full"),
]
"""Of a destruction: whether it is the full one, with dozens of disasters."""


def destruction_app(folder: Path) -> App:
    """Return an app whose jobs run until they may end, notice copies of themselves, and are hard to stop."""
    _write(folder / "may_end", 1)
    return App(folder, _BODY)


class Launcher:
    """A launcher that somebody has started in a shell. What it writes, in all its lives, is in the file `output`.

    Args:
        app: what it launches.
        mark: of all its processes, as the variable `apps.MARKER` has it.
        overrides: of its sweep, whose directory is `sweep` beside the app.
        environ: variables that it gets besides those of this process.
    """

    def __init__(self, app: App, mark: str, overrides: Sequence[str], environ: Mapping[str, str]) -> None:
        sweep = ["-m", f"hydra.sweep.dir={app.folder / 'sweep'}", "hydra/launcher=elastic", *overrides]
        self._command = [sys.executable, str(app.path), *sweep]
        self._environ = {**app.environment(), **environ, MARKER: mark}
        self._output = app.folder / "output"
        self._process = self._start()

    def _start(self, *overrides: str) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [*self._command, *overrides],
                cwd=self._output.parent,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill_the_launcher(self) -> None:
        """Kill it, and resume its sweep at once."""
        self._process.kill()
        self._process.wait()
        self._process = self._start("hydra.launcher.resume=true")

    def look(self) -> None:
        """Make sure that it has not ended."""
        assert self._process.poll() is None, self.output()

    def wait_for_success(self) -> None:
        """Wait for its end."""
        assert self._process.wait() == 0, self.output()

    def output(self) -> str:
        """Return what it has written so far."""
        return self._output.read_text(errors="replace")

    def end(self) -> None:
        """Kill it, whatever has become of it."""
        self._process.kill()
        self._process.wait()


class Destruction:
    """Disasters for a sweep of `destruction_app`.

    Args:
        folder: of the app.
        mark: of all processes of the sweep, as the variable `apps.MARKER` has it.
        seed: of the order and the moments.
    """

    def __init__(self, folder: Path, mark: str, seed: int) -> None:
        self._folder = folder
        self._sweep = folder / "sweep"
        self._mark = mark
        self._dice = random.Random(seed)
        print("seed", seed)

    def cause(
        self, disasters: Sequence[Callable[[], None]], jobs: int, look: Callable[[], None] = lambda: None
    ) -> None:
        """Cause disasters in a random order, and let the jobs end.

        Args:
            disasters: functions that cause one.
            jobs: how many the sweep has: `MORE_JOBS` more than there are disasters.
            look: called while something is waited for; raises if the sweep is over.
        """
        for number, disaster in enumerate(self._dice.sample(disasters, len(disasters))):
            if number == 0 or self._dice.random() < 0.7:  # or else this one meets what the last one has left
                self._await_ends(max(1, number), look)
            time.sleep(self._dice.uniform(0.0, 1.5))  # the random moment
            print(f"{time.strftime('%H:%M:%S')} disaster {number}: {disaster.__name__}", flush=True)
            disaster()
            _write(self._folder / "may_end", number + 2)
        _write(self._folder / "may_end", jobs)

    def _await_ends(self, count: int, look: Callable[[], None]) -> None:
        self.wait_for(lambda: len(self.ends()) >= count, f"the ends of {count} jobs", look)

    def wait_for(self, seen: Callable[[], Seen | None], what: str, look: Callable[[], None] = lambda: None) -> Seen:
        """Wait until `seen()` is true, and return it."""
        deadline = time.monotonic() + _PATIENCE
        while not (found := seen()):
            look()
            assert time.monotonic() < deadline, f"waiting for {what}"
            time.sleep(0.2)
        return found

    # --- what there is ---------------------------------------------------------------------------------------------

    def ends(self) -> list[JobEnded]:
        """Return the ends of jobs that have finished, as the journal has them."""
        return [event for event in self._events() if isinstance(event, JobEnded) and event.state == "finished"]

    def _events(self) -> Iterator[Event]:
        path = self._sweep / "journal.jsonl"
        return (event for _, event in Lines(path)) if path.exists() else iter(())

    def hosts(self) -> list[psutil.Process]:
        """Return the host processes that there are, or wait for one."""
        return self.wait_for(lambda: _with_word(self._mark, "elastic_hydra.hosts.host_process"), "a host process")

    # --- disasters -------------------------------------------------------------------------------------------------

    def kill_a_host(self) -> None:
        """Kill a host process, its warm server, or all that runs there."""
        host = self._dice.choice(self.hosts())
        with contextlib.suppress(psutil.NoSuchProcess):
            below = host.children(recursive=True)
            for process in self._dice.choice([[host], below[:1] or [host], [host, *below]]):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def tell_a_host(self) -> None:
        """Tell a host that it is to go, as batch systems do."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._dice.choice(self.hosts()).send_signal(self._dice.choice([signal.SIGTERM, signal.SIGUSR1]))

    # --- what must hold --------------------------------------------------------------------------------------------

    def check(self, jobs: int) -> None:
        """See that each job has exactly one result, no job ever ran twice at once, and no process is left.

        Args:
            jobs: how many the sweep has.
        """
        breaches = self._folder / "breaches"
        assert not breaches.exists(), breaches.read_text()
        ended = [event for event in self._events() if isinstance(event, JobEnded)]
        finished = [event for event in ended if event.state == "finished"]
        assert sorted(event.num for event in finished) == list(range(jobs)), "each job has one result"
        assert {event.num: event.value for event in finished} == {num: num * 10 for num in range(jobs)}
        with (self._sweep / "results.csv").open() as file:
            rows = [(row["+x"], row["state"], row["value"]) for row in csv.DictReader(file)]
        assert sorted(rows) == sorted((str(num), "finished", str(num * 10)) for num in range(jobs))
        self.wait_for_silence()

    def end(self) -> None:
        """Kill what is left."""
        for process in marked(self._mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def wait_for_silence(self) -> None:
        """Wait until no process of the sweep is left."""
        self.wait_for(lambda: not marked(self._mark), "the ends of all processes")


def _with_word(mark: str, word: str) -> list[psutil.Process]:
    """Return interpreters with a mark that run a module."""
    found = []
    for process in marked(mark):
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command and any(word in part for part in command) and "python" in os.path.basename(command[0]):
                found.append(process)
    return found


def _write(path: Path, number: int) -> None:
    """Write a file that others read at any time."""
    path.with_suffix(".next").write_text(str(number))
    path.with_suffix(".next").rename(path)
