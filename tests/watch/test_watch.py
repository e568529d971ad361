"""Limits for real workers: time, start-up, progress and memory, and the stacks of those that exceed them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import elastic_hydra
from elastic_hydra.config.watch import Action
from tests.helpers.groups import Launched, no_wait, rank, restarts, stand_still

pytestmark = pytest.mark.system


@pytest.fixture
def launched(tmp_path: Path) -> Launched:
    return Launched(tmp_path)


def stacks(launched: Launched, number: int, restart: int = 0) -> str:
    return (launched.folder / f"logs/restart_{restart}/rank_{number}/stacks.txt").read_text()


def hangs(limit: float = 0.6, action: Action = Action.fail, *progress: str) -> dict[str, Any]:
    return {"progress_limit": limit, "action": action, "progress": list(progress or ("heartbeat",))}


def test_a_hang_is_found_and_every_rank_shows_its_stacks(launched: Launched) -> None:
    error = launched.fail(stand_still, watch=hangs())
    assert error.verdict is not None
    failure = error.verdict.failure
    assert (failure.kind.value, failure.rank) == ("hang", 1)
    assert "rank 1 made no progress (heartbeat) for" in failure.reason
    assert error.verdict.decision.reason == "watch.action=fail"
    assert failure.stacks == tuple(str(launched.folder / f"logs/restart_0/rank_{n}/stacks.txt") for n in (0, 1))
    assert [number for number in (0, 1) if "in stand_still" not in stacks(launched, number)] == []
    assert "rank 1 made no progress" in str(error.failures[1].message)


def stuck_in_c() -> None:
    elastic_hydra.heartbeat()
    if rank() == 1:
        ctypes.PyDLL(None).sleep(600)  # PyDLL: it keeps the interpreter locked meanwhile
    time.sleep(600)


def test_a_worker_in_a_c_call_that_holds_the_interpreter_shows_its_stacks(launched: Launched) -> None:
    launched.fail(stuck_in_c, watch=hangs())
    assert "in stuck_in_c" in stacks(launched, 1)


def stopped() -> None:
    elastic_hydra.heartbeat()
    if rank() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        elastic_hydra.heartbeat()
        time.sleep(0.02)


def test_a_stopped_worker_is_a_hang_and_is_woken_to_show_its_stacks(launched: Launched) -> None:
    error = launched.fail(stopped, watch=hangs(0.6, Action.fail, "heartbeat", "cpu"))
    assert error.verdict is not None
    assert error.verdict.failure.rank == 0
    assert "the process is stopped by a signal" in error.verdict.failure.reason
    assert "is stopped" in stacks(launched, 0)
    assert "in stopped" in stacks(launched, 0)


def one_does_not_come(stopped: int = 1) -> None:
    dist.init_process_group("gloo")
    elastic_hydra.heartbeat()
    if rank() == stopped:
        load_data()
    dist.barrier()


def load_data() -> None:
    time.sleep(600)


@pytest.mark.smoke
def test_a_hang_names_the_rank_that_is_in_no_collective_operation(launched: Launched) -> None:
    error = launched.fail(one_does_not_come, watch=hangs(3.0))
    assert error.verdict is not None
    failure = error.verdict.failure
    assert failure.rank == 1
    assert "rank 1 is in no collective operation but at test_watch.py:" in failure.reason
    assert "in load_data, and rank 0 waits in barrier" in failure.reason


def hang_once() -> int:
    if restarts() == 0:
        stand_still()
    return restarts()


@pytest.mark.smoke
def test_a_hang_is_followed_by_a_restart_when_asked(launched: Launched) -> None:
    assert launched.run(hang_once, retry=no_wait(), watch=hangs(0.6, Action.restart)) == {0: 1, 1: 1}
    assert launched.kinds == ["hang"]


def slow_for_a_while(folder: str) -> str:
    """Stand still until the agent has written the stacks of this rank, then finish."""
    elastic_hydra.heartbeat()
    path = Path(folder) / f"logs/restart_0/rank_{rank()}/stacks.txt"
    while not path.exists():
        time.sleep(0.02)
    return "done"


def test_a_limit_that_is_only_logged_changes_nothing(launched: Launched, caplog: pytest.LogCaptureFixture) -> None:
    assert launched.run(slow_for_a_while, str(launched.folder), watch=hangs(0.3, Action.log)) == {0: "done", 1: "done"}
    assert launched.verdicts == []
    said = [record.getMessage() for record in caplog.records if "made no progress" in record.getMessage()]
    assert len(said) == 1
    assert "nothing is done (watch.action=log); stacks: " in said[0]
    assert "in slow_for_a_while" in stacks(launched, 0)


def works(how: str, seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if how == "output" and rank() == 0:
            print("step", flush=True)
        if how == "heartbeat":
            elastic_hydra.heartbeat()
        if how != "cpu":
            time.sleep(0.02)
    return how


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["heartbeat", "output", "cpu"])
def test_progress_of_each_kind_is_seen(how: str, launched: Launched) -> None:
    launched.run(works, how, 1.2, watch=hangs(0.6, Action.fail, how), redirects=3)


@pytest.mark.parametrize("how", ["output", "cpu"])
def test_progress_of_another_kind_does_not_count(how: str, launched: Launched) -> None:
    launched.fail(works, how, 60.0, watch=hangs(0.6, Action.fail, "heartbeat"), redirects=3)


def test_a_job_has_a_time_limit_whatever_the_action(launched: Launched) -> None:
    error = launched.fail(time.sleep, 3600, retry=no_wait(), watch={"time_limit": 0.7, "action": Action.log})
    assert launched.kinds == ["timeout"]
    assert error.verdict is not None
    assert error.verdict.decision.reason == "the job's time is over"
    assert "watch.time_limit=0.7" in error.verdict.failure.reason


def test_silence_at_the_start_has_a_limit_of_its_own(launched: Launched) -> None:
    launched.fail(time.sleep, 600, watch={"start_up_limit": 0.5, "action": Action.fail})
    assert launched.kinds == ["start_up"]


def beats_once_then_sleeps(seconds: float) -> None:
    elastic_hydra.heartbeat()
    time.sleep(seconds)


def test_after_a_first_sign_of_life_the_start_is_over(launched: Launched) -> None:
    launched.run(beats_once_then_sleeps, 1.0, watch={"start_up_limit": 0.7, "action": Action.fail})


def hoard(size: int) -> None:
    if rank() == 0:
        hoarded = b"x" * size
    time.sleep(600)
    del hoarded


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["pss", "rss"])
def test_the_memory_of_the_workers_has_a_limit(how: str, launched: Launched) -> None:
    from elastic_hydra.config.watch import Memory

    limit = {"pss": 500 << 20, "rss": 900 << 20}[how]  # two workers, whose shared pages count twice in rss
    watch = {"memory_limit": limit, "memory": Memory(how), "action": Action.fail, "interval": 0.1}
    error = launched.fail(hoard, 1 << 30, watch=watch)
    assert launched.kinds == ["oom"]
    assert error.verdict is not None
    assert f"({how.upper()}): watch.memory_limit=" in error.verdict.failure.reason
    assert "in hoard" in stacks(launched, 0)


# --- programs ----------------------------------------------------------------------------------------------------

PROGRAM = """
    import os, sys, time
    if "beat" in sys.argv:
        import elastic_hydra
        elastic_hydra.heartbeat()
    def endless_loop():
        time.sleep(600)
    endless_loop()
