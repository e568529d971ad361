"""Hosts by Slurm are preempted, killed and cut off, launchers are killed and requeued: no result is lost or doubled."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.helpers.apps import MARKER, App, marked
from tests.helpers.destruction import KEYS, MORE_JOBS, SIZES, Destruction, Launcher, destruction_app
from tests.helpers.slurm import Cluster, needs_slurm
from tests.slurm.batch import BatchJob

pytestmark = needs_slurm

_SEED = 14
_SILENCE = "hydra.launcher.hosts.silence=20"
_CUT = 60.0
"""Seconds without a cable."""


class Queue:
    """Disasters that come from Slurm.

    Args:
        slurm: the cluster.
        mark: of the processes of a sweep.
        kills_shepherds: whether an srun is killed together with the process beside it, which would tell Slurm.
    """

    def __init__(self, slurm: Cluster, mark: str, *, kills_shepherds: bool = False) -> None:
        self._slurm = slurm
        self._mark = mark
        self._kills_shepherds = kills_shepherds
        self._dice = random.Random(_SEED)

    def _node(self) -> str:
        """Return a node where a job runs, or wait for one."""
        queue = ("squeue", "--noheader", "--states=RUNNING", "--format=%N")
        nodes = self._slurm.wait_for(lambda: self._slurm.run(*queue).split(), "a job that runs")
        return self._dice.choice(nodes).removeprefix("h[").partition("-")[0]

    def preempt_a_host(self) -> None:
        """Have another job run on a whole node at once."""
        option = ["--partition=high", f"--nodelist={self._node()}", "--exclusive", "--time=1"]
        self._slurm.run("srun", *option, "true")

    def kill_an_srun(self) -> None:
        """Kill an srun that leads to a host."""
        sruns = [process for process in marked(self._mark) if process.name() == "srun"]
        if sruns:
            first = self._dice.choice(sruns)
            for process in [first, *(first.children() if self._kills_shepherds else ())]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def cut_a_cable(self) -> None:
        """Take the network from a node for a minute."""
        name = self._node()
        with self._slurm.cut(name):
            time.sleep(_CUT)

    def await_empty(self) -> None:
        """Wait until nothing is in the queue."""
        self._slurm.wait_for(lambda: not self._slurm.run("squeue", "--noheader"), "an empty queue")


class Batch:
    """Batch jobs whose script is the launcher, on all nodes of its allocation: when one has ended, another goes on.

    Args:
        slurm: the cluster.
        app: what is launched.
        mark: of all processes of the sweep.
        overrides: of the sweep.
    """

    def __init__(self, slurm: Cluster, app: App, mark: str, overrides: Sequence[str]) -> None:
        self._slurm = slurm
        self._app = app
        self._mark = mark
        self._overrides = [*overrides, "hydra/launcher/hosts=allocation", "hydra.launcher.requeue=auto"]
        self.job = self._submit()

    def _submit(self, *overrides: str) -> BatchJob:
        options = ["--nodes=2", "--gpus-per-node=2"]
        prefix = f"exec env {MARKER}={self._mark}"
        return BatchJob(self._slurm, self._app, [*self._overrides, *overrides], options, prefix)

    def requeue_the_job(self) -> None:
        """Have Slurm end the job, and start it again."""
        self._slurm.wait_for_state(self.job.id, "RUNNING")
        self._slurm.run("scontrol", "requeue", self.job.id)
        self._slurm.start_again(self.job.id)

    def preempt_the_job(self) -> None:
        """Have another job run on one of its nodes at once."""
        self._slurm.wait_for_state(self.job.id, "RUNNING")
        self._slurm.run("srun", "--partition=high", "--nodelist=h2", "--exclusive", "--time=1", "true")
        self._slurm.start_again(self.job.id)

    def kill_the_launcher(self) -> None:
        """Kill the launcher, and with it the job, and resume the sweep in another one."""
        launcher = self._slurm.wait_for(self._launcher, "a launcher")
        launcher.kill()
        assert self.job.wait_for_end() == "FAILED"
        self.job = self._submit("hydra.launcher.resume=true")

    def _launcher(self) -> psutil.Process | None:
        for process in marked(self._mark):
            with contextlib.suppress(psutil.Error):
                if str(self._app.path) in process.cmdline():
                    return process
        return None


@pytest.mark.parametrize("is_full", SIZES)
def test_slurm_s_hosts_are_preempted_and_killed_and_the_launcher_is_killed_and_resumed(
    is_full: bool, login_shell: Cluster, tmp_path: Path
) -> None:
    mark, app = uuid.uuid4().hex, destruction_app(tmp_path)
    destruction, queue = Destruction(tmp_path, mark, _SEED), Queue(login_shell, mark, kills_shepherds=is_full)
    preempted, killed, cut, resumed = (50, 14, 1, 5) if is_full else (6, 2, 0, 1)
    jobs = preempted + killed + killed // 2 + cut + resumed + MORE_JOBS
    keys = ["hydra/launcher/hosts=slurm", "hydra.launcher.hosts.gpus_per_node=2", _SILENCE]
    launcher = Launcher(app, mark, [*keys, *KEYS, f"+x={','.join(map(str, range(jobs)))}"], {})
    disasters = [
        *[queue.preempt_a_host] * preempted,
        *[destruction.kill_a_host] * killed,
        *[queue.kill_an_srun] * (killed // 2),
        *[queue.cut_a_cable] * cut,
        *[launcher.kill_the_launcher] * resumed,
    ]
    with contextlib.ExitStack() as stack:
        stack.callback(destruction.end)
        stack.callback(launcher.end)
        destruction.cause(disasters, jobs, launcher.look)
        launcher.wait_for_success()
        destruction.check(jobs)
        queue.await_empty()


@pytest.mark.parametrize("is_full", SIZES)
def test_a_job_that_is_its_launcher_is_requeued_preempted_and_killed_and_so_are_its_hosts(
    is_full: bool, slurm: Cluster, tmp_path: Path
) -> None:
    mark, app = uuid.uuid4().hex, destruction_app(tmp_path)
    destruction = Destruction(tmp_path, mark, _SEED)
    requeued, preempted, killed, resumed = (10, 10, 5, 5) if is_full else (2, 1, 1, 1)
    jobs = requeued + preempted + killed + resumed + MORE_JOBS
    batch = Batch(slurm, app, mark, [*KEYS, _SILENCE, f"+x={','.join(map(str, range(jobs)))}"])
    disasters = [
        *[batch.requeue_the_job] * requeued,
        *[batch.preempt_the_job] * preempted,
        *[destruction.kill_a_host] * killed,
        *[batch.kill_the_launcher] * resumed,
    ]
    with contextlib.ExitStack() as stack:
        stack.callback(destruction.end)
        destruction.cause(disasters, jobs)
        assert batch.job.wait_for_end() == "COMPLETED", batch.job.output()
        destruction.check(jobs)
        Queue(slurm, mark).await_empty()
