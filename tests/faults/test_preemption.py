"""Signals that announce the end, as batch systems send them: they reach the workers, who have time for a checkpoint."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.helpers.apps import App, Running

pytestmark = pytest.mark.system

BODY = """
folder = Path(HydraConfig.get().runtime.output_dir)
checkpoint, rank = folder / f"checkpoint.{os.environ['RANK']}", os.environ["RANK"]
if checkpoint.exists():
    return checkpoint.read_text()
asked = []
def ask(number, frame):
    asked.append(signal.Signals(number).name)
    print("got", asked[-1], "in", rank, flush=True)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, ask)
# What helps to load data gets no signal: it may be needed for the last step.
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready:", rank, flush=True)
while not asked or (cfg.get("deaf") and "SIGTERM" not in asked):
    time.sleep(0.01)
assert helper.poll() is None
checkpoint.write_text(",".join(asked))
return "unfinished"
"""


@contextmanager
def running(folder: Path, *overrides: str) -> Iterator[Running]:
    two = ["hydra.launcher.nproc_per_node=2", "hydra/launcher/logs=all"]
    with App(folder, BODY).started("+x=1,2", *two, *overrides) as sweep:
        sweep.wait_for("ready: 0", "ready: 1")
        yield sweep


def agent(sweep: Running) -> psutil.Process:
    return psutil.Process(int((sweep.folder / "0" / "agent.pid").read_text()))


def state_of_the_first(sweep: Running) -> tuple[str, str]:
    lines = [json.loads(line) for line in (sweep.folder / "journal.jsonl").read_text().splitlines()]
    end = next(line for line in lines if line["event"] == "end")
    return end["state"], end["kind"]


@pytest.mark.parametrize("to", ["the launcher", "every process"])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=lambda number: number.name)
def test_workers_get_the_launcher_s_signal_and_write_their_checkpoints(
    tmp_path: Path, number: signal.Signals, to: str
) -> None:
    with running(tmp_path) as sweep:
        helpers = [p.pid for p in sweep.processes() if "import time" in " ".join(p.cmdline())]
        chosen = [p for p in sweep.processes() if p.pid not in helpers] if to == "every process" else []
        for process in chosen:
            process.send_signal(number)
        if not chosen:
            sweep.signal(number)
        stopped = sweep.finish()
        assert sweep.survivors() == []
    assert stopped.returncode == 128 + number, stopped.output
    assert state_of_the_first(sweep) == ("preempted", "preempted")
    assert f"was told to stop by {number.name}" in stopped.output
    assert "1 preempted, 1 not started" in stopped.output
    for rank in (0, 1):
        assert set((stopped.folder / "0" / f"checkpoint.{rank}").read_text().split(",")) == {number.name}


def test_who_does_not_end_in_the_checkpoint_s_time_gets_sigterm(tmp_path: Path) -> None:
    with running(tmp_path, "hydra.launcher.checkpoint_timeout=1", "+deaf=true") as sweep:
        sweep.signal(signal.SIGUSR1)
        stopped = sweep.finish()
    assert stopped.returncode == 128 + signal.SIGUSR1, stopped.output
    assert (stopped.folder / "0" / "checkpoint.0").read_text() == "SIGUSR1,SIGTERM"


def test_a_further_signal_does_not_wait_for_the_checkpoint_s_time(tmp_path: Path) -> None:
    with running(tmp_path, "hydra.launcher.checkpoint_timeout=600", "+deaf=true") as sweep:
        sweep.signal(signal.SIGUSR1)
        sweep.wait_for("got SIGUSR1 in 0", "got SIGUSR1 in 1")
        sweep.signal(signal.SIGUSR1)  # batch systems repeat themselves
        sweep.signal(signal.SIGTERM)
        stopped = sweep.finish()
    assert stopped.returncode == 128 + signal.SIGUSR1, stopped.output
    assert (stopped.folder / "0" / "checkpoint.0").read_text() == "SIGUSR1,SIGTERM"


@pytest.mark.smoke
def test_a_preempted_job_is_tried_again_as_the_policy_says(tmp_path: Path) -> None:
    with running(tmp_path, "hydra.launcher.retry.max_attempts=2") as sweep:
        agent(sweep).send_signal(signal.SIGUSR1)
        sweep.wait_for("was told to stop by SIGUSR1; tried again at once: attempt 2 of 2", "#1 :")
    assert state_of_the_first(sweep) == ("finished", "")


def test_a_preempted_job_is_not_tried_again_if_the_policy_says_so(tmp_path: Path) -> None:
    never = "hydra.launcher.retry.never_on=[preempted]"
    with running(tmp_path, "hydra.launcher.retry.max_attempts=2", never) as sweep:
        agent(sweep).send_signal(signal.SIGTERM)
        sweep.wait_for("#0 preempted", "not tried again: retry.never_on has preempted", "#1 :")


@pytest.mark.parametrize("stopped", ["server", "agent", "worker"])
def test_a_stopped_process_does_not_hold_the_launcher_up(tmp_path: Path, stopped: str) -> None:
    with running(tmp_path, "hydra.launcher.shutdown_timeout=600") as sweep:
        an_agent = agent(sweep)
        server = psutil.Process(an_agent.ppid())
        worker = next(child for child in server.children() if child.pid != an_agent.pid)
        {"agent": an_agent, "server": server, "worker": worker}[stopped].suspend()
        sweep.signal(signal.SIGTERM)
        ended = sweep.finish()
        assert sweep.survivors() == []
    assert ended.returncode == 128 + signal.SIGTERM, ended.output
    assert state_of_the_first(sweep) == ("preempted", "preempted")
