"""Bind the calling process to CPUs and memory nodes, and read back what the kernel made of it.

No library or program is needed: affinity is Python's own, and the memory policy is set by system call.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.errors import KEY
from elastic_hydra.numa.lists import format_list

# (set_mempolicy, get_mempolicy, migrate_pages), from the kernel's syscall tables
_SYSCALLS = {
    "x86_64": (238, 239, 256),
    "aarch64": (237, 236, 238),
    "riscv64": (237, 236, 238),
    "loongarch64": (237, 236, 238),
    "ppc64le": (261, 260, 258),
    "ppc64": (261, 260, 258),
    "s390x": (270, 269, 287),
}
# linux/mempolicy.h
_DEFAULT, _PREFERRED, _BIND, _INTERLEAVE, _LOCAL, _PREFERRED_MANY = range(6)
_MODES = {"local": _LOCAL, "preferred": _PREFERRED, "bind": _BIND, "interleave": _INTERLEAVE}
_NAMES = {number: name for name, number in _MODES.items()} | {_DEFAULT: "none", _PREFERRED_MANY: "preferred"}
_MODE_FLAGS = 0b111 << 13
_MEMS_ALLOWED = 1 << 2
# The kernel refuses a mask shorter than its own number of nodes, which is at most 1024 in any distribution's kernel.
_MASK_BITS = 1024
_WORD = 8 * ctypes.sizeof(ctypes.c_ulong)
_ATTEMPTS = 8


class BindError(RuntimeError):
    """The kernel did not give what the binding requires."""


@dataclass(frozen=True)
class Applied:
    """What the kernel reports after `apply`."""

    cpus: tuple[int, ...]
    """CPUs that the process may run on now."""
    memory: str
    """Memory policy of the calling thread, and of all threads and processes that it will start; `unknown` where the
    kernel does not tell."""
    nodes: tuple[int, ...]
    """Memory nodes of that policy; empty for `none` and `local`."""
    migrated: bool
    """Whether pages that the process had already touched were moved to the nodes."""
    cpu_problems: tuple[str, ...]
    """Where the CPUs differ from the binding, one sentence each; empty when all is as planned."""
    memory_problems: tuple[str, ...]
    """Where the memory policy does: what a container forbids, it forbids all its workers."""

    @property
    def problems(self) -> tuple[str, ...]:
        """All that differs."""
        return self.cpu_problems + self.memory_problems

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        fields = asdict(self) | {"problems": self.problems}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def apply(binding: Binding) -> Applied:
    """Bind every thread of this process to CPUs, and the calling thread to a memory policy.

    The kernel lets a thread set the memory policy of itself only; threads and processes started later inherit both. So
    call this from the main thread, before the user's code.

    Args:
        binding: CPUs (empty: leave them), memory policy and nodes, which of "cpus" and "memory" are required, and
            whether to move the pages that this process has already touched.

    Returns:
        What the kernel reports afterwards.

    Raises:
        BindError: Something that the binding requires could not be had.
    """
    cpu_problems = _bind_threads(binding.cpus) if binding.cpus else []
    memory_problems = _set_policy(binding.memory, binding.nodes) if binding.memory != "none" else []
    migrated = False
    if binding.migrate and binding.memory != "none" and binding.nodes and not memory_problems:
        migrated = _move_pages(binding.nodes)
    for kind, key, problems in (("cpus", "on_error", cpu_problems), ("memory", "on_memory_error", memory_problems)):
        if problems and kind in binding.required:
            raise BindError(f"{KEY}.{key}=error: {'; '.join(problems)}; with {key}=warn the worker starts all the same")
    policy, nodes = read_policy()
    return Applied(_affinity(), policy, nodes, migrated, tuple(cpu_problems), tuple(memory_problems))


def read_policy() -> tuple[str, tuple[int, ...]]:
    """The memory policy of the calling thread and its nodes; `("unknown", ())` where the kernel does not tell."""
    mode, mask = ctypes.c_int(-1), _mask(())
    if _syscall(1, ctypes.byref(mode), mask, _MASK_BITS + 1, None, 0):
        return "unknown", ()
    nodes = _members(mask)
    number = mode.value & ~_MODE_FLAGS
    if number == _PREFERRED and not nodes:  # how kernels before 5.14 report "local"
        return "local", ()
    return _NAMES.get(number, "unknown"), nodes if number not in (_DEFAULT, _LOCAL) else ()


def _bind_threads(cpus: Sequence[int]) -> list[str]:
    """Bind all threads; threads that appear meanwhile are caught by looking again until none is outside."""
    if not hasattr(os, "sched_setaffinity"):
        return [f"{sys.platform} cannot bind a process to CPUs"]
    wanted = set(cpus)
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        return [
            f"the kernel refused CPUs {format_list(cpus)}: {error.strerror}; allowed are {format_list(_affinity())}"
        ]
    granted = set(_affinity())  # the kernel narrows silently to what is online and in the cpuset
    for _ in range(_ATTEMPTS):
        outside = [thread for thread in _threads() if not _inside(thread, granted)]
        if not outside:
            break
        for thread in outside:
            with contextlib.suppress(OSError):  # it has ended, or the next look finds it outside still
                os.sched_setaffinity(thread, granted)
    else:
        return [f"threads {outside} could not be bound to CPUs {format_list(cpus)}"]
    missing = wanted - granted
    return [f"the kernel granted CPUs {format_list(granted)}, not {format_list(missing)}"] if missing else []


def _set_policy(policy: str, nodes: Sequence[int]) -> list[str]:
    mode = _MODES[policy]
    if policy == "preferred" and len(nodes) > 1:
        mode = _PREFERRED_MANY
    mask = _mask(()) if mode == _LOCAL else _mask(nodes)
    code = _syscall(0, mode, None if mode == _LOCAL else mask, _MASK_BITS + 1)
    if code == errno.EINVAL and mode == _PREFERRED_MANY:  # before Linux 5.15 one node only can be preferred
        nodes = nodes[:1]
        code = _syscall(0, _PREFERRED, _mask(nodes), _MASK_BITS + 1)
    where = f"memory policy {policy}" + (f" on nodes {format_list(nodes)}" if nodes and policy != "local" else "")
    if code:
        return [f"{where} was refused: {_REASONS.get(code, os.strerror(code))}"]
    policy_now, nodes_now = read_policy()
    expected = () if policy == "local" else tuple(sorted(nodes))
    if (policy_now, nodes_now) not in ((policy, expected), ("unknown", ())):
        return [f"{where} was asked for, the kernel reports {policy_now} on nodes {format_list(nodes_now) or 'none'}"]
    return []


_REASONS = {
    errno.EPERM: "the container forbids the system call set_mempolicy (docker: --cap-add SYS_NICE)",
    errno.ENOSYS: "this kernel or sandbox has no NUMA memory policy",
    errno.EINVAL: "none of the nodes has memory that this process may use (see Mems_allowed in /proc/self/status)",
}


def _move_pages(nodes: Sequence[int]) -> bool:
    """Move this process's own pages to `nodes`; pages shared with a parent stay, which is harmless."""
    allowed = _mask(())
    if _syscall(1, None, allowed, _MASK_BITS + 1, None, _MEMS_ALLOWED):
        return False
    others = [node for node in _members(allowed) if node not in nodes]
    if not others:
        return False
    return _syscall(2, 0, _MASK_BITS + 1, _mask(others), _mask(nodes)) == 0


