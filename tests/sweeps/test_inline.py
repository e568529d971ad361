"""`start_method=inline`: jobs in the launcher's own process."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from elastic_hydra.control.client import ControlError
from tests.helpers.apps import App, interrupted
from tests.sweeps.test_debug import on_a_terminal
from tests.sweeps.test_hands import journal, stop

pytestmark = pytest.mark.system

BEFORE = """
import torch.distributed as dist

LAUNCHER = os.getpid()
"""

BODY = """
assert os.getpid() == LAUNCHER
dist.init_process_group("gloo")
note(rank=dist.get_rank(), size=dist.get_world_size(), job=HydraConfig.get().job.num)
dist.destroy_process_group()
log.info("in job %s", cfg.x)
if cfg.x == "raises":
    raise ValueError("no")
if cfg.x == "exits":
    sys.exit(3)
return cfg.x
"""


@pytest.mark.smoke
def test_jobs_run_in_the_launcher_s_process_one_after_the_other(tmp_path: Path) -> None:
    sweep = App(tmp_path, BODY, before=BEFORE).run("hydra.launcher.start_method=inline", "+x=1,raises,exits,2")
    assert sweep.returncode == 1
    ends = {line["num"]: (line["state"], line.get("value"), line["reason"]) for line in journal(sweep.folder, "end")}
    assert ends == {
        0: ("finished", 1, ""),
        1: ("failed", None, "rank 0 raised ValueError: no"),
        2: ("failed", None, "rank 0 ended with exit code 3"),
        3: ("finished", 2, ""),
    }
    assert [sweep.seen(job, 0) for job in (0, 3)] == [{"rank": 0, "size": 1, "job": job} for job in (0, 3)]
    assert sweep.calls("job_start") == [["0"], ["1"], ["2"], ["3"]]
    assert "in job 2" in (sweep.folder / "3" / "app.log").read_text()
    assert "in job 2" not in (sweep.folder / "0" / "app.log").read_text()
    assert "inline.py" not in sweep.output, "the traceback begins in the app"


def test_a_debugger_of_one_process_stops_in_the_task(tmp_path: Path) -> None:
    app = App(tmp_path, "value = cfg.x * 2\nreturn value", before=BEFORE)
    line = next(number for number, text in enumerate(app.path.read_text().splitlines(), 1) if "return value" in text)
    pdb = [sys.executable, "-m", "pdb", "-c", f"b {line}", "-c", "c", str(app.path)]
    with on_a_terminal(app, "hydra.launcher.start_method=inline", "+x=3", program=pdb) as spoken:
        spoken.expect("-> return value")
        spoken.type("p 'value', value")
        spoken.expect("('value', 6)")
        spoken.type("c")
        spoken.expect("#0 finished: 6")
        spoken.expect("(Pdb) ")  # the program has ended, and would start anew
        spoken.type("q")
        spoken.end()


def test_ctrl_c_interrupts_the_job_and_the_sweep(tmp_path: Path) -> None:
    body = "print('begun', flush=True)\ntime.sleep(600)"
    with App(tmp_path, body).started("hydra.launcher.start_method=inline", "+x=1,2") as sweep:
        sweep.wait_for("begun")
        with pytest.raises(ControlError, match=r"no control socket.*\(start_method=inline\)"):
            stop(sweep.folder)  # nobody would answer before the job has ended
        sweep.signal(signal.SIGINT)
        stopped = sweep.finish()
    assert interrupted(stopped.returncode), stopped.output
    assert [(line["num"], line["state"]) for line in journal(stopped.folder, "end")] == [(0, "interrupted")]
    assert "1 interrupted, 1 not started" in stopped.output
