"""Measure: processes with all their descendants, and ways to do one thing, in turns."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Command", "Samples", "adopt_orphans", "in_child", "interleave", "progress", "run_command"]

ROOT = Path(__file__).parents[2]
Samples = dict[str, dict[str, list[float]]]
"""Measured values, by way and quantity."""
Way = Callable[[], Mapping[str, float]]

_PR_SET_CHILD_SUBREAPER = 36
_LENGTH = struct.Struct("!Q")
_PATIENCE = 30.0
"""Seconds that descendants may outlive the process that was measured."""


def progress(text: str) -> None:
    """Say on standard error what is going on."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants: then every process of a tree is waited for, and its CPU time known."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def interleave(
    ways: Mapping[str, Way], rounds: int, at_most: Mapping[str, int] | None = None, warm_up: bool = True
) -> Samples:
    """Measure each way once per round, each round in another order.

    Args:
        ways: what to measure, by name; each returns what it measured, by quantity.
        rounds: how often.
        at_most: for slow ways, how often at most.
        warm_up: do it all once before, without counting that; not those that are limited by `at_most`.
    """
    limits = at_most or {}
    samples: Samples = {name: {} for name in ways}
    names = list(ways)
    for number in range(-1 if warm_up else 0, rounds):
        turn = max(number, 0) % len(names)
        for name in names[turn:] + names[:turn]:
            if (number < 0 and name in limits) or number >= limits.get(name, rounds):
                continue
            found = ways[name]()
            if number >= 0:
                for quantity, value in found.items():
                    samples[name].setdefault(quantity, []).append(value)
        if number >= 0 and (number + 1 == rounds or (number + 1) % 5 == 0):
            progress(f"  round {number + 1} of {rounds}")
    return samples


# --- a function, in a fork of this warm process --------------------------------------------------------------------


@dataclass
class Returned:
    """What a function in a process of its own returned, and what it and its descendants have used."""

    value: Any
    cpu: float
    """Seconds, until the last descendant was gone."""


def in_child(function: Callable[..., Any], *args: Any, meanwhile: Callable[[int], None] | None = None) -> Returned:
    """Call a function in a fork of this process, with temporary files of its own.

    Args:
        function: what to call.
        args: its arguments.
        meanwhile: called here with the process id, while it runs.

    Raises:
        RuntimeError: the function raised, or its process died.
    """
    reader, writer = os.pipe()
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            tempfile.tempdir = folder
            _answer(writer, function, args)
        os.close(writer)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, reader)
            if meanwhile is not None:
                meanwhile(pid)
            answer = _read_answer(reader)
        cpu = _reap(kill=answer is None)
    if answer is None:
        raise RuntimeError(f"{function.__name__}: its process has died")
    value, trouble = answer
    if trouble:
        raise RuntimeError(f"{function.__name__} failed:\n{trouble}")
    return Returned(value, cpu)


def _answer(writer: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        answer = (function(*args), "")
    except BaseException:
        answer = (None, traceback.format_exc())
    body = pickle.dumps(answer)
    data = _LENGTH.pack(len(body)) + body
    while data:
        data = data[os.write(writer, data) :]
    os._exit(0)


def _read_answer(reader: int) -> tuple[Any, str] | None:
    """Read one answer: not until the end of the file, which descendants keep open."""
    data = b""
    while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]:
        part = os.read(reader, 1 << 16)
        if not part:
            return None
        data += part
    answer: tuple[Any, str] = pickle.loads(data[_LENGTH.size :])
    return answer


def _reap(kill: bool = False) -> float:
    """Wait for all children of this process, orphans of theirs among them, and return their CPU seconds."""
    total, deadline = 0.0, time.monotonic() + _PATIENCE
    while True:
        if kill or time.monotonic() > deadline:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return total
        if pid == 0:
            time.sleep(0.002)
        else:
            total += usage.ru_utime + usage.ru_stime


# --- a command -----------------------------------------------------------------------------------------------------


@dataclass
class Command:
    """A finished command."""

    wall: float
    """Seconds until the command itself had ended."""
    cpu: float
    """Seconds, of it and all its descendants."""
    memory: int | None
    """Highest sum of the proportional set sizes of its processes, in bytes; None: it was not looked at."""
    output: str


def run_command(
    argv: Sequence[str],
    folder: Path,
    variables: Mapping[str, str] | None = None,
    sampled: bool = False,
    look: Callable[[int], None] | None = None,
) -> Command:
    """Run a command to its end, together with all that it leaves behind.

    Args:
        argv: the command.
        folder: where it runs.
        variables: environment variables on top of this process's own.
        sampled: look at its memory every 50 ms; that costs time, so do not believe the other figures then.
        look: called with the process id, again and again while it runs.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryFile() as out:
        start = time.monotonic()
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        peak = 0
        try:
            if sampled or look is not None:
                while not _has_ended(process.pid):
                    if sampled:
                        peak = max(peak, memory_of_descendants())
                    if look is not None:
                        look(process.pid)
                    time.sleep(0.05)
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _reap(kill=True)
            raise
        wall = time.monotonic() - start
        cpu = usage.ru_utime + usage.ru_stime + _reap()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with exit code {process.returncode}:\n{output[-4000:]}")
    return Command(wall, cpu, peak if sampled else None, output)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def memory_of_descendants() -> int:
    """Return the sum of the proportional set sizes of all that this process has started, orphans among it."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            total += int(process.memory_full_info().pss)
    return total
