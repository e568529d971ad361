"""A group of worker processes on one node: started, waited for and ended together."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch.distributed.elastic.multiprocessing import PContext, RunProcsResult, SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.utils.logging import get_logger

from elastic_hydra import timeouts
from elastic_hydra.compat.torch import TorchTail, replace_tails
from elastic_hydra.elastic.starter import Starter
from elastic_hydra.elastic.tail import Tail
from elastic_hydra.elastic.worker_failure import WorkerFailure, death_of
from elastic_hydra.failures.echo import is_echo
from elastic_hydra.supervisor.client import ENDS, Process, ServerLost
from elastic_hydra.supervisor.gate import Gate
from elastic_hydra.supervisor.outcome import Outcome, Returned, has_value
from elastic_hydra.supervisor.signal_queue import interruptibly
from elastic_hydra.watch import stacks
from elastic_hydra.watch.pulses import Pulses

__all__ = ["WorkerGroup"]

logger = get_logger("elastic_hydra.agent")


class WorkerGroup(PContext):
    """The workers of one attempt of one agent."""

    def __init__(self, starter: Starter, **arguments: Any) -> None:
        super().__init__(**arguments)
        # An empty template means no prefix at all; torch would fill in its own.
        prefix = "" if starter.config.log_line_prefix_template == "" else None
        self._tails: list[Tail] = replace_tails(self, functools.partial(self._tail, prefix))
        self._starter = starter
        self._processes: dict[int, Process] = {}
        self._result: RunProcsResult | None = None
        self._closed = False
        self.started = time.time()
        """When the group was started, in seconds since the epoch."""
        self.pulses: Pulses | None = None
        """The workers' signs of life, and their stacks; None when nobody watches them or asks for stacks."""
        self._gate: Gate | None = None
        """Where those that have finished wait for the others; None: they end at once."""

    def _tail(self, prefix: str | None, torchs: TorchTail) -> Tail:
        """Make our tail of what torch has prepared."""
        prefixes = dict(torchs.prefixes)
        for rank in range(self.nprocs):
            if prefix is not None:
                prefixes[rank] = prefix
            prefixes.setdefault(rank, f"[{self.name}{rank}]:")
        return Tail(torchs.files, torchs.stream, prefixes, torchs.wanted, holds=torchs.stream is sys.stderr)

    def start(self) -> None:
        """Start the workers. Torch's way would also set signal handlers: who launches has set better ones."""
        self._start()
        for tail in self._tails:
            tail.start()

    def _start(self) -> None:
        if self._starter.config.watch.is_on() or self._starter.config.on_stacks is not None:
            self.pulses = Pulses(self.nprocs)
        if self._starter.config.keep_finished and self.nprocs > 1 and not isinstance(self.entrypoint, str):
            self._gate = Gate(self.nprocs)
        self._starter.start_all(self, self._processes)
        self._starter.server.wait(lambda: all(p.pid is not None or p.refused for p in self._processes.values()))
        if isinstance(self.entrypoint, str) and (on_programs := self._starter.config.on_programs) is not None:
            on_programs()

    def environment(self, local_rank: int) -> dict[str, str]:
        """Return the environment variables by which a worker finds what it shares with its agent."""
        found: dict[str, str] = {}
        if self.pulses is not None:
            found.update(self.pulses.environment(local_rank))
        if self._gate is not None:
            found.update(self._gate.environment())
        return found

    def pids(self) -> dict[int, int]:
        """Return the process ids by local rank."""
        return {local_rank: process.pid or 0 for local_rank, process in self._processes.items()}

    def running(self) -> dict[int, int]:
        """Return the process ids of those that have not ended, by local rank."""
        return {rank: p.pid for rank, p in self._processes.items() if p.exitcode is None and p.pid is not None}

    def working(self) -> set[int]:
        """Return the local ranks of those that run and do not wait for the others, having returned."""
        if self._gate is None or self._gate.is_open:
            return set(self.running())
        return {rank for rank in self.running() if not self._has_returned(self._processes[rank])}

    def output_size(self, local_rank: int) -> int:
        """Return how many bytes a worker has written to its stdout and stderr files."""
        total = 0
        for path in (self.stdouts[local_rank], self.stderrs[local_rank]):
            with contextlib.suppress(OSError):
                total += os.stat(path).st_size if path and path != os.devnull else 0
        return total

    def write_stacks(self, reason: str, *, last: bool) -> dict[int, stacks.Written]:
        """Write every worker's stacks into its log directory; see `stacks.write_stacks`."""
        if self.pulses is None:
            return {}
        folders = {rank: os.path.dirname(path) for rank, path in self.error_files.items()}
        return stacks.write_stacks(self._starter.server, self._processes, self.pulses, folders, reason, last=last)

    def how_they_left(self) -> dict[int, str]:
        """Say in words how those have ended that have ended well, by local rank."""
        done = {rank: p for rank, p in self._processes.items() if p.exitcode == 0 or self._has_returned(p)}
        return {rank: process.how_it_left() for rank, process in done.items()}

    def wait_for_end(self, timeout: float | None, also: Callable[[], bool] = lambda: False) -> None:
        """Return as soon as the group is finished or one of it has failed.

        Args:
            timeout: seconds after which to return anyway; None: never.
            also: another reason to return, looked at whenever a signal has come.
        """
        with contextlib.suppress(ServerLost):  # all of them have died with it, which is seen below
            self._starter.server.wait(lambda: self._needs_a_look() or self._may_leave() or also(), timeout)
            if self._gate is not None and self._may_leave():
                self._gate.open()
                self._starter.server.wait(self._needs_a_look, timeout)
            if not self._is_over() and (failed_at := self._failed_at()) is not None:
                left = max(0.0, failed_at + self._starter.config.shutdown_timeout - time.time())
                self._starter.server.wait(self._is_over, left if timeout is None else min(left, timeout))

    def _needs_a_look(self) -> bool:
        return self._is_over() or self._failed_at() is not None

    def _may_leave(self) -> bool:
        """Whether all wait for each other, having returned."""
        if self._gate is None or self._gate.is_open:
            return False
        return all(map(self._has_returned, self._processes.values()))

    def _is_over(self) -> bool:
        failed_at = self._failed_at()
        if failed_at is not None and time.time() >= failed_at + self._starter.config.shutdown_timeout:
            return True
        codes = [process.exitcode for process in self._processes.values()]
        return all(code is not None for code in codes) or any(code not in (None, 0) for code in codes) or self._gone()

    def _failed_at(self) -> float | None:
        """Return when the first one has failed of those that run: its end is not waited for beyond the timeout."""
        running = [process for process in self._processes.values() if process.exitcode is None]
        return min((at for process in running if (at := process.failed_at()) is not None), default=None)

    def is_failing(self) -> bool:
        """Whether a worker has failed whose process goes on, for exit functions, threads or processes of its own."""
        return self._failed_at() is not None

    def _gone(self) -> bool:
        """Whether one ended well in appearance, without a result: the others may wait for it for ever."""
        return any(p.exitcode == 0 and not self._has_value(p) for p in self._processes.values())

    def _has_returned(self, process: Process) -> bool:
        """Whether a function, or a script that a warm worker runs, has returned; of other programs nobody knows it."""
        return process.result_fd >= 0 and has_value(process.result_fd)

    def _has_value(self, process: Process) -> bool:
        # A program has none, also where a warm worker runs it: its exit code says all.
        return isinstance(self.entrypoint, str) or has_value(process.result_fd)

    def _poll(self) -> RunProcsResult | None:
        with contextlib.suppress(ServerLost):
            self._starter.server.pump()
        if self._result is None and self._is_over():
            own_failures = self._failures()
            if own_failures and all(failure.is_echo for failure in own_failures.values()):
                self._wait_for_another_end()
                own_failures = self._failures()
                own_failures = self._who_left(own_failures) | own_failures
            failures: dict[int, ProcessFailure] = dict(own_failures)
            values = {} if failures else interruptibly(self._values, failures)
            self._result = RunProcsResult(
                return_values={} if failures else values,
                failures=failures,
                stdouts=self.stdouts,
                stderrs=self.stderrs,
            )
            self._log(failures)
            self.close(signal.SIGTERM, self._starter.config.shutdown_timeout)
        return self._result

    def _wait_for_another_end(self) -> None:
        """Wait a moment for the worker whose end has broken the others' connections, to report it and not them."""

        def ended() -> int:
            return sum(process.exitcode is not None for process in self._processes.values())

        before = ended()
        with contextlib.suppress(ServerLost):
            self._starter.server.wait(lambda: before == self.nprocs or ended() > before, timeouts.ROOT_CAUSE_DELAY)

    def _who_left(self, failures: Mapping[int, WorkerFailure]) -> dict[int, WorkerFailure]:
        """Describe those that have ended well while others still worked with them, whose connections broke."""
        if not all(failure.lost_other_rank for failure in failures.values()):
            return {}
        left = {}
        for local_rank, process in self._processes.items():
            if local_rank not in failures and process.exitcode == 0:
                what = f"{process.how_it_left()} while other ranks still worked with it"
                left[local_rank] = self._failure(local_rank, process, what=what)
        return left

    def _values(self, failures: dict[int, ProcessFailure]) -> dict[int, Any]:
        values: dict[int, Any] = {}
        for local_rank, process in self._processes.items():
            try:
                outcome = process.outcome()
            except Exception as error:
                what = f"returned a value that cannot be read by its agent: {type(error).__name__}: {error}"
                failures[local_rank] = self._failure(local_rank, process, what=what)
                continue
            value = outcome.value if outcome is not None else None
            values[local_rank] = value.value if type(value) is Returned else value
        return values

    def _failures(self) -> dict[int, WorkerFailure]:
        """Describe those that have failed by themselves so far, the first to fail first."""
        failures = {}
        for local_rank, process in self._processes.items():
            outcome = process.outcome(errors_only=True)
            if process.exitcode == 0 and outcome is None and not self._has_value(process):
                what = (
                    f"ended with exit code 0 (PID {process.pid}) but without a result: something in it called os._exit"
                )
                failures[local_rank] = self._failure(local_rank, process, what=what)
            elif process.exitcode not in (None, 0) or outcome is not None:
                failures[local_rank] = self._failure(local_rank, process, what=process.refused, outcome=outcome)
        return dict(sorted(failures.items(), key=lambda item: item[1].exact_time))

    def _failure(
        self, local_rank: int, process: Process, what: str = "", outcome: Outcome | None = None
    ) -> WorkerFailure:
        return WorkerFailure.of(
            local_rank,
            process.pid or 0,
            1 if process.exitcode is None else process.exitcode,
            self.error_files[local_rank],
            what=what,
            outcome=outcome,
            at=process.exit_time or None,
            refused=bool(process.refused),
            speaks=process.result_fd >= 0,
        )

    def _log(self, failures: Mapping[int, ProcessFailure]) -> None:
        # For details; what follows from them is said by the agent. Not logger.exception: torch's formatter imports
        # torch._dynamo for a record with an exception, two seconds long.
        for local_rank, failure in failures.items():
            said = failure.error if isinstance(failure, WorkerFailure) else None
            what = f"{said.type_name}: {said.message}" if said is not None else failure.message
            logger.info(
                "local_rank %s (pid %s) failed with exitcode %s: %s", local_rank, failure.pid, failure.exitcode, what
            )

    def _without_last_words(self) -> set[int]:
        """Return those whose last words say nothing: they are stopped, or lost the connection to one that failed."""
        everybody = set(range(self.nprocs))
        if self._result is None or not self._result.failures:
            return everybody if self._result is None else set()
        failures = self._result.failures
        causes = {rank for rank, failure in failures.items() if not is_echo(death_of(rank, failure, self.started))}
        return everybody - (causes or set(failures))

    def _close(self, death_sig: signal.Signals, timeout: int = 30) -> None:
        if self._closed:
            return
        self._closed = True
        silent = self._without_last_words()
        for tail in self._tails:
            tail.hold_back(silent)
        if self._gate is not None:
            self._gate.open()
        # Without `timeout`: torch passes 30 seconds on most ways to here, whatever the configuration says.
        further = self._end_processes(death_sig)
        if self.pulses is not None:
            self.pulses.close()
            self.pulses = None
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        self._starter.server.forget(self._processes.values())
        if further is not None:
            raise further

    def _end_processes(self, number: signal.Signals) -> SignalException | None:
        """End the workers, and what they leave running.

        Args:
            number: the signal that they get; SIGTERM follows one that is no end, SIGKILL when they do not end.

        Returns:
            the last further signal to this process, which has taken the place of `number` meanwhile.
        """
        further: SignalException | None = None
        while True:
            try:
                self._stop(number)
                self._starter.server.clean()
                return further
            except SignalException as error:  # noqa: PERF203
                further = error
                # The same again: a second Ctrl-C, or the first signal to this process while a restart stops workers.
                number = signal.SIGTERM if error.sigval == number else error.sigval

    def _stop(self, number: signal.Signals) -> None:
        server, processes = self._starter.server, list(self._processes.values())
        if number not in ENDS:
            server.ask(processes, number, self._starter.config.checkpoint_timeout)
            number = signal.SIGTERM
        for process in server.stop(processes, number, self._starter.config.shutdown_timeout):
            logger.error("process %s does not die even by SIGKILL: it is stuck in the kernel", process.pid)
