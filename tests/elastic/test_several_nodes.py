"""Several nodes come to the same verdict, and count one budget."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

SOURCE = """
    import json, os, signal, sys, time
    from pathlib import Path
    import torch
    import torch.distributed as dist
    from torch.distributed.elastic.multiprocessing import SignalException
    from elastic_hydra import LaunchConfig, elastic_launch
    from elastic_hydra.config.retry import RetryConfig
    from elastic_hydra.elastic.worker_failure import WorkersFailedError
    from elastic_hydra.elastic.logs import JobLogs

    def work(how, until):
        restart = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        dist.init_process_group("gloo")
        dist.barrier()
        if restart >= until:
            return restart
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "notices":
            dist.barrier()
        time.sleep(600)

    def train(folder):
        # Write a checkpoint that needs all ranks, once all have been asked for it.
        checkpoint, asked = Path(folder, "checkpoint." + os.environ["RANK"]), []
        if checkpoint.exists():
            return [checkpoint.read_text(), os.environ["TORCHELASTIC_RESTART_COUNT"]]
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, lambda number, _: asked.append(signal.Signals(number).name))
        dist.init_process_group("gloo")
        Path(folder, "ready." + os.environ["RANK"]).touch()
        all_asked = torch.tensor(0)
        while not all_asked:
            time.sleep(0.01)
            all_asked.fill_(len(asked))
            dist.all_reduce(all_asked, dist.ReduceOp.MIN)
        dist.barrier()
        checkpoint.write_text(",".join(asked))

    if __name__ == "__main__":
        port, folder, how, until, restarts = sys.argv[1:]
        said = []

        def note(verdict):
            failure, decision = verdict.failure, verdict.decision
            what = [failure.kind.value, failure.rank, failure.signal]
            said.append([*what, decision.again, decision.reason, verdict.time])

        config = LaunchConfig(
            2, 2, 1, run_id="job", rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:" + port, monitor_interval=0.1,
            # The store is the first node's: it has to outlive a launch of the second.
            rdzv_configs={"join_timeout": 40, "is_host": Path(folder).name == "a"},
            retry=RetryConfig(max_restarts=int(restarts)), on_verdict=note,
            logs_specs=JobLogs(folder), shutdown_timeout=2, signals_to_handle="SIGUSR1,SIGTERM",
        )
        job = (train, str(Path(folder).parent)) if how == "trains" else (work, how, int(until))
        try:
            try:
                result = list(elastic_launch(config, job[0])(*job[1:]).values())
            except SignalException as error:
                print("stopped by", error.sigval.name, file=sys.stderr)
                result = list(elastic_launch(config, job[0])(*job[1:]).values())  # it comes back
        except WorkersFailedError as error:
            result = error.verdict.failure.reason
        print(json.dumps({"verdicts": said, "result": result}))
"""


@contextlib.contextmanager
def started(folder: Path, how: str, until: int, restarts: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Start a job on two nodes, which are two processes on this machine."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SOURCE))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [sys.executable, str(script), str(port), str(folder / name), how, str(until), str(restarts)],
            stdout=subprocess.PIPE,
            stderr=(folder / f"{name}.err").open("w"),
            text=True,
        )
        for name in ("a", "b")
    ]
    try:
        yield nodes
    finally:
        for node in nodes:
            node.kill()
            node.wait()


def answers(nodes: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """Wait for the ends of both nodes, and return what each of them says."""
    # The last line: torch 2.9's Gloo says something there too.
    return [json.loads(node.communicate(timeout=150)[0].splitlines()[-1]) for node in nodes]


def both(folder: Path, how: str, until: int, restarts: int) -> list[dict[str, Any]]:
    """Run a job on two nodes, and return what each of them says."""
    with started(folder, how, until, restarts) as nodes:
        return answers(nodes)


def test_one_death_is_one_restart_on_all_nodes(tmp_path: Path) -> None:
    first, second = both(tmp_path, "does not notice", until=1, restarts=1)
    assert first["result"] == second["result"] == [1]
    assert first["verdicts"] == second["verdicts"]
    assert [verdict[:5] for verdict in first["verdicts"]] == [["signal", 1, "SIGKILL", True, "restart 1 of 1"]]


def test_the_budget_is_the_jobs(tmp_path: Path) -> None:
    first, second = both(tmp_path, "notices", until=9, restarts=1)
    assert first["verdicts"] == second["verdicts"]
    assert [verdict[3] for verdict in first["verdicts"]] == [True, False]
    assert first["result"] == second["result"]
    assert "was killed by SIGKILL" in first["result"]


def test_a_preempted_node_is_waited_for_and_costs_no_restart(tmp_path: Path) -> None:
    with started(tmp_path, "trains", until=0, restarts=1) as nodes:
        while len(list(tmp_path.glob("ready.*"))) < 2:
            assert all(node.poll() is None for node in nodes)
            time.sleep(0.05)
        nodes[1].send_signal(signal.SIGUSR1)
        first, second = answers(nodes)
    free = "a preempted node says nothing about the job: this restart does not count"
    assert [verdict[:5] for verdict in first["verdicts"]] == [["preempted", None, "SIGUSR1", True, free]]
    assert second["verdicts"] == []
    # The workers of both have got the signal, and written their checkpoint together.
    assert first["result"] == second["result"] == [["SIGUSR1", "0"]]
    assert "stopped by SIGUSR1" in (tmp_path / "b.err").read_text()
