"""Several nodes come to the same verdict, and count one budget."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

SOURCE = """
    import json, os, signal, sys, time
    import torch.distributed as dist
    from elastic_hydra import LaunchConfig, elastic_launch
    from elastic_hydra.config.retry import RetryConfig
    from elastic_hydra.launcher.failure import WorkersFailedError
    from elastic_hydra.launcher.logs import JobLogs

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

    if __name__ == "__main__":
        port, folder, how, until, restarts = sys.argv[1:]
        said = []

        def note(verdict):
            failure, decision = verdict.failure, verdict.decision
            what = [failure.kind.value, failure.rank, failure.signal]
            said.append([*what, decision.again, decision.reason, verdict.time])

        config = LaunchConfig(
            2, 2, 1, run_id="job", rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:" + port, monitor_interval=0.1,
            rdzv_configs={"join_timeout": 40}, retry=RetryConfig(max_restarts=int(restarts)), on_verdict=note,
            logs_specs=JobLogs(folder), shutdown_timeout=2,
        )
        try:
            result = list(elastic_launch(config, work)(how, int(until)).values())
        except WorkersFailedError as error:
            result = error.verdict.failure.reason
        print(json.dumps({"verdicts": said, "result": result}))
"""


def both(folder: Path, how: str, until: int, restarts: int) -> list[dict[str, Any]]:
    """Run a job on two nodes, which are two processes on this machine, and return what each of them says."""
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
        # The last line: torch 2.9's Gloo says something there too.
        return [json.loads(node.communicate(timeout=150)[0].splitlines()[-1]) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
            node.wait()


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
