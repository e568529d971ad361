"""What kind of death some evidence shows, as a table: no processes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure, classify
from elastic_hydra.failures.evidence import Death, Evidence, ExceptionFacts, MemoryFacts, Overrun

T = 1_700_000_000.0
GB = 10**9


def evidence(*deaths: Death, **fields: Any) -> Evidence:
    return Evidence("node-a", T + 10, deaths, **fields)


def raised(rank: int, at: float, name: str, message: str = "", *bases: str) -> Death:
    return Death(
        rank, T + at, 1, 5.0, 100 + rank, ExceptionFacts(name, (*bases, "Exception", "BaseException"), message)
    )


def exited(rank: int, at: float, code: int, **fields: Any) -> Death:
    return Death(rank, T + at, code, 5.0, 100 + rank, **fields)


GLOO = ("RuntimeError", "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711")
CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        (
            evidence(raised(0, 0, "ValueError", "bad\nmore")),
            Kind.exception,
            "rank 0 raised ValueError: bad",
        ),
        (evidence(exited(1, 0, 75)), Kind.exit, "rank 1 ended with exit code 75"),
        (
            evidence(exited(1, 0, 1, last_line="no data")),
            Kind.exit,
            "rank 1 ended with exit code 1: no data",
        ),
        (evidence(exited(1, 0, 2, last_line="a warning")), Kind.exit, "rank 1 ended with exit code 2"),
        (evidence(exited(1, 0, 0, what="ended with exit code 0 but without a result")), Kind.exit, "without a result"),
        (evidence(exited(0, 0, -11)), Kind.signal, "was killed by SIGSEGV (invalid memory access in native code)"),
        (evidence(exited(0, 0, -9)), Kind.signal, "or by the kernel for lack of memory: that cannot be seen"),
        (evidence(exited(0, 0, -40)), Kind.signal, "was killed by SIG40"),
        (evidence(exited(0, 0, 127)), Kind.start_up, "could not be started: exit code 127"),
        (
            evidence(exited(0, 0, 1, refused=True, what="no process ids")),
            Kind.start_up,
            "could not be started: no process ids",
        ),
        (evidence(raised(0, 0, "MemoryError")), Kind.oom, "ran out of memory: MemoryError"),
        (
            evidence(raised(0, 0, "torch.OutOfMemoryError", "CUDA out of memory.", "RuntimeError")),
            Kind.oom,
            "CUDA out of memory",
        ),
        (evidence(raised(0, 0, "RuntimeError", CPU_ALLOCATOR)), Kind.oom, "ran out of memory"),
        (evidence(raised(0, 0, *GLOO)), Kind.exception, "Connection closed by peer"),
        (evidence(raised(0, 0, *GLOO), nodes=2), Kind.peer, "lost the connection to a worker on another node"),
        (
            evidence(raised(0, 0, "ConnectionResetError", "", "ConnectionError"), nodes=2),
            Kind.exception,
            "ConnectionResetError",
        ),
        (evidence(stuck=True), Kind.hang, "stuck in the kernel"),
        (evidence(signal_to_agent="SIGTERM"), Kind.preempted, "host node-a was told to stop by SIGTERM"),
        (
            evidence(
                rendezvous=ExceptionFacts("torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError", (), "late")
            ),
            Kind.rendezvous,
            "RendezvousTimeoutError: late",
        ),
        (evidence(overrun=Overrun(Kind.timeout, "too long", None, T)), Kind.timeout, "too long"),
        (evidence(overrun=Overrun(Kind.hang, "no progress", 3, T)), Kind.hang, "no progress"),
    ],
)
def test_kinds_and_words(what: Evidence, kind: Kind, words: str) -> None:
    failure = classify(what)
    assert failure.kind is kind
    assert words in failure.reason
    assert "\n" not in failure.reason


@pytest.mark.parametrize(
    ("memory", "kind", "words"),
    [
        (MemoryFacts(known=True), Kind.signal, "sent by somebody, not by the kernel for lack of memory"),
        (
            MemoryFacts(kills=1, scope="cgroup", limit=2 * GB, peak=2 * GB),
            Kind.oom,
            "was killed by the kernel for lack of memory (the cgroup's peak was 2.0 GB, its limit is 2.0 GB)",
        ),
        (
            MemoryFacts(killed_pids=(100,), rss={100: 3 * GB}, host_total=8 * GB, host_available=GB // 2),
            Kind.oom,
            "by the kernel for lack of memory (it used 3.0 GB; the host has 500.0 MB of 8.0 GB free now)",
        ),
        (MemoryFacts(kills=2, scope="host"), Kind.oom, "was killed, probably by the kernel"),
    ],
)
def test_a_sigkill_of_the_memory_killer_says_so(memory: MemoryFacts, kind: Kind, words: str) -> None:
    failure = classify(evidence(exited(0, 0, -9), memory=memory))
    assert failure.kind is kind
    assert words in failure.reason


def test_the_memory_killer_is_not_blamed_for_other_signals() -> None:
    assert classify(evidence(exited(0, 0, -11), memory=MemoryFacts(kills=1, scope="cgroup"))).kind is Kind.signal


@pytest.mark.parametrize(
    ("deaths", "first", "echoes"),
    [
        # The peers notice the end of rank 2 before its parent hears of it.
        ([raised(0, 0.010, *GLOO), raised(1, 0.012, *GLOO), exited(2, 0.020, -9)], 2, (0, 1)),
        ([raised(0, 0.0, "ValueError"), raised(1, 0.001, *GLOO)], 0, (1,)),
        # Two of their own accord: the earlier one, though the other one's rank is lower.
        ([raised(0, 0.003, "ValueError"), raised(1, 0.002, "KeyError")], 1, ()),
        # Lost connections alone: the first.
        ([raised(0, 0.5, *GLOO), raised(1, 0.4, *GLOO)], 1, (0,)),
        # What comes much later cannot be the cause.
        ([raised(0, 0.0, *GLOO), exited(1, 30.0, 3)], 0, ()),
        # A timeout names no culprit, so it is nobody's echo.
        (
            [
                raised(0, 0.0, "RuntimeError", "[gloo] Timed out waiting 1800000ms for recv operation"),
                raised(1, 0.1, *GLOO),
            ],
            0,
            (1,),
        ),
    ],
)
def test_the_root_cause_is_told_from_its_echoes(deaths: list[Death], first: int, echoes: tuple[int, ...]) -> None:
    failure = classify(evidence(*deaths))
    assert failure.rank == first
    assert failure.echoes == echoes


def test_a_failure_survives_json() -> None:
    failure = classify(evidence(raised(0, 0.25, "torch.OutOfMemoryError", "CUDA", "RuntimeError"), stacks=("a", "b")))
    restored = Failure.from_dict(json.loads(json.dumps(failure.as_dict())) | {"of a later version": 1})
    assert restored == failure


def test_names_are_qualified_and_short_nearest_first() -> None:
    facts = ExceptionFacts("my.module.Broken", ("builtins.OSError", "Exception"))
    assert facts.names == ("my.module.Broken", "Broken", "builtins.OSError", "OSError", "Exception")
