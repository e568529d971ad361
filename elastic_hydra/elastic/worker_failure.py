"""How one worker failed, in the form that torch reports it, without its shortcomings."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import re
import signal
import sys
import time
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from elastic_hydra.failures.echo import is_echo, lost_other_rank
from elastic_hydra.failures.evidence import Death, ExceptionFacts
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.supervisor.outcome import Outcome
from elastic_hydra.supervisor.packed_error import PackedError, full_name, pack, unpack
from elastic_hydra.supervisor.process_limits import with_limit

__all__ = ["WorkerFailure", "WorkersFailedError", "death_of", "facts_of"]

_TAIL = 1 << 16
"""Bytes at the end of a worker's stderr in which its last words are looked for."""

_TRAITS_WITHOUT_ERROR = {"category": "system_terminated_error", "retryability": "False"}
"""What torch's `ProcessFailure` says of a process that ended with an exit code and without an exception."""


class WorkerFailure(ProcessFailure):
    """A failed worker: torch's `ProcessFailure`, with the exception itself where the worker handed one over."""

    error: PackedError | None = None
    """The worker's exception, if it is known."""
    exact_time: float = 0.0
    """When it failed, in seconds since the epoch; torch's `timestamp` has whole ones, too coarse to find the first."""
    what: str = ""
    """The reason in words, when it is not an exception that the worker wrote down itself."""
    refused: bool = False
    """Whether the worker could not even be started."""
    speaks: bool = False
    """Whether it hands over its exception: what else it wrote to its stderr is not the reason of its end."""

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
        refused: bool = False,
        speaks: bool = False,
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
            refused: whether it could not even be started.
            speaks: whether it hands over its exception, if it has one.
        """
        what = with_limit(what)
        error = outcome.error if outcome is not None else None
        when = error.time if error is not None else (at or time.time())
        reason = what or _reason(pid, exitcode)
        if not _is_complete(error_file) and not _write_error_file(error_file, reason, when, error, exitcode):
            error_file = ""
        failure = cls(local_rank=local_rank, pid=pid, exitcode=exitcode, error_file=error_file)
        failure.error, failure.exact_time, failure.timestamp = error, when, int(when)
        failure.what, failure.refused, failure.speaks = what, refused, speaks
        if not error_file and what:
            failure.message = what
        return failure

    @property
    def is_echo(self) -> bool:
        """Whether another worker's death has caused it."""
        return is_echo(death_of(self.local_rank, self, 0.0))

    @property
    def lost_other_rank(self) -> bool:
        """Whether the connection to another rank broke, or the worker waited in it in vain."""
        return lost_other_rank(death_of(self.local_rank, self, 0.0))

    def _set_no_reply_file(self) -> None:
        super()._set_no_reply_file()  # type: ignore[no-untyped-call]
        self.error_file_data = dict(self.error_file_data)  # torch would write this failure's traits into all others'


def _reason(pid: int, exitcode: int) -> str:
    if exitcode < 0:
        known = -exitcode in signal.Signals.__members__.values()  # not the real-time ones
        name = signal.Signals(-exitcode).name if known else "a real-time signal"
        return f"Signal {-exitcode} ({name}) received by PID {pid}"
    return f"exit code {exitcode} (PID {pid}); its own words, if any, are in its stderr.log"


def _is_complete(error_file: str) -> bool:
    try:
        with open(error_file) as file:
            return "message" in json.load(file)
    except (OSError, ValueError, TypeError):
        return False  # it was never written, or its writer was killed while it wrote


def _write_error_file(path: str, reason: str, when: float, error: PackedError | None, exitcode: int) -> bool:
    message: Any = reason
    traits: dict[str, Any] = {}
    if error is None and exitcode >= 0:
        traits = {"errorTraits": _TRAITS_WITHOUT_ERROR}
    if error is not None:
        message = {
            "message": f"{error.type_name}: {error.message}",
            "extraInfo": {"py_callstack": error.text, "timestamp": str(int(when))},
        }
    try:
        with open(path, "w") as file:
            json.dump({"message": message, "timestamp": int(when), **traits}, file)
        return True
    except OSError:
        return False  # a full or vanished disk: the failure is reported all the same, from memory


class WorkersFailedError(ChildFailedError):
    """One or several workers failed. Its `__cause__` is the exception of the one that failed first."""

    verdict: Verdict | None
    """What kind of failure it is, and why no restart followed."""

    def __init__(self, name: str, failures: dict[int, ProcessFailure], verdict: Verdict | None = None) -> None:
        self.verdict = verdict
        super().__init__(name, failures)
        culprit = verdict.failure.rank if verdict is not None else None
        if culprit is not None and culprit not in failures:
            return  # it is another node's; those of this one only lost the connection to it
        _, first = self.get_first_failure()
        packed = getattr(first, "error", None)
        if packed is not None:
            self.__cause__ = unpack(packed)

    def get_first_failure(self) -> tuple[int, ProcessFailure]:
        """Return the global rank and the failure of the worker that failed first, of its own accord."""
        rank = self.verdict.failure.rank if self.verdict is not None else None
        if rank is not None and rank in self.failures:
            return rank, self.failures[rank]

        def when(item: tuple[int, ProcessFailure]) -> tuple[bool, float]:
            failure = item[1]
            # Who lost a connection may have said so before the kernel reported the end of the other side.
            return getattr(failure, "is_echo", False), getattr(failure, "exact_time", failure.timestamp)

        return min(self.failures.items(), key=when)


