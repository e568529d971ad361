"""What kind of death some evidence shows, as a table: no processes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure, classify, signal_name
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


STACKS = ("/logs/stacks.0", "/logs/stacks.1")
MEMORY_ERROR = ExceptionFacts("builtins.MemoryError", ("Exception",), "", "Traceback of it")
WRAPPED = ExceptionFacts(
    "hydra.errors.InstantiationException", ("hydra.errors.HydraException",), "in call", "Traceback"
)


def whole(kind: Kind, reason: str, **fields: Any) -> Failure:
    return Failure(kind, reason, "node-a", **{"time": T + 10, **fields})


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (
            evidence(signal_to_agent="SIGUSR1", stuck=True, stacks=STACKS),
            whole(Kind.preempted, "host node-a was told to stop by SIGUSR1", signal="SIGUSR1"),
        ),
        (
            evidence(rendezvous=ExceptionFacts("my.Late", ("Exception",), "too few", "Traceback")),
            whole(
                Kind.rendezvous,
                "the nodes did not find together: my.Late: too few",
                names=("my.Late", "Late", "Exception"),
                message="too few",
                traceback="Traceback",
                connection=True,
            ),
        ),
        (
            evidence(overrun=Overrun(Kind.hang, "no progress for 5 s", 3, T + 2, 7.5), stacks=STACKS),
            whole(Kind.hang, "no progress for 5 s", time=T + 2, rank=3, uptime=7.5, stacks=STACKS),
        ),
        (
            evidence(overrun=Overrun(Kind.timeout, "too long", None, T + 2), nodes=2),
            whole(Kind.timeout, "too long (host node-a)", time=T + 2),
        ),
        (
            evidence(stuck=True, stacks=STACKS),
            whole(Kind.hang, "a worker process is stuck in the kernel and cannot be ended", stacks=STACKS),
        ),
        (evidence(), whole(Kind.hang, "the workers ended, nobody saw how")),
        (
            evidence(Death(1, T + 3, -11, 5.0, 101, log_dir="/logs/rank_1"), stacks=STACKS),
            whole(
                Kind.signal,
                "rank 1 was killed by SIGSEGV (invalid memory access in native code)",
                time=T + 3,
                rank=1,
                pid=101,
                uptime=5.0,
                exitcode=-11,
                signal="SIGSEGV",
                log_dir="/logs/rank_1",
                stacks=STACKS,
            ),
        ),
        (
            evidence(Death(1, T + 3, 1, 5.0, 101, MEMORY_ERROR), nodes=2),
            whole(
                Kind.oom,
                "rank 1 on host node-a ran out of memory: MemoryError",
                time=T + 3,
                rank=1,
                pid=101,
                uptime=5.0,
                exitcode=1,
                names=("builtins.MemoryError", "MemoryError", "Exception"),
                traceback="Traceback of it",
            ),
        ),
        (
            evidence(Death(1, T + 3, 0, 5.0, 101, what="ended without a result")),
            whole(
                Kind.exit,
                "rank 1 ended without a result",
                time=T + 3,
                rank=1,
                pid=101,
                uptime=5.0,
                exitcode=0,
                message="ended without a result",
            ),
        ),
    ],
)
def test_the_whole_failure(what: Evidence, expected: Failure) -> None:
    assert classify(what) == expected


def test_the_innermost_exception_names_it_and_the_outermost_has_the_traceback() -> None:
    error = replace(WRAPPED, cause=ExceptionFacts("ValueError", (), "bad", "Traceback of the cause"))
    failure = classify(evidence(Death(0, T, 1, 5.0, 100, error)))
    assert (failure.names, failure.message, failure.traceback) == (("ValueError",), "bad", "Traceback")
    assert failure.type_name == "ValueError"
    assert classify(evidence(exited(0, 0, 3))).type_name == ""


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        (
            [exited(0, 0, 3), raised(1, 0.1, *GLOO)],
            "rank 0 ended with exit code 3; rank 1 died because of it",
        ),
        (
            [exited(0, 0, 3), raised(1, 0.1, *GLOO), raised(2, 0.1, *GLOO)],
            "rank 0 ended with exit code 3; ranks 1, 2 died because of it",
        ),
        ([exited(0, 0, 3), exited(1, 0.1, 4)], "rank 0 ended with exit code 3"),
        ([exited(0, 0, 1, last_line="no data", what="ended")], "rank 0 ended with exit code 1: no data"),
        ([exited(0, 0, 1)], "rank 0 ended with exit code 1"),
        ([exited(0, 0, 127)], "rank 0 could not be started: exit code 127; see its stderr"),
        ([Death(0, T, None, 5.0, 100)], "rank 0 ended with exit code None"),
        ([raised(0, 0, "builtins.ValueError", "bad")], "rank 0 raised ValueError: bad"),
        (
            [raised(0, 0, "elastic_hydra.supervisor.outcome.ResultError", "rank 0 returned what cannot be pickled")],
            "rank 0 returned what cannot be pickled",
        ),
        ([exited(0, 0, -7)], "rank 0 was killed by SIGBUS (often a full /dev/shm, or a file on a disk that has gone)"),
        ([exited(0, 0, -6)], "rank 0 was killed by SIGABRT (native code gave up; its last words are in its stderr)"),
        ([exited(0, 0, -4)], "rank 0 was killed by SIGILL (the program needs a CPU that this host has not)"),
        ([exited(0, 0, -15)], "rank 0 was killed by SIGTERM"),
        ([exited(0, 0, -40)], "rank 0 was killed by SIG40"),
        (
            [exited(0, 0, -9)],
            (
                "rank 0 was killed by SIGKILL "
                "(sent by somebody, or by the kernel for lack of memory: that cannot be seen here)"
            ),
        ),
    ],
)
def test_the_whole_reason(deaths: list[Death], reason: str) -> None:
    assert classify(evidence(*deaths)).reason == reason


def test_a_long_message_about_a_result_is_cut() -> None:
    long = raised(0, 0, "elastic_hydra.supervisor.outcome.ResultError", "rank 0 " + "x" * 600)
    assert len(classify(evidence(long)).reason) == len("rank 0 ") + 500 - len("rank 0 ")


@pytest.mark.parametrize(
    ("kind", "message", "nodes"),
    [
        (Kind.rendezvous, "late", 1),
        (Kind.rendezvous, "late", 2),
    ],
)
@pytest.mark.parametrize("name", ["RendezvousError", "torch.distributed.elastic.rendezvous.api.RendezvousError"])
def test_a_worker_that_found_no_others_is_no_mistake_of_its_own(
    name: str, kind: Kind, message: str, nodes: int
) -> None:
    failure = classify(evidence(raised(0, 0, "my.Late", message, name), nodes=nodes))
    assert failure.kind is kind
    assert f"raised my.Late: {message}" in failure.reason


@pytest.mark.parametrize(
    ("lag", "first"),
    [(0.0, 2), (0.9, 2), (1.0, 2), (1.1, 0)],
)
def test_a_cause_may_be_seen_a_second_after_what_it_caused(lag: float, first: int) -> None:
    assert classify(evidence(raised(0, 0.0, *GLOO), exited(2, lag, 3))).rank == first


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        (
            MemoryFacts(killed_pids=(100,), rss={100: GB}, kills=1, scope="host"),
            "rank 0 was killed by the kernel for lack of memory (it used 1.0 GB)",
        ),
        (MemoryFacts(kills=1, scope="cgroup"), "rank 0 was killed by the kernel for lack of memory"),
        (MemoryFacts(kills=1, scope="host"), "rank 0 was killed, probably by the kernel for lack of memory"),
        (
            MemoryFacts(kills=1, scope="host", rss={7: GB}),
            "rank 0 was killed, probably by the kernel for lack of memory",
        ),
        (
            MemoryFacts(known=True, killed_pids=(7,)),
            "rank 0 was killed by SIGKILL (sent by somebody, not by the kernel for lack of memory)",
        ),
    ],
)
def test_who_sent_sigkill_is_said_as_surely_as_it_is_known(memory: MemoryFacts, reason: str) -> None:
    assert classify(evidence(exited(0, 0, -9), memory=memory)).reason == reason


def test_a_process_without_an_id_is_none_of_those_that_were_killed() -> None:
    death = Death(0, T, -9, 5.0, 0)
    assert classify(evidence(death, memory=MemoryFacts(killed_pids=(0,)))).kind is Kind.signal


@pytest.mark.parametrize(
    ("code", "name"), [(None, ""), (0, ""), (1, ""), (-1, "SIGHUP"), (-9, "SIGKILL"), (-64, "SIGRTMAX")]
)
def test_signals_are_named(code: int | None, name: str) -> None:
    assert signal_name(code) == name
