"""The time limits of Slurm, and jobs of which it is known how long they take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_hydra.journal.events import HostJoined, JobEnded
from tests.helpers.apps import App
from tests.helpers.slurm import Cluster, needs_slurm
from tests.slurm.test_sweeps import ON_JOBS, events

pytestmark = needs_slurm


@pytest.mark.usefixtures("login_shell")
def test_a_host_knows_how_long_its_job_lasts(tmp_path: Path) -> None:
    app = App(tmp_path, "    return cfg.x\n")
    environ = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    finished = app.run(
        *ON_JOBS,
        "hydra.launcher.hosts.timeout_min=600",
        "hydra.launcher.resources.duration=8h",
        "+x=1",
        environ=environ,
    )
    assert finished.returncode == 0, finished.output
    (host,) = events(finished.folder, HostJoined)
    assert 9 * 3600 < host.ends - host.time <= 10 * 3600
    assert [event.value for event in events(finished.folder, JobEnded)] == [1]


def test_a_job_that_takes_longer_than_the_partition_allows_is_refused(login_shell: Cluster, tmp_path: Path) -> None:
    app = App(tmp_path, "    return cfg.x\n")
    environ = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    limit = "+hydra.launcher.hosts.additional_parameters.time=20:00:00"
    finished = app.run(*ON_JOBS, limit, "hydra.launcher.resources.duration=24h", "+x=1", environ=environ)
    assert finished.returncode == 2, finished.output
    assert "resources.duration=24h: the time limit of this host comes in" in finished.output
    login_shell.wait_for(lambda: not login_shell.run("squeue", "--noheader"), "the end of all jobs")