def facts_of(error: PackedError | BaseException) -> ExceptionFacts:
    """Return what there is to know of an exception without having it."""
    packed = error if isinstance(error, PackedError) else pack(error)
    return ExceptionFacts(
        packed.type_name,
        packed.bases,
        packed.message,
        packed.text,
        cause=facts_of(packed.cause) if packed.cause is not None else None,
        context=facts_of(packed.context) if packed.context is not None else None,
        members=tuple(map(facts_of, packed.members)),
    )


def death_of(rank: int, failure: ProcessFailure, started: float) -> Death:
    """Gather what is known of a worker's death.

    Args:
        rank: its global rank.
        failure: what its supervisor says.
        started: when its group was started, in seconds since the epoch.
    """
    packed: PackedError | None = getattr(failure, "error", None)
    when = getattr(failure, "exact_time", 0.0) or float(failure.timestamp)
    log_dir = os.path.dirname(failure.error_file) if os.path.isfile(failure.error_file) else ""
    exception, last_line = (facts_of(packed), "") if packed is not None else _last_words(failure, log_dir)
    return Death(
        rank=rank,
        time=when,
        exitcode=failure.exitcode,
        uptime=max(0.0, when - started),
        pid=failure.pid,
        exception=exception,
        last_line=last_line,
        what=getattr(failure, "what", ""),
        refused=getattr(failure, "refused", False),
        log_dir=log_dir,
    )


def _last_words(failure: ProcessFailure, log_dir: str) -> tuple[ExceptionFacts | None, str]:
    """Read the exception of a program from the error file that torch's `record` wrote, or from its stderr.

    Returns:
        also the last line there: it may be the text that `sys.exit` was given.
    """
    if failure.exitcode <= 0 or getattr(failure, "refused", False):
        return None, ""
    said = failure.message
    if isinstance(said, dict) and "extraInfo" in said:
        name, _, text = str(said.get("message", "")).partition(": ")
        return _by_name(name, text, str(said["extraInfo"].get("py_callstack", ""))), ""
    with contextlib.suppress(OSError), open(os.path.join(log_dir, "stderr.log"), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        text = _RANKS_PREFIX.sub("", file.read().decode(errors="replace"))
        # Python ends with 1 after an exception: with another code of its own a program has handled what it printed.
        unhandled = failure.exitcode == 1 and not getattr(failure, "speaks", False)
        return _uncaught(text) if unhandled else None, next(iter(text.strip().splitlines()[-1:]), "")
    return None, ""


_RANKS_PREFIX = re.compile(r"^\[rank\d+\]: ?", re.MULTILINE)
"""What torch puts before each line of a traceback in a process group."""

_CHAINED = re.compile(
    r"\n\n(?:The above exception was the direct cause of the following|During handling of the above) exception"
    r"(?:, another exception occurred)?:\n\n$"
)


def _uncaught(text: str) -> ExceptionFacts | None:
    """Find the exception that Python printed last before it ended."""
    before, found, trace = text.rpartition("Traceback (most recent call last):\n")
    # A syntax error in the script itself is printed without that line.
    lines = trace.splitlines()
    for index, line in enumerate(lines):
        match = re.match(r"([A-Za-z_][\w.]*)(?:: (.*))?$", line)
        ends_like_one = match is not None and re.search(r"(Error|Exception|Exit|Interrupt)$", match[1])
        if match is not None and (ends_like_one or (found and not line.startswith(" "))):
            message = "\n".join([match[2] or "", *lines[index + 1 :]]).strip()
            link = _CHAINED.search(before)
            return _by_name(match[1], message, trace, _uncaught(before[: link.start()]) if link else None)
    return None


def _by_name(name: str, message: str, trace: str, cause: ExceptionFacts | None = None) -> ExceptionFacts:
    """Describe an exception whose class is known by name; its bases too, if it is loaded here."""
    module, _, short = name.rpartition(".")
    cls = getattr(sys.modules.get(module), short, None) if module else getattr(builtins, name, None)
    bases = [full_name(base) for base in cls.__mro__[1:] if base is not object] if isinstance(cls, type) else []
    return ExceptionFacts(name, tuple(bases), with_limit(message), trace, cause=cause)
