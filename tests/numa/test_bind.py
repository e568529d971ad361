"""Binding real processes, checked by what the kernel says of them."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from elastic_hydra.config.lists import parse_list
from elastic_hydra.numa import bind
from elastic_hydra.numa.binding import Binding

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds processes")]

CPU = min(os.sched_getaffinity(0)) if sys.platform == "linux" else 0
ROOT = str(Path(__file__).parents[2])


def in_child(code: str) -> str:
    """Run code in an interpreter of its own, since a binding cannot be taken back."""
    modules = "from elastic_hydra.numa import bind\nfrom elastic_hydra.numa.binding import Binding\n"
    program = f"import sys; sys.path.insert(0, {ROOT!r})\n{modules}"
    command = [sys.executable, "-c", program + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.smoke
def test_all_threads_and_children_are_bound_and_the_kernel_agrees():
    out = in_child(f"""
        import os, threading, time
        stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(4)]
        for thread in threads: thread.start()
        applied = bind.apply(Binding(cpus=({CPU},), required=("cpus",)))
        masks = {{tuple(os.sched_getaffinity(int(tid))) for tid in os.listdir("/proc/self/task")}}
        stop.set()
        child = os.fork()
        if not child:
            os._exit(0 if os.sched_getaffinity(0) == {{{CPU}}} else 1)
        print(applied.cpus, applied.problems, masks, os.waitpid(child, 0)[1])
    """)
    assert out == f"({CPU},) () {{({CPU},)}} 0"


def test_cpus_that_do_not_exist_are_a_problem_or_an_error():
    applied = bind.apply(Binding(cpus=(1000,)))
    assert "refused CPUs 1000" in applied.problems[0]
    with pytest.raises(bind.BindError, match="refused CPUs 1000"):
        bind.apply(Binding(cpus=(1000,), required=("cpus",)))


def test_a_narrowed_binding_is_noticed():
    out = in_child(f"""
        applied = bind.apply(Binding(cpus=({CPU}, 1000)))
        print(applied.cpus, applied.problems)
    """)
    assert out == f"({CPU},) ('the kernel granted CPUs {CPU}, not 1000',)"


@pytest.mark.smoke
@pytest.mark.parametrize("policy", ["local", "preferred", "bind", "interleave"])
def test_the_memory_policy_is_set_by_system_call_and_read_back(policy):
    if "refused" in str(bind_in_thread(policy).problems):
        pytest.skip("this container forbids memory policies")
    applied = bind_in_thread(policy)
    assert (applied.memory, applied.problems) == (policy, ())
    assert applied.nodes == (() if policy == "local" else (node(),))


def test_a_refused_memory_policy_is_a_problem_unless_it_is_required():
    out = in_child("""
        import errno
        bind._syscall = lambda which, *args: errno.EPERM
        print(bind.apply(Binding(memory="bind", nodes=(0,))).problems)
        try:
            bind.apply(Binding(memory="bind", nodes=(0,), required=("memory",)))
        except bind.BindError as error:
            print("failed:", error)
    """)
    assert "docker: --cap-add SYS_NICE" in out
    assert "failed: hydra.launcher.numa.on_memory_error=error: memory policy bind on nodes 0 was refused" in out


def test_a_kernel_without_preferred_many_prefers_the_first_node():
    out = in_child("""
        import errno
        real, calls = bind._syscall, []
        def old_kernel(which, *args):
            if which == "set_mempolicy":
                calls.append((args[0], bind._members(args[1])))
                return errno.EINVAL if args[0] == bind._MPOL_PREFERRED_MANY else 0
            return errno.ENOSYS
        bind._syscall = old_kernel
        print(bind._set_policy("preferred", (0, 2)), calls)
    """)
    assert out == "[] [(5, (0, 2)), (1, (0,))]"


@pytest.mark.parametrize(
    ("machine", "numbers"),
    [
        ("x86_64", [238, 239, 256]),
        ("aarch64", [237, 236, 238]),
        ("riscv64", [237, 236, 238]),
        ("ppc64le", [261, 260, 258]),
        ("s390x", [270, 269, 287]),
    ],
)
def test_each_architecture_has_its_own_numbers_of_system_calls(monkeypatch, machine, numbers):
    # As in the kernel's tables: asm-generic/unistd.h (Arm, RISC-V) and arch/*/syscalls/syscall*.tbl.
    called: list[int] = []

    class Library:
        """Takes down what is called."""

        class syscall:  # noqa: N801
            """libc's."""

            def __new__(cls, number, *_):
                called.append(number.value)
                return 0

    monkeypatch.setattr(bind, "_architecture", lambda: machine)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library)
    for which in ("set_mempolicy", "get_mempolicy", "migrate_pages"):
        bind._syscall(which)
    assert called == numbers
    monkeypatch.setattr(bind, "_architecture", lambda: "pdp11")
    assert bind._syscall("set_mempolicy") == errno.ENOSYS


def bind_in_thread(policy: str) -> bind.Applied:
    """A memory policy belongs to one thread, so the test's own stays as it is."""
    found: list[bind.Applied] = []
    binding = Binding(memory=policy, nodes=(node(),), migrate=True)
    thread = threading.Thread(target=lambda: found.append(bind.apply(binding)))
    thread.start()
    thread.join()
    return found[0]


def node() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Mems_allowed_list:"):
            return parse_list(line.split()[1])[0]
    pytest.skip("this kernel has no NUMA nodes")
