"""A sweep, or a run, that Python code has launched: its results as objects, and its end."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elastic_hydra import timeouts
from elastic_hydra.apps.python_launcher import THREADS, App, Order, launch
from elastic_hydra.compat.hydra_app import decoration_of, name_and_folder
from elastic_hydra.jobs.task import HydraState
from elastic_hydra.journal.events import JobEnded
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.place import FILE_NAME
from elastic_hydra.journal.values import Value
from elastic_hydra.journal.writer import path_of_another
from elastic_hydra.overview.follow import Follower
from elastic_hydra.supervisor.client import Client, ServerLost
from elastic_hydra.supervisor.forked import ProcessSpec, current_umask
from elastic_hydra.supervisor.main_module import stop_if_executed_again
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.packed_error import PackedError, unpack
from elastic_hydra.sweeps.kept_server import PRELOAD

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["JobResult", "LaunchedSweep", "run", "sweep"]

_LOOK_INTERVAL = 0.1
"""Seconds between two looks into the journal."""
_SHUTDOWN_TIMEOUT = timeouts.end_of_server(timeouts.end_of_agent(60.0))
"""Seconds that a launcher has to stop its jobs when its caller ends: enough for a `shutdown_timeout` of 60."""


@dataclass(frozen=True)
class JobResult:
    """How one job has ended."""

    num: int
    """The number of the job, from 0 on."""
    overrides: Sequence[str]
    """What the job was given, without overrides of Hydra's own."""
    state: str
    """`finished`, `failed`, `interrupted`, `preempted`, `not started`, or `lost`: the launcher was killed."""
    value: Any
    """What the task function has returned, on rank 0 unless `return_values` asks for all; None: it has not finished."""
    reason: str
    """Why the job has not finished, in one line; empty: it has."""
    dir: Path
    """The job's output directory."""
    log: Path | None
    """Where to read on about its failure."""


def sweep(
    app: Callable[..., Any],
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
) -> LaunchedSweep:
    """Start a sweep over an app, as `python app.py -m hydra/launcher=elastic …` does, and return at once.

    Nothing of this process changes: the launcher is a process of its own.

    Args:
        app: a function that `hydra.main` or `elastic_hydra.main` decorates, or a plain task function.
        overrides: as on the command line: `["lr=0.1,0.01", "hydra.launcher.nproc_per_node=2"]`.
        config_dir: where the configuration is, relative to the working directory; None: where the decorator says.
        config_name: of the primary configuration; None: what the decorator says.

    Returns:
        the sweep, which runs.
    """
    return _launched(app, overrides, config_dir, config_name, single=False)


def run(
    app: Callable[..., Any],
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
) -> JobResult:
    """Run an app once, as `python app.py hydra/launcher=elastic …` does if `elastic_hydra.main` decorates it.

    Args:
        app: see `sweep`, as for all arguments.
        overrides: as on the command line.
        config_dir: where the configuration is.
        config_name: of the primary configuration.

    Returns:
        how the run has ended; that it has failed is no exception here.

    Raises:
        ConfigError: a setting was refused.
        Exception: Hydra cannot compose the configuration.
    """
    with _launched(app, overrides, config_dir, config_name, single=True) as launched:
        results = launched.results()
    if not results:
        return JobResult(0, list(overrides), "not started", None, "hydra.launcher.dry_run=true", launched.dir, None)
    return results[0]


def _launched(
    app: Callable[..., Any],
    overrides: Sequence[str],
    config_dir: str | os.PathLike[str] | None,
    config_name: str | None,
    *,
    single: bool,
) -> LaunchedSweep:
    stop_if_executed_again()
    if isinstance(overrides, str):
        raise TypeError(f"overrides={overrides!r}: must be a list of overrides, as [{overrides!r}]")
    decoration = decoration_of(app)
    name, folder = name_and_folder(decoration)
    what = App(
        decoration.task_function,
        name,
        folder if config_dir is None else os.path.abspath(config_dir),
        decoration.config_name if config_name is None else config_name,
        decoration.execution_whitelist,
    )
    return LaunchedSweep(what, list(overrides), single=single)