"""


@pytest.mark.parametrize("arguments", [["beat"], []], ids=["that beats", "that does not"])
def test_a_script_in_an_interpreter_of_its_own_shows_its_stacks(arguments: list[str], tmp_path: Path) -> None:
    launched = Launched(tmp_path, workers=1)
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    launched.fail(sys.executable, "-B", str(path), *arguments, watch=hangs(2.0), redirects=3)
    assert launched.kinds == ["hang"]
    text = stacks(launched, 0)
    if not arguments:
        assert "at the end of stderr.log" in text
        text = (tmp_path / "logs/restart_0/rank_0/stderr.log").read_text()
    assert "in endless_loop" in text


# --- heartbeats --------------------------------------------------------------------------------------------------


def test_a_heartbeat_outside_a_worker_does_nothing() -> None:
    elastic_hydra.heartbeat()
    elastic_hydra.heartbeat()


def seconds_per_heartbeat(count: int) -> float:
    elastic_hydra.heartbeat()
    start = time.perf_counter()
    for _ in range(count):
        elastic_hydra.heartbeat()
    return (time.perf_counter() - start) / count


def test_a_heartbeat_is_near_free(tmp_path: Path) -> None:
    launched = Launched(tmp_path, workers=1)
    values = launched.run(seconds_per_heartbeat, 100_000, watch={"progress_limit": 60.0})
    assert values[0] < 5e-6  # 0.35 to 0.43 microseconds of CPU time were measured