def _syscall(which: int, *args: object) -> int:
    """Call set_mempolicy (0), get_mempolicy (1) or migrate_pages (2); 0 or the errno."""
    numbers = _SYSCALLS.get(_machine())
    if numbers is None or sys.platform != "linux":
        return errno.ENOSYS
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    # A bare int would be passed as a C int, and the upper half of its register left undefined.
    plain = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(numbers[which]), *plain) < 0 else 0


def _machine() -> str:
    # The numbers above are those of 64-bit processes.
    return os.uname().machine if sys.maxsize > 2**32 else "32-bit"


def _mask(nodes: Iterable[int]) -> ctypes.Array[ctypes.c_ulong]:
    # One word more than the bits need: the kernel reads up to maxnode - 1 rounded up to a word.
    mask = (ctypes.c_ulong * (_MASK_BITS // _WORD + 1))()
    for node in nodes:
        mask[node // _WORD] |= 1 << (node % _WORD)
    return mask


def _members(mask: ctypes.Array[ctypes.c_ulong]) -> tuple[int, ...]:
    return tuple(node for node in range(_MASK_BITS) if mask[node // _WORD] >> (node % _WORD) & 1)


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:  # no /proc: the calling thread is bound, which is all that can be done
        return []


def _inside(thread: int, cpus: set[int]) -> bool:
    try:
        return os.sched_getaffinity(thread) <= cpus
    except OSError:  # it has ended
        return True


def _affinity() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
