"""By which id Slurm's commands take a job."""

from __future__ import annotations

import pytest

from elastic_hydra.hosts.slurm_commands import own_job


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "7_3"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}, "9"),
    ],
)
def test_no_other_element_of_an_array_is_meant(environ: dict[str, str], job: str) -> None:
    assert own_job(environ) == job
