"""How one worker failed, in the form that torch reports it, without its shortcomings."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from elastic_hydra.launcher.outcome import Outcome, PackedError, unpack

__all__ = ["WorkerFailure", "WorkersFailedError"]


class WorkerFailure(ProcessFailure):
    """A failed worker: torch's `ProcessFailure`, with the exception itself where the worker handed one over."""

    error: PackedError | None = None
    """The worker's exception, if it is known."""
    exact_time: float = 0.0
    """When it failed, in seconds since the epoch; torch's `timestamp` has whole seconds, too coarse to find the first."""

    @classmethod
    def of(
        cls,
        local_rank: int,
        pid: int,
        exitcode: int,
        error_file: str,
        *,
        what: str = "",
        outcome: Outcome | None = None,
        at: float | None = None,
    ) -> WorkerFailure:
        """Describe a failure, and leave an error file where the worker could not.

        Args:
            local_rank: of the worker.
            pid: its process id.
            exitcode: its exit code; minus the signal's number when one killed it.
            error_file: where its error file is, or belongs.
            what: the reason in words, when it is not an exception that the worker wrote down itself.
            outcome: what the worker handed over.
            at: when it ended, in seconds since the epoch.
        """
        error = outcome.error if outcome is not None else None
        when = error.time if error is not None else (at or time.time())
        if not _is_complete(error_file) and not _write_error_file(error_file, what or _reason(pid, exitcode), when, error):
            error_file = ""
        failure = cls(local_rank=local_rank, pid=pid, exitcode=exitcode, error_file=error_file)
        failure.error, failure.exact_time, failure.timestamp = error, when, int(when)
        if not error_file and what:
            failure.message = what
        return failure

    def _set_no_reply_file(self) -> None:
        super()._set_no_reply_file()
        self.error_file_data = dict(self.error_file_data)  # torch would write this failure's traits into all others'


def _reason(pid: int, exitcode: int) -> str:
    if exitcode < 0:
        return f"Signal {-exitcode} ({signal.Signals(-exitcode).name}) received by PID {pid}"
    return f"exit code {exitcode} (PID {pid}); its own words, if any, are in its stderr.log"


def _is_complete(error_file: str) -> bool:
    try:
        with open(error_file) as file:
            return "message" in json.load(file)
    except (OSError, ValueError, TypeError):
        return False  # it was never written, or its writer was killed while it wrote


def _write_error_file(path: str, reason: str, when: float, error: PackedError | None) -> bool:
    message: Any = reason
    if error is not None:
        message = {
            "message": f"{error.type_name}: {error.message}",
            "extraInfo": {"py_callstack": error.text, "timestamp": str(int(when))},
        }
    try:
        with open(path, "w") as file:
            json.dump({"message": message, "timestamp": int(when)}, file)
        return True
    except OSError:
        return False  # a full or vanished disk: the failure is reported all the same, from memory


class WorkersFailedError(ChildFailedError):
    """One or several workers failed. Its `__cause__` is the exception of the one that failed first."""

    def __init__(self, name: str, failures: dict[int, ProcessFailure]) -> None:
        super().__init__(name, failures)
        _, first = self.get_first_failure()
        packed = getattr(first, "error", None)
        if packed is not None:
            self.__cause__ = unpack(packed)

    def get_first_failure(self) -> tuple[int, ProcessFailure]:
        """Return the global rank and the failure of the worker that failed first."""
        return min(self.failures.items(), key=lambda item: getattr(item[1], "exact_time", item[1].timestamp))
