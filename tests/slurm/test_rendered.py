"""Batch scripts that `elastic-hydra plan` has written, submitted to Slurm."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers.slurm import Cluster, needs_slurm

pytestmark = needs_slurm

APP = """
    import os, signal, time
    from pathlib import Path
    import hydra
    from hydra.core.hydra_config import HydraConfig

    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        told = []
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, lambda number, frame: told.append(number))
        checkpoint = Path(HydraConfig.get().runtime.output_dir) / f"checkpoint.{os.environ['RANK']}"
        print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], "works", flush=True)
        while cfg.job == 1 and not checkpoint.exists() and not told:
            time.sleep(0.05)
        checkpoint.touch()
        return cfg.job * int(os.environ["WORLD_SIZE"])

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize("how", ["told that its time is over", "preempted"])
def test_a_script_of_two_nodes_goes_on_in_its_next_life(slurm: Cluster, tmp_path: Path, how: str) -> None:
    if not slurm.has_networks:
        pytest.skip("the nodes have no addresses of their own")
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    options = ["--render", "sbatch", "--gpus-per-node", "2", "--cpus-per-task", "2"]
    settings = ["hydra.launcher.nodes=2", "hydra.launcher.nproc_per_node=1", "hydra/launcher/logs=all"]
    launch = ["app.py", "-m", "hydra/launcher=elastic", *settings, "+job=0,1,2", "hydra.sweep.dir=sweep"]
    command = [sys.executable, "-c", "from elastic_hydra.cli.main import main; main()", "plan", *options, *launch]
    script = tmp_path / "job.sh"
    script.write_text(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    job = slurm.submit(script)
    output = tmp_path / f"{job}.out"

    def works(job_num: int) -> bool:
        logs = list((tmp_path / "sweep" / str(job_num)).rglob("stdout.log"))
        return len(logs) == 2 and all("works" in path.read_text() for path in logs)

    try:
        slurm.wait_for(lambda: works(1), "the job that waits")
        if how == "preempted":
            slurm.run("srun", "--partition=high", "--nodes=2", "--exclusive", "true")
        else:
            slurm.run("scancel", "--batch", "--signal=USR1", job)  # as Slurm does it before the time is over
        slurm.start_again(job)
        slurm.wait_for_state(job, "COMPLETED")
    except BaseException:
        print(output.read_text() if output.exists() else "")
        raise
    assert slurm.job(job)["Restarts"] == "1"
    # In all lives together, each job has one result.
    results = sorted(re.findall(r"#(\d) finished: (\d+) in", output.read_text()))
    assert results == [(str(num), str(num * 2)) for num in range(3)]
