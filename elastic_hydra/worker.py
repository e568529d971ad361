"""What a worker may call: its sign of life, in memory that it shares with its agent.

Only the standard library is imported here: a training loop imports this in microseconds.
"""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import signal
import struct
import time

__all__ = ["HEARTBEAT", "SLOT", "STACKS", "STACKS_SIGNAL", "attach", "heartbeat"]

HEARTBEAT = "ELASTIC_HYDRA_HEARTBEAT"
"""Environment variable of a watched worker: `file:offset` of its slot."""
STACKS = "ELASTIC_HYDRA_STACKS"
"""Environment variable of a watched worker: the file that its stacks go to."""

STACKS_SIGNAL = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else 0
"""The signal by which an agent asks a worker for its stacks: a real-time one, since SIGUSR1 and 2 are the user's."""

SLOT = struct.Struct("dd")
"""The last heartbeat, on the monotonic clock, which all processes share; whether stacks can be asked for."""
_pack_beat = struct.Struct("d").pack_into
_monotonic = time.monotonic

_memory: mmap.mmap | None = None
_offset = 0
_tried = False
_attached = ""


def heartbeat() -> None:
    """Tell the agent that this worker makes progress; call it once per step.

    It costs less than a microsecond, starts no thread, and does nothing outside a worker that is watched.
    """
    if _memory is not None:
        _pack_beat(_memory, _offset, _monotonic())
    elif not _tried:
        attach()
        heartbeat()


def attach() -> None:
    """Find the memory that this worker's agent watches, and have the worker answer when it is asked for its stacks."""
    global _memory, _offset, _tried, _attached
    _tried = True
    where = os.environ.get(HEARTBEAT, "")
    if where in ("", _attached):
        return
    _attached = where
    path, _, offset = where.rpartition(":")
    with contextlib.suppress(OSError, ValueError):  # the agent has ended, or another user runs it
        file = os.open(path, os.O_RDWR)
        try:
            _memory, _offset = mmap.mmap(file, 0), int(offset)
        finally:
            os.close(file)
        stacks = os.open(os.environ[STACKS], os.O_WRONLY | os.O_APPEND)
        # Its handler is C code: it answers also while the interpreter is stuck in a call.
        faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
        _pack_beat(_memory, _offset + 8, 1.0)