class LaunchedSweep:
    """A sweep that runs in a launcher of its own, and is cancelled at the end of a `with` statement or this process.

    Args:
        app: what is launched.
        overrides: as on the command line.
        single: whether it is one run, and no sweep.
    """

    def __init__(self, app: App, overrides: list[str], *, single: bool = False) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="elastic_hydra.")
        self._announcement = Path(self._temporary.name) / "directory"
        shared = {"task_function": app.task_function, "hydra_state": HydraState()}
        # Were these imported by the launcher, numpy's threads would keep it from being forked in its turn.
        preload = (*PRELOAD, "elastic_hydra.sweeps.sweep")
        for name in preload:
            importlib.import_module(name)
        self._server = open_server("warm", shared, _SHUTDOWN_TIMEOUT, preload=preload)
        # A launcher with thread pools could not be forked into a server; it gives the variable back to its jobs.
        environ = {**os.environ, THREADS: "1"}
        spec = ProcessSpec(None, environ, os.getcwd(), current_umask())
        order = Order(app, overrides, single, self._announcement, os.environ.get(THREADS))
        arguments = (order, shared["hydra_state"])
        self._launcher = self._server.start(spec, (launch, arguments))
        self._end = weakref.finalize(self, _close, self._server, os.getpid())
        self._follower: Follower | None = None
        self._searched = 0
        """How far the journal was searched for values that are not JSON, in bytes."""
        self._recorded: dict[int, Value] = {}
        """What was found there, by the jobs' numbers: also of jobs whose ends the overview does not have yet."""
        self._results: dict[int, JobResult] = {}
        self._error: BaseException | None = None
        self._is_told_to_stop = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self.wait()

    @property
    def dir(self) -> Path:
        """The directory of the sweep; waits until it is known.

        Raises:
            Exception: Hydra cannot compose the configuration.
        """
        while (folder := self._folder()) is None:
            if self._has_ended():
                self.wait()
                raise self._error or RuntimeError("the launcher has ended before it has composed the configuration")
            self._pause()
        return folder

    @property
    def running(self) -> bool:
        """Whether the launcher still runs."""
        return not self._has_ended()

    def as_completed(self) -> Iterator[JobResult]:
        """Yield the result of each job when it has ended, in the order of the ends.

        Ctrl-C while it waits stops the sweep, as at the command line.

        Raises:
            ConfigError: a setting was refused.
            Exception: Hydra cannot compose the configuration.
        """
        yielded: set[int] = set()
        while True:
            with self._stopped_by_interrupts():
                ended = self._has_ended()  # asked first: what is written afterwards is read in any case
                self._look(last=ended)
            new = [result for num, result in list(self._results.items()) if num not in yielded]
            for result in new:
                yielded.add(result.num)
                yield result
            if ended:
                break
            with self._stopped_by_interrupts():
                self._pause()
        self._close()
        if self._error is not None and all(result.state == "finished" for result in self._results.values()):
            raise self._error

    def results(self) -> list[JobResult]:
        """Wait for the end of the sweep, and return the results of all jobs, in the order of their numbers.

        Raises:
            ConfigError, Exception, KeyboardInterrupt: see `as_completed`.
        """
        with self._stopped_by_interrupts():
            return sorted(self.as_completed(), key=lambda result: result.num)

    def wait(self) -> None:
        """Wait until the launcher and all its jobs have ended."""
        while not self._has_ended():
            self._pause()
        self._look(last=True)
        self._close()

    def cancel(self) -> None:
        """Stop the sweep, as SIGTERM does: its jobs are asked to end, and are `preempted`. It returns at once."""
        self._stop(signal.SIGTERM)

    # --- the launcher ---------------------------------------------------------------------------------------------

    def _stop(self, number: signal.Signals) -> None:
        if not self._has_ended():
            self._is_told_to_stop = True
            with contextlib.suppress(ServerLost):
                self._server.signal([self._launcher], number)

    def _has_ended(self) -> bool:
        if self._launcher.exitcode is None:
            with contextlib.suppress(ServerLost):  # then it has ended, too
                self._server.pump(0.0)
        return self._launcher.exitcode is not None

    def _pause(self) -> None:
        """Wait a moment, or until the launcher has ended."""
        with contextlib.suppress(ServerLost):
            self._server.wait(lambda: self._launcher.exitcode is not None, _LOOK_INTERVAL)

    @contextlib.contextmanager
    def _stopped_by_interrupts(self) -> Iterator[None]:
        """A context in which Ctrl-C stops the sweep, and is raised when all its jobs have ended."""
        try:
            yield
        except KeyboardInterrupt:
            self._stop(signal.SIGINT)
            self.wait()
            raise

    def _close(self) -> None:
        """Take in how the launcher has ended, and give back what it has needed."""
        if not self._end.alive:
            return
        outcome, code = self._launcher.outcome(), self._launcher.exitcode
        error = None if outcome is None else outcome.error or outcome.value
        if isinstance(error, PackedError):
            self._error = unpack(error)
        elif code != 0 and not self._is_told_to_stop:
            self._error = RuntimeError(f"the launcher (pid {self._launcher.pid}) has ended with exit code {code}")
        self._end()
        self._temporary.cleanup()

    # --- what the journal says ------------------------------------------------------------------------------------

    def _folder(self) -> Path | None:
        if self._follower is not None:
            return self._follower.path.parent
        try:
            folder = Path(self._announcement.read_text())
        except FileNotFoundError:
            return None
        self._follower = Follower(folder / FILE_NAME)
        return folder

    def _look(self, *, last: bool) -> None:
        """Note the jobs that have ended.

        Args:
            last: whether the launcher has ended, so that all jobs have.
        """
        folder = self._folder()
        if folder is None or self._follower is None:
            return
        another = path_of_another(folder, self._launcher.pid or 0)
        if self._follower.path != another and another.exists():
            self._follower = Follower(another)
        with contextlib.suppress(FileNotFoundError):
            if not self._follower.read() and not last:
                return
        overview = self._follower.overview
        if last:
            overview.alive = False  # if it was killed, the ends of its jobs are only a matter of time
        began = overview.began
        if began is None or began.pid != self._launcher.pid:
            return  # the journal is still that of an earlier launcher
        ended = [
            job
            for job in overview.jobs.values()
            if job.num not in self._results and (last or (job.ended is not None and job.ended >= began.time))
        ]
        values = self._values({job.num for job in ended if job.state == "finished" and job.value is None})
        for job in ended:
            log = None if job.log is None else Path(job.log)
            value = values.get(job.num, job.value)
            state = overview.state_of(job)
            result = JobResult(job.num, list(job.overrides), state, value, job.reason, Path(job.dir), log)
            self._results[job.num] = result

    def _values(self, nums: set[int]) -> dict[int, Any]:
        """Return what jobs have returned that the overview does not have, since it is not JSON."""
        if not nums or self._follower is None:
            return {}
        path = self._follower.path
        lines = Lines(path, self._searched)
        for self._searched, event in lines:  # the last line is read again: it is not known where the next one begins
            if isinstance(event, JobEnded):
                self._recorded[event.num] = Value.of(event, path, lines.distrust)
        return {num: self._recorded.pop(num).load() for num in nums & self._recorded.keys()}


def _close(server: Client, owner: int) -> None:
    if os.getpid() == owner:  # a fork of the owner has a copy of this, but not the server
        server.close()
