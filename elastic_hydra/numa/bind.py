"""Bind the calling process to CPUs and memory nodes, and read back what the kernel has set.

No library or program is needed: Python itself sets the affinity, and a system call sets the memory policy.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from elastic_hydra.config.lists import format_list
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.errors import KEY


class _Calls(NamedTuple):
    """Numbers of the system calls for memory policies: neither Python nor the C library has functions for them."""

    set_mempolicy: int
    get_mempolicy: int
    migrate_pages: int


_GENERIC_CALLS = _Calls(237, 236, 238)
_CALLS = {  # from the system call tables of the kernel, for 64-bit processes
    "x86_64": _Calls(238, 239, 256),
    "aarch64": _GENERIC_CALLS,
    "riscv64": _GENERIC_CALLS,
    "loongarch64": _GENERIC_CALLS,
    "ppc64le": _Calls(261, 260, 258),
    "ppc64": _Calls(261, 260, 258),
    "s390x": _Calls(270, 269, 287),
}
_MPOL_DEFAULT, _MPOL_PREFERRED, _MPOL_BIND, _MPOL_INTERLEAVE, _MPOL_LOCAL, _MPOL_PREFERRED_MANY = range(6)
"""Memory policies, as linux/mempolicy.h numbers them."""
_MODES = {
    "local": _MPOL_LOCAL,
    "preferred": _MPOL_PREFERRED,
    "bind": _MPOL_BIND,
    "interleave": _MPOL_INTERLEAVE,
}
_NAMES = {number: name for name, number in _MODES.items()} | {
    _MPOL_DEFAULT: "none",
    _MPOL_PREFERRED_MANY: "preferred",
}
_MPOL_MODE_FLAGS = 0b111 << 13
"""Bits of a mode that are flags (MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES, MPOL_F_NUMA_BALANCING), not its number."""
_MPOL_F_MEMS_ALLOWED = 1 << 2
"""Asks get_mempolicy for the nodes that the process may use, instead of its policy."""
_MASK_BITS = 1024
"""Nodes in a mask. The kernel refuses a shorter mask than its own, which no distribution builds for more nodes."""
_WORD = 8 * ctypes.sizeof(ctypes.c_ulong)
_MOST_LOOKS = 8
"""How often the list of threads is read: threads may start while others are being bound."""


_REASONS = {
    errno.EPERM: "the container forbids the system call set_mempolicy (docker: --cap-add SYS_NICE)",
    errno.ENOSYS: "this kernel or sandbox has no NUMA memory policy",
    errno.EINVAL: "none of the nodes has memory that this process may use (see Mems_allowed in /proc/self/status)",
}


class BindError(RuntimeError):
    """The kernel refused CPUs or memory that the binding requires."""


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
    """Where the CPUs differ from the binding, one sentence each; empty when they are as planned."""
    memory_problems: tuple[str, ...]
    """Where the memory policy differs from the binding, one sentence each. A container that forbids the policy forbids
    it to all workers, so that only one of them warns (`supervisor.forked`)."""

    @property
    def problems(self) -> tuple[str, ...]:
        """All differences from the binding."""
        return self.cpu_problems + self.memory_problems


def apply(binding: Binding) -> Applied:
    """Bind every thread of this process to CPUs, and the calling thread to a memory policy.

    A thread can set only its own memory policy; threads and processes that it starts later inherit policy and CPUs. So
    call this function from the main thread, before the user's code runs.

    Args:
        binding: CPUs (empty: leave them), memory policy and nodes, which of "cpus" and "memory" are required, and
            whether to move the pages that this process has already touched.

    Returns:
        What the kernel reports afterwards.

    Raises:
        BindError: The kernel refused something that the binding requires.
    """
    cpu_problems = _bind_threads(binding.cpus) if binding.cpus else []
    memory_problems = _set_policy(binding.memory, binding.nodes) if binding.memory != "none" else []
    migrated = False
    if binding.migrate and binding.memory != "none" and binding.nodes and not memory_problems:
        migrated = _move_pages(binding.nodes)
    if cpu_problems and "cpus" in binding.required:
        raise _refused("on_error", cpu_problems)
    if memory_problems and "memory" in binding.required:
        raise _refused("on_memory_error", memory_problems)
    policy, nodes = read_policy()
    return Applied(_affinity(), policy, nodes, migrated, tuple(cpu_problems), tuple(memory_problems))


def _refused(key: str, problems: Sequence[str]) -> BindError:
    return BindError(f"{KEY}.{key}=error: {'; '.join(problems)}; with {key}=warn the worker starts all the same")


def memory_policy_obstacle() -> str:
    """Say why this process cannot set a memory policy; empty where it can. Its policy becomes the default one."""
    code = _syscall("set_mempolicy", _MPOL_DEFAULT, None, 0)
    return _REASONS.get(code, os.strerror(code)) if code else ""


def read_policy() -> tuple[str, tuple[int, ...]]:
    """The memory policy of the calling thread and its nodes; `("unknown", ())` where the kernel does not tell."""
    mode, mask = ctypes.c_int(-1), _mask(())
    if _syscall("get_mempolicy", ctypes.byref(mode), mask, _MASK_BITS + 1, None, 0):
        return "unknown", ()
    nodes = _members(mask)
    number = mode.value & ~_MPOL_MODE_FLAGS
    if number == _MPOL_PREFERRED and not nodes:  # how kernels before 5.14 report "local"
        return "local", ()
    return _NAMES.get(number, "unknown"), nodes if number not in (_MPOL_DEFAULT, _MPOL_LOCAL) else ()


def _bind_threads(cpus: Sequence[int]) -> list[str]:
    """Bind all threads, and return what went wrong. Threads that start meanwhile are found by looking again."""
    if not hasattr(os, "sched_setaffinity"):
        return [f"{sys.platform} cannot bind a process to CPUs"]
    planned = set(cpus)
    try:
        os.sched_setaffinity(0, planned)
    except OSError as error:
        return [
            f"the kernel refused CPUs {format_list(cpus)}: {error.strerror}; allowed are {format_list(_affinity())}"
        ]
    granted = set(_affinity())  # the kernel narrows silently to what is online and in the cpuset
    for _ in range(_MOST_LOOKS):
        outside = [thread for thread in _threads() if not _inside(thread, granted)]
        if not outside:
            break
        for thread in outside:
            with contextlib.suppress(OSError):  # the thread has ended; if not, the next look finds it again
                os.sched_setaffinity(thread, granted)
    else:
        return [f"threads {outside} could not be bound to CPUs {format_list(cpus)}"]
    missing = planned - granted
    return [f"the kernel granted CPUs {format_list(granted)}, not {format_list(missing)}"] if missing else []


def _set_policy(policy: str, nodes: Sequence[int]) -> list[str]:
    mode = _MODES[policy]
    if policy == "preferred" and len(nodes) > 1:
        mode = _MPOL_PREFERRED_MANY
    mask = _mask(()) if mode == _MPOL_LOCAL else _mask(nodes)
    code = _syscall("set_mempolicy", mode, None if mode == _MPOL_LOCAL else mask, _MASK_BITS + 1)
    if code == errno.EINVAL and mode == _MPOL_PREFERRED_MANY:  # before Linux 5.15 only one node can be preferred
        nodes = nodes[:1]
        code = _syscall("set_mempolicy", _MPOL_PREFERRED, _mask(nodes), _MASK_BITS + 1)
    where = f"memory policy {policy}" + (f" on nodes {format_list(nodes)}" if nodes and policy != "local" else "")
    if code:
        return [f"{where} was refused: {_REASONS.get(code, os.strerror(code))}"]
    policy_now, nodes_now = read_policy()
    expected = () if policy == "local" else tuple(sorted(nodes))
    # A sandbox may set a policy but not let it be read. A policy that cannot be read counts as set.
    if (policy_now, nodes_now) not in ((policy, expected), ("unknown", ())):
        return [f"{where} was asked for, the kernel reports {policy_now} on nodes {format_list(nodes_now) or 'none'}"]
    return []


def _move_pages(nodes: Sequence[int]) -> bool:
    """Move this process's own pages to `nodes`.

    Pages that a forked process shares with its parent stay where they are, since the parent's other children read them
    as well. When this process writes to such a page, the kernel gives it a copy on its own nodes.

    Returns:
        Whether the kernel has moved pages.
    """
    allowed = _mask(())
    if _syscall("get_mempolicy", None, allowed, _MASK_BITS + 1, None, _MPOL_F_MEMS_ALLOWED):
        return False
    sources = [node for node in _members(allowed) if node not in nodes]
    if not sources:
        return False
    return _syscall("migrate_pages", 0, _MASK_BITS + 1, _mask(sources), _mask(nodes)) == 0


def _syscall(name: str, *args: object) -> int:
    """Call one of `_Calls` by its name; return 0, or the errno."""
    calls = _CALLS.get(_architecture())
    if calls is None or sys.platform != "linux":
        return errno.ENOSYS
    number: int = getattr(calls, name)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    # ctypes would pass a bare int as a C int, and leave the upper half of the register undefined.
    plain = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *plain) < 0 else 0


def _architecture() -> str:
    return os.uname().machine if sys.maxsize > 2**32 else "32-bit"


def _mask(nodes: Iterable[int]) -> ctypes.Array[ctypes.c_ulong]:
    # The mask has one word more than its bits need: the kernel reads maxnode - 1 bits, rounded up to whole words.
    mask = (ctypes.c_ulong * (_MASK_BITS // _WORD + 1))()
    for node in nodes:
        mask[node // _WORD] |= 1 << (node % _WORD)
    return mask


def _members(mask: ctypes.Array[ctypes.c_ulong]) -> tuple[int, ...]:
    return tuple(node for node in range(_MASK_BITS) if mask[node // _WORD] >> (node % _WORD) & 1)


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:  # without /proc, only the calling thread can be bound, and it is bound already
        return []


def _inside(thread: int, cpus: set[int]) -> bool:
    try:
        return os.sched_getaffinity(thread) <= cpus
    except OSError:  # the thread has ended
        return True


def _affinity() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
