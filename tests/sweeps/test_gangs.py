"""Gangs: jobs of several nodes on hosts of one launcher. The hosts are host processes on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.journal.events import AttemptLost, AttemptStarted, JobEnded, WorkersFailed, WorkersStarted
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import App
from tests.helpers.hosts_here import pid_of
from tests.sweeps.test_hosts import QUICK, environ, events, started, values

pytestmark = pytest.mark.system

GANG = ["hydra.launcher.nodes=2", "hydra.launcher.hosts.silence=600"]  # a gang needs both hosts, however slow
# All ranks have to be there for it, so it is also a proof that they are.
SUMS = """
    import torch
    import torch.distributed as dist
    dist.init_process_group("gloo")
    total = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(total)
    print(f"rank {dist.get_rank()} of {dist.get_world_size()}")
    dist.barrier()
    dist.destroy_process_group()
    return total.item() * cfg.x
"""
# In the first attempt, each rank waits for ever when all have met.
STAYS = """
    import torch.distributed as dist
    dist.init_process_group("gloo")
    mark = Path(HydraConfig.get().runtime.output_dir) / f"tried.{os.environ['RANK']}"
    first = not mark.exists()
    dist.barrier()
    if first:
        mark.touch()
        print(f"stays {os.environ['RANK']}")
        time.sleep(600)
    return cfg.x
