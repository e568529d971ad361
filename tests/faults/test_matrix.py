"""The fault matrix: every process of a sweep comes to harm at every moment of its life, in every way that makes sense.

What makes no sense is left out: workers have no moment before the rendezvous and none during the back-off; an agent,
the warm server and the launcher run no code of the user's that could raise or exit while their jobs run, so they can
only be signalled; SIGTERM to the warm server is ignored, by design; what stops the launcher (SIGSTOP) has stopped the
whole sweep, and SIGCONT lets it go on.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from tests.faults.sweeps import ONCE_MORE, WATCHED, Sweep
from tests.helpers.groups import control_group

pytestmark = pytest.mark.system

FINISHED = ("finished", "", "")
WORKER: dict[str, tuple[str, str, str]] = {
    # fault: state, kind, and words of the reason that the user reads
    "exception": ("failed", "exception", "the fault"),
    "exit0": ("failed", "exit", "ended with exit code 0 (PID "),
    "exit3": ("failed", "exit", "ended with exit code 3"),
    "sysexit3": ("failed", "exit", "ended with exit code 3"),
    "memory": ("failed", "oom", "ran out of memory: MemoryError"),
    "SIGKILL": ("failed", "signal", "was killed by SIGKILL (sent by somebody"),
    "SIGTERM": ("failed", "signal", "was killed by SIGTERM"),
    "SIGSTOP": ("failed", "hang", "(the process is stopped by a signal): watch.progress_limit=1"),
}
IN_A_CONTROL_GROUP = {"hoard": ("failed", "oom", "was killed by the kernel for lack of memory (")}
RAISED = ("exception", "memory", "sysexit3")
AT: dict[str, dict[str, tuple[str, str, str]]] = {
    # Python's logging and our pickling say what they were about to do; the cause is in the traceback.
    "start": dict.fromkeys(("exception", "memory"), ("failed", "exception", "Unable to configure handler")),
    "returning": dict.fromkeys(RAISED[:2], ("failed", "exception", "which cannot be handed over to its agent")),
    # The result has been handed over. As in any Python program, what an exit handler raises changes nothing any more.
    "exit": dict.fromkeys((*RAISED, "exit0"), FINISHED),
}


def of_worker(case: str) -> tuple[str, str, str]:
    _, moment, fault = case.split("-")
    return AT.get(moment, {}).get(fault) or (WORKER | IN_A_CONTROL_GROUP)[fault]


def cases(*ways: list[str]) -> list[str]:
    return ["-".join(words) for words in product(*ways)]


MOMENTS = ["start", "running", "returning", "exit"]
ALL = cases(["rank0", "rank1"], MOMENTS, [*WORKER])
SOME = [case for index, case in enumerate(ALL) if "SIGSTOP" not in case and index % 3 == 0]
SOME += ["rank1-running-exit0", "rank0-running-SIGSTOP", "rank1-exit-SIGSTOP"]


def check_worker_faults(folder: Path, chosen: list[str], *overrides: str, inside: Sequence[str] = ()) -> None:
    sweep = Sweep(folder, chosen, inside=inside)
    finished = sweep.run(*WATCHED, "hydra.launcher.watch.action=fail", "hydra.launcher.parallel=2", *overrides)
    assert finished.returncode == 1, finished.output
    ends = sweep.ends()
    assert sorted(ends) == sorted(chosen)
    for case, end in ends.items():
        state, kind, words = of_worker(case)
        assert (end["state"], end["kind"]) == (state, kind), (case, end)
        assert words in end["reason"], (case, end)
        who = case.partition("-")[0].replace("rank", "rank ")
        assert state == "finished" or who in end["reason"], (case, end)
        assert end["reason"] in finished.output, "the last screen says it"


@pytest.mark.smoke
def test_what_a_worker_dies_of_is_what_the_user_reads(tmp_path: Path) -> None:
    check_worker_faults(tmp_path, SOME)


def test_a_worker_for_which_there_is_no_memory_is_told_from_one_that_somebody_kills(tmp_path: Path) -> None:
    with control_group(1 << 30) as group:
        enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        chosen = cases(["rank0", "rank1"], ["running", "exit"], [*IN_A_CONTROL_GROUP])
        unwatched = "hydra.launcher.watch.progress_limit=null"  # the others wait while one fills the memory
        check_worker_faults(tmp_path, chosen, unwatched, inside=enter)


@pytest.mark.slow
def test_what_any_worker_dies_of_at_any_moment_is_what_the_user_reads(tmp_path: Path) -> None:
    check_worker_faults(tmp_path, ALL)


# --- what is tried again ---------------------------------------------------------------------------------------------

AGENT = [
    *cases(["agent"], ["before", "start", "running", "returning", "exit", "restart", "backoff"], ["SIGKILL"]),
    *cases(["agent"], ["before", "running", "backoff", "exit"], ["SIGTERM"]),
    *cases(["agent"], ["before", "returning", "exit"], ["exit0", "exit3"]),
]
GROUP = [
    *cases(["rank1"], ["start", "running", "returning"], ["SIGKILL", "exit0"]),
    *cases(["rank0"], ["restart"], ["SIGKILL", "exit3", "SIGSTOP"]),
    "rank0-running-deaf",
    "rank0-running-SIGSTOP",
]
SERVER = cases(["server"], ["before", "start", "running", "returning", "exit", "restart", "backoff"], ["SIGKILL"])


def check_second_tries(folder: Path, chosen: list[str], *overrides: str) -> None:
    sweep = Sweep(folder, chosen)
    finished = sweep.run(*ONCE_MORE, *WATCHED, *overrides)
    assert finished.returncode == 0, finished.output
    assert f"{len(chosen)} finished" in finished.output
    ends = sweep.ends()
    assert sorted(ends) == sorted(chosen)
    for case, end in ends.items():
        who, moment, _ = case.split("-")
        again = (0, 1) if who.startswith("rank") else (1, int(moment == "backoff"))
        assert (end["state"], end["value"]) == ("finished", 0.5), (case, end)
        assert (end["attempts"] - 1, end["restarts"]) == again, (case, end)


def test_a_job_whose_agent_is_lost_or_told_to_stop_is_tried_again(tmp_path: Path) -> None:
    check_second_tries(tmp_path, AGENT)


def test_a_group_is_started_again_whatever_happens_while_it_is(tmp_path: Path) -> None:
    check_second_tries(tmp_path, GROUP, "hydra.launcher.parallel=2")


def test_jobs_are_tried_again_with_a_new_warm_server(tmp_path: Path) -> None:
    check_second_tries(tmp_path, SERVER)


def test_without_a_further_attempt_a_lost_agent_is_what_the_user_reads(tmp_path: Path) -> None:
    chosen = ["agent-running-SIGKILL", "agent-exit-exit3", "agent-returning-exit0", "agent-running-SIGTERM"]
    sweep = Sweep(tmp_path, chosen)
    finished = sweep.run()
    assert finished.returncode == 1
    ends = sweep.ends()
    assert [ends[case]["state"] for case in chosen] == ["failed", "failed", "failed", "preempted"]
    assert "was lost: it was killed by SIGKILL" in ends[chosen[0]]["reason"]
    assert "was lost: it ended with exit code 3" in ends[chosen[1]]["reason"]
    assert "was lost: it ended with exit code 0 without a result" in ends[chosen[2]]["reason"]
    assert "was told to stop by SIGTERM" in ends[chosen[3]]["reason"]
    assert finished.output.count("not tried again: retry.max_attempts=1") == 4


# --- the launcher ----------------------------------------------------------------------------------------------------


def check_launcher_faults(folder: Path, chosen: list[str]) -> None:
    """Resume the sweep after each fault: it goes on where it was, and meets the next one."""
    sweep = Sweep(folder, [*chosen, "rank0-never-never"])
    for index, case in enumerate(chosen):
        number = signal.Signals[case.split("-")[2]]
        stopped = sweep.run(*ONCE_MORE, "hydra.launcher.resume=true")
        if number == signal.SIGKILL:
            assert stopped.returncode == -number, stopped.output
            assert case not in sweep.ends()
        else:
            assert stopped.returncode == (-number if number == signal.SIGINT else 128 + number), stopped.output
            state = "interrupted" if number in (signal.SIGINT, signal.SIGHUP) else "preempted"
            if case.split("-")[1] == "returning":
                state = "finished"  # the result is there: it is not thrown away
            assert sweep.ends()[case]["state"] == state
            assert state == "finished" or f"was told to stop by {number.name}" in stopped.output
            assert "hydra.launcher.resume=true" in stopped.output.rpartition("To run what has not finished:")[2]
            assert "Traceback" not in stopped.output.rpartition("To run what has not finished:")[2]
        finished = {name for name, end in sweep.ends().items() if end["state"] == "finished"}
        assert finished - {case} == set(chosen[:index])
    done = sweep.run("hydra.launcher.resume=true")
    assert done.returncode == 0, done.output
    assert {end["value"] for end in sweep.ends().values() if end["state"] == "finished"} == {0.5}
    assert len([line for line in sweep.lines() if line["event"] == "job"]) == len(sweep.cases)


LAUNCHER = ["before", "start", "running", "returning", "exit", "restart", "backoff"]


def test_a_sweep_whose_launcher_is_ended_goes_on_when_resumed(tmp_path: Path) -> None:
    faults = [
        "start-SIGKILL",
        "running-SIGTERM",
        "returning-SIGKILL",
        "returning-SIGTERM",
        "restart-SIGKILL",
        "backoff-SIGINT",
    ]
    check_launcher_faults(tmp_path, [f"launcher-{fault}" for fault in faults])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_sweep_whose_launcher_is_ended_at_any_moment_goes_on_when_resumed(tmp_path: Path, fault: str) -> None:
    check_launcher_faults(tmp_path, cases(["launcher"], LAUNCHER, [fault]))
