"""Launchers that srun has started as tasks, one per node, train one group; nothing says where they meet but Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.apps import App
from tests.helpers.slurm import Cluster, needs_slurm
from tests.slurm.batch import BatchJob

pytestmark = needs_slurm

BODY = """
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
count = torch.ones(1)
dist.all_reduce(count)
note(host=os.uname().nodename)
dist.destroy_process_group()
return int(count)
"""
RENDEZVOUS = "hydra/launcher/rendezvous=environment"


def test_one_task_per_node_is_one_group(slurm: Cluster, tmp_path: Path) -> None:
    if not slurm.has_networks:
        pytest.skip("without network namespaces the names of nodes lead nowhere")
    overrides = [RENDEZVOUS, "hydra.launcher.nproc_per_node=2", "+x=1,2"]
    job = BatchJob(slurm, App(tmp_path, BODY), overrides, ["--nodes=2", "--ntasks-per-node=1"], prefix="srun")
    assert job.wait_for_end() == "COMPLETED", job.output()
    assert job.output().count("2 finished") == 2
    assert "2 nodes, this one is 0; they meet at h1:" in job.output()
    for num in "01":
        ranks = {rank: (job.folder / num / f"seen.{rank}.json").read_text() for rank in range(4)}
        assert [text.count("h1") for text in ranks.values()] == [1, 1, 0, 0]
        assert f'"num":{num},"state":"finished"' in job.journal().read_text().replace(" ", "")


def test_several_tasks_on_one_node_are_refused(slurm: Cluster, tmp_path: Path) -> None:
    job = BatchJob(slurm, App(tmp_path, BODY), [RENDEZVOUS, "+x=1"], ["--ntasks=2", "--nodes=1"], prefix="srun")
    assert job.wait_for_end() == "FAILED"
    refusal = "srun has started several launchers on one node (SLURM_STEP_NUM_TASKS=2, SLURM_STEP_NUM_NODES=1)"
    assert f"hydra.launcher.rendezvous.backend=environment: {refusal}" in job.output()
    assert not job.journal().exists()