"""


def held(event: AttemptStarted) -> list[str]:
    """The hosts on which an attempt has started, by node rank."""
    return [str(node["host"]) for node in event.nodes or ()]


@pytest.mark.smoke
def test_a_job_of_two_nodes_runs_on_two_hosts_with_one_directory_and_one_set_of_callbacks(tmp_path: Path) -> None:
    finished = App(tmp_path, SUMS).run(*QUICK, *GANG, "+x=1,10", environ=environ(tmp_path))
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 3.0, 1: 30.0}
    assert [sorted(held(event)) for event in events(finished, AttemptStarted)] == [["n1", "n2"]] * 2
    assert len(events(finished, WorkersStarted)) == 2
    assert finished.calls("job_start") == [["0"], ["1"]]
    assert len(finished.calls("job_end")) == 2
    ranks = finished.folder / "0" / "logs" / "restart_0"
    assert {path.name for path in ranks.iterdir()} >= {"rank_0", "rank_1"}
    assert "rank 1 of 2" in (ranks / "rank_1" / "stdout.log").read_text()


def test_a_host_that_dies_ends_the_attempt_on_all_its_hosts_and_the_job_goes_on_with_another(tmp_path: Path) -> None:
    more = ["hydra.launcher.hosts.max=3", "hydra/launcher/retry=preemptible"]
    with started(tmp_path, STAYS, *GANG, *more, "+x=7") as running:
        running.wait_for("stays 0", "stays 1")
        first = next(event for _, event in Lines(running.folder / "journal.jsonl") if isinstance(event, AttemptStarted))
        lost = held(first)[1]
        os.kill(pid_of(tmp_path, lost), signal.SIGKILL)
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 7}
    (event,) = events(finished, AttemptLost)
    assert f"its agent on host {lost} " in event.reason
    assert len(events(finished, AttemptStarted)) == 2


def test_a_host_that_dies_before_its_agent_is_started_is_what_the_attempt_was_lost_with(tmp_path: Path) -> None:
    """Agents of other nodes start when node 0 has said where they meet, which here it does when the test lets it."""
    before = f"""
    from elastic_hydra.jobs import agent_process
    met, go = agent_process.met, Path({str(tmp_path / "go")!r})
    def late(attempt):
        if not go.exists():
            print("opens no store yet", flush=True)
        while not go.exists():
            time.sleep(0.05)
        return met(attempt)
    agent_process.met = late
    """
    more = ["hydra.launcher.hosts.max=3", "hydra/launcher/retry=preemptible"]
    app = App(tmp_path, SUMS, before=before)
    with app.started(*QUICK, *GANG, *more, "+x=1", environ=environ(tmp_path)) as running:
        running.wait_for("opens no store yet")
        first = next(event for _, event in Lines(running.folder / "journal.jsonl") if isinstance(event, AttemptStarted))
        lost = held(first)[1]
        os.kill(pid_of(tmp_path, lost), signal.SIGKILL)
        running.wait_for(f"host {lost} is gone")
        (tmp_path / "go").touch()
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 3.0}
    (event,) = events(finished, AttemptLost)
    assert f"host {lost} was lost before the job's agent on it was started" in event.reason


def test_a_rank_that_fails_is_reported_with_its_own_exception_and_node(tmp_path: Path) -> None:
    body = """
    import torch.distributed as dist
    dist.init_process_group("gloo")
    dist.barrier()
    if dist.get_rank() == 1:
        raise OverflowError("too much")
    time.sleep(600)
    """
    finished = App(tmp_path, body).run(*QUICK, *GANG, "+x=1", environ=environ(tmp_path))
    assert finished.returncode != 0
    assert "OverflowError: too much" in finished.output
    (end,) = events(finished, JobEnded)
    assert end.kind == "exception"
    assert "rank 1 on host" in end.reason
    (failed,) = events(finished, WorkersFailed)  # each node knows, and one tells
    assert failed.failure.rank == 1


def test_the_workers_of_all_nodes_are_restarted_together_into_common_folders(tmp_path: Path) -> None:
    body = """
    import torch
    import torch.distributed as dist
    dist.init_process_group("gloo")
    mark = Path(HydraConfig.get().runtime.output_dir) / "tried"
    first = not mark.exists()
    dist.barrier()
    if dist.get_rank() == 1 and first:
        mark.touch()
        raise OSError("once")
    dist.barrier()
    return cfg.x
    """
    retry = "hydra.launcher.retry.max_restarts=1"
    finished = App(tmp_path, body).run(*QUICK, *GANG, retry, "+x=5", environ=environ(tmp_path))
    assert finished.returncode == 0, finished.output
    (end,) = events(finished, JobEnded)
    assert (end.value, end.restarts, end.attempts) == (5, 1, 1)
    logs = finished.folder / "0" / "logs"
    assert {path.name for path in logs.glob("restart_*/rank_1")} == {"rank_1"}
    assert sorted(path.name for path in logs.glob("restart_*")) == ["restart_0", "restart_1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_the_launcher_ends_all_nodes_of_a_job(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, STAYS, *GANG, "+x=1,2") as running:
        running.wait_for("stays 0", "stays 1")
        running.signal(number)
        finished = running.finish()
        assert running.survivors() == []
    (end,) = events(finished, JobEnded)
    assert end.state == ("interrupted" if number == signal.SIGINT else "preempted"), finished.output


def test_a_job_with_more_nodes_than_there_can_be_hosts_is_refused(tmp_path: Path) -> None:
    nodes: dict[str, Any] = {"environ": environ(tmp_path)}
    finished = App(tmp_path, SUMS).run(*QUICK, "hydra.launcher.nodes=3", "+x=1", **nodes)
    assert finished.returncode != 0
    assert "hydra.launcher.nodes=3: at most 2 hosts can be there" in finished.output
    assert not (finished.folder / "0").exists()


def test_a_sweep_ends_when_a_job_waits_for_more_hosts_than_there_will_be(tmp_path: Path) -> None:
    """The second host begins to fail when the first job has run, so nobody can know of it before."""
    body = """
    (Path(HydraConfig.get().runtime.output_dir).parent / "has_run").touch()
    return cfg.x
    """
    fails = f"while ! test -e {tmp_path}/sweep/has_run; do sleep 0.1; done; exit 3"
    ways = environ(tmp_path, HOSTS_HERE_BEFORE_n2=fails)
    finished = App(tmp_path, body).run(*QUICK, "hydra.launcher.nodes=${oc.select:x,1}", "+x=1,2", environ=ways)
    assert finished.returncode != 0
    assert values(finished) == {0: 1}, finished.output
    assert "the jobs that wait need more than n1" in finished.output
    assert "n2 has not started a host process: it ended with exit code 3" in finished.output
