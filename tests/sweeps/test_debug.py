"""Breakpoints in distributed code, on real terminals."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.helpers.apps import App
from tests.helpers.dialogue import Dialogue, dialogue

pytestmark = pytest.mark.system

BEFORE = """
import datetime, fcntl, termios
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def train(rank):
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    for step in range(2):
        if step == 1:
            breakpoint()
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
    return step
"""

DDP = """
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=1))
step = train(dist.get_rank())
dist.barrier()
print("trained", dist.get_rank(), step, flush=True)
"""

SHORT_LIMITS = (
    "hydra.launcher.watch.time_limit=1",
    "hydra.launcher.watch.progress_limit=0.5",
    "hydra.launcher.watch.action=fail",
)


@contextlib.contextmanager
def on_a_terminal(app: App, *overrides: str, program: Sequence[str] = ()) -> Iterator[Dialogue]:
    command = program or [sys.executable, str(app.path)]
    sweep = ["-m", "hydra/launcher=elastic", f"hydra.sweep.dir={app.folder / 'sweep'}"]
    with dialogue([*command, *sweep, *overrides], app.folder, app.environment()) as spoken:
        yield spoken


@pytest.mark.smoke
def test_a_breakpoint_in_ddp_code_stops_the_rank_that_has_the_terminal_and_nothing_times_out(tmp_path: Path) -> None:
    two = ("hydra.launcher.nproc_per_node=2", "hydra.launcher.debug=rank1")
    with on_a_terminal(App(tmp_path, DDP, before=BEFORE), *two, *SHORT_LIMITS) as spoken:
        spoken.expect("rank 1 has this terminal")
        spoken.expect("(Pdb) ")
        spoken.type("p 'rank', rank")
        spoken.expect("('rank', 1)")
        # Longer than the limits of this job, and than the time-out of its process group.
        spoken.type("import time; time.sleep(2.5)")
        spoken.expect("(Pdb) ")
        spoken.type("n")
        spoken.expect("-> loss.backward()")
        spoken.type("c")
        spoken.expect("trained 1 1")
        spoken.expect("#0 finished")
        assert spoken.end() == 0
    assert not list(tmp_path.glob("sweep/0/logs/*/rank_1/std*.log")), "the output of that rank is not captured"
    assert "trained 0 1" in (tmp_path / "sweep/0/logs/restart_0/rank_0/stdout.log").read_text()


def test_q_ends_the_job_which_is_not_tried_again_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    app = App(tmp_path, "print('begun', flush=True)\nimport pdb\npdb.set_trace()\nprint('not here')")
    settings = ("hydra.launcher.nproc_per_node=2", "hydra.launcher.debug=rank0", "hydra/launcher/retry=restart")
    with on_a_terminal(app, *settings, "hydra.launcher.retry.never_on=[]") as spoken:
        spoken.expect("(Pdb) ")
        spoken.type("q")
        spoken.expect("#0 failed")
        assert spoken.end() == 1
    assert spoken.text.count("begun") == 1
    assert "BdbQuit" in spoken.text


def test_ctrl_c_is_for_the_debugger_and_ctrl_backslash_ends_the_sweep(tmp_path: Path) -> None:
    says = "rank = os.environ['RANK']\nopen(f'pid{rank}', 'w').write(str(os.getpid()))\nbreakpoint()\n"
    app = App(tmp_path, says + "print('went on', rank, flush=True)\nwhile True:\n    time.sleep(0.1)")
    with on_a_terminal(app, "hydra.launcher.nproc_per_node=2", "hydra.launcher.debug=rank1", "+x=1,2") as spoken:
        spoken.expect("(Pdb) ")
        # Python overlooks a Ctrl-C between the prompt and its wait for input, until the next key.
        worker = psutil.Process(int((tmp_path / "pid1").read_text()))
        while worker.status() != psutil.STATUS_SLEEPING:
            time.sleep(0.01)
        spoken.press("c")
        spoken.expect("--KeyboardInterrupt--")
        spoken.expect("(Pdb) ")
        spoken.type("p 'rank', rank")
        spoken.expect("('rank', '1')")
        spoken.type("c")
        spoken.expect("went on 1")
        spoken.press("c")  # pdb stops where the program is
        spoken.expect("Program interrupted")
        spoken.expect("(Pdb) ")
        spoken.press("\\")
        spoken.expect("#0 interrupted")
        assert spoken.end() == 128 + signal.SIGQUIT
    assert "1 interrupted, 1 not started" in spoken.text


def test_ctrl_z_stops_the_rank_as_well_and_the_shell_reads_the_terminal_alone(tmp_path: Path) -> None:
    app = App(tmp_path, "rank = os.environ['RANK']\nbreakpoint()\nprint('went on', flush=True)")
    says = 'set -m; "$@"; echo "has stopped"; for i in 1 2 3; do read line; echo "shell got $line"; done; fg; echo over'
    shell = ["bash", "--norc", "-c", says, "bash", sys.executable, str(app.path)]
    with on_a_terminal(app, "hydra.launcher.debug=rank0", program=shell) as spoken:
        spoken.expect("(Pdb) ")
        spoken.press("z")
        spoken.expect("has stopped")
        for line in ("one", "two", "three"):
            spoken.type(line)
            spoken.expect(f"shell got {line}")
        spoken.expect('"$@"')  # says fg
        spoken.type("p 'rank', rank")
        spoken.expect("('rank', '0')")
        spoken.type("c")
        spoken.expect("went on")
        spoken.expect("over")
        assert spoken.end() == 0


POST_MORTEM = """
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=1))
def compute(secret):
    raise ValueError(f"no {secret}")
if dist.get_rank() == 1 or cfg.get("all"):
    compute(20 + dist.get_rank())
dist.barrier()
"""


@pytest.mark.parametrize("failing", ["one rank", "all ranks"])
def test_the_debugger_opens_where_the_first_rank_has_failed_and_only_there(tmp_path: Path, failing: str) -> None:
    overrides = ["hydra.launcher.nproc_per_node=2", "hydra.launcher.debug=post_mortem", *SHORT_LIMITS]
    if failing == "all ranks":
        overrides.append("+all=true")
    with on_a_terminal(App(tmp_path, POST_MORTEM, before=BEFORE), *overrides) as spoken:
        spoken.expect("raised ValueError: no 2")
        spoken.expect("(Pdb) ")
        spoken.type("p 'secret', secret")
        spoken.expect("('secret', 2")
        spoken.type("import time; time.sleep(1.5)")
        spoken.expect("(Pdb) ")
        spoken.type("q")
        spoken.expect("#0 failed")
        assert spoken.end() == 1
    assert spoken.text.count("raised ValueError: no 2") - spoken.text.count("#0 failed") == 1, spoken.text
    logs = [path.read_text() for path in tmp_path.glob("sweep/0/logs/restart_0/rank_*/stderr.log")]
    assert sum("ValueError: no 2" in text for text in logs) >= 1, "the traceback is where it always is"


def test_without_a_terminal_there_is_no_post_mortem(tmp_path: Path) -> None:
    refused = App(tmp_path, "pass").run("hydra.launcher.debug=post_mortem")
    assert refused.returncode == 2
    assert "hydra.launcher.debug=post_mortem: standard input is no terminal" in refused.output
