"""The cluster that the tests start has what they need: nodes with names, GPUs, preemption and requeue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.slurm import Cluster, needs_slurm

pytestmark = needs_slurm

SCRIPT = """#!/bin/sh
trap 'echo told; exit 143' TERM
srun --label sh -c 'echo $(hostname) $CUDA_VISIBLE_DEVICES'
echo life "${SLURM_RESTART_COUNT:-0}"
[ -n "$SLURM_RESTART_COUNT" ] && exit
sleep 600 & wait
"""


@pytest.mark.parametrize("how", ["preempted", "requeued"])
def test_a_job_of_two_nodes_is_told_and_starts_again(slurm: Cluster, tmp_path: Path, how: str) -> None:
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT)
    job = slurm.submit(script, "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=2")
    output = tmp_path / f"{job}.out"
    slurm.wait_for(lambda: output.exists() and "life 0" in output.read_text(), "the first life")
    lines = output.read_text().splitlines()
    assert {line.partition(" ")[2] for line in lines if ": " in line} == (
        {"h1 0,1", "h2 0,1"} if slurm.has_networks else {f"{slurm.run('hostname').strip()} 0,1"}
    )
    if how == "preempted":
        slurm.run("srun", "--partition=high", "--nodes=2", "--exclusive", "true")
    else:
        slurm.run("scontrol", "requeue", job)
    slurm.start_again(job)
    slurm.wait_for_state(job, "COMPLETED")
    assert "told" in output.read_text()
    assert "life 1" in output.read_text()
