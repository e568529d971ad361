"""Hosts that are there for some time only, and jobs of which it is known how long they take."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from elastic_hydra.config.resources import Demand
from elastic_hydra.journal.events import HostJoined, HostLeft
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.scheduler import Scheduler
from elastic_hydra.sweeps.steps import Wait
from tests.helpers.apps import App
from tests.sweeps.test_hosts import QUICK, environ, events, values
from tests.sweeps.test_scheduler import attempt, host, started

HOUR = 3600.0
SHORT, LONG, ANY = Demand(cpus=1, duration=HOUR), Demand(cpus=1, duration=2 * HOUR), Demand(cpus=1)


def scheduler(*demands: Demand, **ends: float) -> Scheduler:
    """A scheduler of jobs, with hosts that have two CPUs each and end at some moment."""
    hosts = HostSlots()
    for name, end in ends.items():
        hosts.add(name, host(2, name=name), ends=end)
    made = Scheduler([(num, []) for num in range(len(demands))], hosts)
    for num, demand in enumerate(demands):
        made.composed(attempt(num, demand))
    return made


def test_a_job_starts_where_it_ends_before_the_host_does() -> None:
    jobs = scheduler(LONG, n1=1.5 * HOUR, n2=3 * HOUR)
    assert started(jobs.next(0.0)) == 0
    assert jobs.running[0].is_on("n2")


def test_a_job_that_would_not_end_in_time_waits_and_keeps_no_other_waiting() -> None:
    jobs = scheduler(LONG, SHORT, ANY, n1=1.5 * HOUR)
    assert [started(jobs.next(0.0)) for _ in range(2)] == [1, 2]
    jobs.ended(1)
    jobs.ended(2)
    assert jobs.next(0.0) == Wait(None)
    jobs.hosts.add("n2", host(name="n2"), ends=math.inf)
    assert started(jobs.next(0.0)) == 0


def test_time_goes_by_while_a_job_waits_for_room() -> None:
    jobs = scheduler(Demand(cpus=2, duration=HOUR), Demand(cpus=2, duration=HOUR), n1=1.5 * HOUR)
    assert started(jobs.next(0.0)) == 0
    jobs.ended(0)
    assert jobs.next(0.6 * HOUR) == Wait(None)


def test_a_host_whose_time_is_too_short_for_all_that_waits_is_of_no_use() -> None:
    assert scheduler(LONG, SHORT, n1=1.5 * HOUR).useless_from("n1") == 0.5 * HOUR
    assert scheduler(LONG, ANY, n1=1.5 * HOUR).useless_from("n1") == math.inf
    assert scheduler(n1=1.5 * HOUR).useless_from("n1") == math.inf


def test_jobs_that_are_not_composed_yet_may_need_less_time() -> None:
    jobs = Scheduler([(0, []), (1, [])], HostSlots())
    jobs.hosts.add("n1", host(), ends=HOUR)
    jobs.composed(attempt(0, LONG))
    assert jobs.useless_from("n1") == math.inf


# The job with x=1 ends when the other one runs as well.
UNTIL_BOTH_RUN = """
    import time
    seen = Path(HydraConfig.get().runtime.output_dir).parent / f"runs.{cfg.x}"
    seen.touch()
    while not seen.with_name(f"runs.{1 - cfg.x}").exists():
        time.sleep(0.02)
    return cfg.x
"""


@pytest.mark.system
def test_a_host_whose_time_is_nearly_over_is_let_go_and_another_one_is_asked_for(tmp_path: Path) -> None:
    def slurms(seconds: int) -> str:
        return f"export SLURM_JOB_ID=1 SLURM_JOB_END_TIME={int(time.time()) + seconds}"

    # n1 comes when the first job runs on n2, and has two hours; when it comes again, it has twenty.
    until_it_runs = 'until [ -e "$HOSTS_HERE/sweep/runs.0" ]; do sleep 0.1; done; touch "$HOSTS_HERE/again"'
    lives = f'if [ -e "$HOSTS_HERE/again" ]; then {slurms(72000)}; else {until_it_runs}; {slurms(7200)}; fi'
    more = {"HOSTS_HERE_ELASTIC": "1", "HOSTS_HERE_BEFORE_n1": lives, "HOSTS_HERE_BEFORE_n2": slurms(72000)}
    app = App(tmp_path, UNTIL_BOTH_RUN)
    finished = app.run(*QUICK, "hydra.launcher.resources.duration=10h", "+x=0,1", environ=environ(tmp_path, **more))
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 0, 1: 1}
    (left,) = events(finished, HostLeft)
    assert "its time is over before a job that waits could end" in left.reason
    assert [round((event.ends - event.time) / 3600) for event in events(finished, HostJoined)] == [20, 2, 20]
