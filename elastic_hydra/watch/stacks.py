"""Where every worker of a group is: writes its Python stacks, and what the kernel says of it, to its log directory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from elastic_hydra import timeouts
from elastic_hydra.supervisor.client import Client, Process, ServerLost
from elastic_hydra.supervisor.users_frames import internal_files
from elastic_hydra.watch.pulses import Pulses
from elastic_hydra.worker import STACKS_SIGNAL

__all__ = ["FILE_NAME", "Written", "write_stacks"]

FILE_NAME = "stacks.txt"


@dataclass
class _Asked:
    """A worker that was asked for its stacks."""

    process: Process
    start: int
    """Bytes that the worker had written before it was asked."""
    size: int = -1
    """Bytes at the last look."""
    settled: bool = False
    """Whether nothing more is to be expected."""


@dataclass(frozen=True)
class Written:
    """One worker's stacks."""

    path: str
    """The file to which the stacks were appended; empty when it could not be written."""
    start: int
    """Where in that file they begin, in bytes."""
    text: str


def write_stacks(
    server: Client,
    processes: Mapping[int, Process],
    pulses: Pulses,
    folders: Mapping[int, str],
    reason: str,
    *,
    last: bool,
) -> dict[int, Written]:
    """Have every worker that runs write its stacks.

    Args:
        server: the workers' parent.
        processes: the workers by local rank.
        pulses: the memory that the workers share with this agent.
        folders: the workers' log directories, by local rank.
        reason: why the workers are asked, for the file.
        last: whether the workers will be ended afterwards. Then workers that a signal has stopped (SIGSTOP) are woken
            up, and programs that cannot answer are aborted: Python programs then write their stacks to stderr.

    Returns:
        what was written, in the order of local ranks.
    """
    running = {rank: process for rank, process in processes.items() if process.exitcode is None and process.pid}
    states = {rank: _describe(process.pid or 0) for rank, process in running.items()}
    asked: dict[int, _Asked] = {}
    for rank, process in running.items():
        if pulses.answers(rank):
            asked[rank] = _Asked(process, pulses.stacks_size(rank))
            _signal(process, STACKS_SIGNAL)
            if last:
                _signal(process, signal.SIGCONT)
    _await(server, asked, pulses)
    silent = [process for rank, process in running.items() if rank not in asked]
    if last and silent:
        _abort(server, silent)
    texts = {rank: _text(asked.get(rank), pulses, rank, last) for rank in sorted(running)}
    return {rank: _written(folders[rank], reason, states[rank], text) for rank, text in texts.items()}


def _abort(server: Client, programs: list[Process]) -> None:
    """Abort programs, and wait for their end. PYTHONFAULTHANDLER, which is set for them, makes Python write stacks."""
    with contextlib.suppress(ServerLost):
        server.signal(programs, signal.SIGCONT)
        server.signal(programs, signal.SIGABRT)
        server.wait(lambda: all(process.exitcode is not None for process in programs), timeouts.STACKS)


def _await(server: Client, asked: Mapping[int, _Asked], pulses: Pulses) -> None:
    """Wait until all workers that were asked have written their stacks or ended, for `STACKS` seconds at most."""
    deadline = time.monotonic() + timeouts.STACKS
    while time.monotonic() < deadline and not all(worker.settled for worker in asked.values()):
        with contextlib.suppress(ServerLost):
            server.pump(timeouts.STACKS_QUIET)
        for rank, worker in asked.items():
            size = pulses.stacks_size(rank)
            worker.settled = worker.process.exitcode is not None or (size > worker.start and size == worker.size)
            worker.size = size


def _text(worker: _Asked | None, pulses: Pulses, rank: int, last: bool) -> str:
    if worker is not None:
        text = _users_part(pulses.stacks(rank, worker.start))
        return text or "It did not answer: it is stopped, or stuck in the kernel.\n"
    if last:
        return "It is a program of its own: if it is Python, its stacks are at the end of stderr.log.\n"
    return (
        "It is a program of its own, whose stacks can be had only by aborting it. A call of elastic_hydra.heartbeat() "
        "in it would make it answer.\n"
    )


def _users_part(text: str) -> str:
    """Leave out the launcher's frames, which stand below those of the user's code in each thread."""
    internal = tuple(f'  File "{file}"' for file in internal_files())
    kept = []
    is_internal = False
    for line in text.splitlines(keepends=True):
        is_internal = line.startswith("  ") and (is_internal or line.startswith(internal))
        if not is_internal:
            kept.append(line)
    return "".join(kept)


def _signal(process: Process, number: int) -> None:
    # Only the worker itself gets the signal: programs that it has started do not handle the signal, and would die.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid or 0, number)


def _describe(pid: int) -> str:
    """Say, in words, what the kernel knows of a process."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            words = [
                f"process {pid} is {process.status()}",
                f"has used {times.user + times.system:.1f} s of CPU time and {memory.rss / 1e6:.0f} MB of memory",
            ]
        with contextlib.suppress(OSError):
            where = Path(f"/proc/{pid}/wchan").read_text().strip()
            if where not in ("", "0"):
                words.append(f"waits in the kernel in {where}")
        return ", ".join(words)
    return f"process {pid} has just ended"


def _written(folder: str, reason: str, state: str, text: str) -> Written:
    path = os.path.join(folder, FILE_NAME)
    try:
        with open(path, "a") as file:
            start = file.tell()
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {reason}\n{state}\n{text}\n")
    except OSError:  # the disk is full or gone: the group is stopped all the same
        return Written("", 0, text)
    return Written(path, start, text)
