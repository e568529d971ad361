"""How a job ended, from what its agent has handed over or what became of the agent; no processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import OmegaConf

from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.errors import JobError, JobInterruptedError
from elastic_hydra.jobs.job import Job
from elastic_hydra.journal.reader import Recorded
from elastic_hydra.supervisor import outcome
from elastic_hydra.supervisor.outcome import Outcome
from elastic_hydra.supervisor.packed_error import pack
from elastic_hydra.supervisor.process import Process
from elastic_hydra.sweeps import returns
from elastic_hydra.sweeps.stop import Order
from tests.config.settings import launch

HERE = os.uname().nodename
NODES = {"nodes": 2, "rendezvous__backend": "c10d", "rendezvous__endpoint": "head:29400"}
CONFIG = OmegaConf.create({"x": 3, "hydra": {"overrides": {"task": ["x=3", "y=4"]}, "job": {"num": 7}}})

Agent = Callable[..., Process]


def a_job(**settings: Any) -> Job:
    return Job(7, ["x=3", "y=4"], CONFIG, launch(**settings), Path("/out"), "run-7")


JOB = a_job()


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Makes agents that have ended, and have handed over something or nothing."""
    agents: list[Process] = []

    def ended(handed_over: Outcome | None = None, exitcode: int = 0, **more: Any) -> Process:
        process = Process(1, os.memfd_create("outcome"), 4711, exitcode, **more)
        agents.append(process)
        if handed_over is not None:
            outcome.write(process.result_fd, handed_over)
        return process

    yield ended
    for process in agents:
        process.close()


def check_return(job_return: JobReturn, status: JobStatus) -> None:
    """Whether it says which job it is of, as a return of Hydra's own does."""
    assert job_return.status is status
    assert job_return.overrides == ["x=3", "y=4"]
    assert job_return.cfg == {"x": 3}
    assert job_return.hydra_cfg == {"hydra": CONFIG.hydra}
    assert job_return.working_dir == os.getcwd()
    assert job_return.task_name == JobRuntime.instance().get("name")


def error_of(job_return: JobReturn) -> BaseException:
    """Return the exception that Hydra's sweeper would raise."""
    check_return(job_return, JobStatus.FAILED)
    with pytest.raises(BaseException) as raised:
        _ = job_return.return_value
    return raised.value


def end_of(failure: Failure | None = None) -> AttemptEnd:
    job_return = returns.nothing(JOB)
    job_return.return_value = 5
    return AttemptEnd(job_return, failure, (1.5,), frozenset(["numpy"]))


def test_what_the_agent_has_handed_over_is_the_end(agent: Agent) -> None:
    end = returns.of(JOB, agent(Outcome(end_of())))
    assert (end.failure, end.restarts, end.imported, end.agent_lost, end.state) == (
        None, (1.5,), frozenset(["numpy"]), False, "finished",
    )  # fmt: skip
    check_return(end.job_return, JobStatus.COMPLETED)
    assert end.job_return.return_value == 5


def test_the_exception_of_the_job_comes_unpacked(agent: Agent) -> None:
    failure = Failure(Kind.exception, "ValueError: no", HERE, 0.0)
    handed_over = replace(end_of(failure), error=pack(ValueError("no")))
    end = returns.of(JOB, agent(Outcome(handed_over)))
    assert (end.failure, end.error, end.agent_lost) == (failure, None, False)
    assert isinstance(end.job_return._return_value, ValueError)


@pytest.mark.parametrize(
    ("code", "more", "what"),
    [
        (0, {}, "it ended with exit code 0 without a result"),
        (3, {}, "it ended with exit code 3"),
        (-9, {}, "it was killed by SIGKILL"),
        (-15, {"fate": "the kernel's memory killer"}, "the kernel's memory killer"),
        (1, {"fate": "the warm server has died", "refused": "no memory"}, "no memory"),
    ],
)
def test_of_an_agent_that_was_lost_it_is_said_how(agent: Agent, code: int, more: dict[str, Any], what: str) -> None:
    end = returns.of(JOB, agent(None, code, **more))
    reason = f"its agent (pid 4711) was lost: {what}"
    assert end.failure is not None
    assert (end.failure.kind, end.failure.reason, end.failure.host, end.failure.signal) == (
        Kind.agent, reason, HERE, "",
    )  # fmt: skip
    assert (end.agent_lost, end.restarts, end.state) == (True, None, "failed")
    error = error_of(end.job_return)
    assert type(error) is JobError
    assert str(error) == f"job #7: {reason}"


def test_the_logs_of_a_lost_job_are_named_if_there_are_any(agent: Agent, tmp_path: Path) -> None:
    job = replace(JOB, output_dir=tmp_path)
    (job.log_dir / "restart_0" / "rank_0").mkdir(parents=True)
    assert "logs" not in str(error_of(returns.of(job, agent(exitcode=-9)).job_return))
    (job.log_dir / "restart_0" / "rank_0" / "stdout.log").touch()
    said = str(error_of(returns.of(job, agent(exitcode=-9)).job_return))
    assert said.endswith(f"SIGKILL; the workers' logs: {job.log_dir}")


def test_a_value_counts_only_when_its_agent_has_ended_well(agent: Agent) -> None:
    end = returns.of(JOB, agent(Outcome(end_of()), -9))
    assert end.failure is not None
    assert end.failure.reason == "its agent (pid 4711) was lost: it was killed by SIGKILL"


@pytest.mark.parametrize(("nodes", "who"), [({}, "the job"), (NODES, f"host {HERE}")])
@pytest.mark.parametrize(("name", "state"), [("SIGTERM", "preempted"), ("SIGINT", "interrupted")])
def test_a_signal_that_the_agent_could_not_handle_yet_has_stopped_the_job(
    agent: Agent, nodes: dict[str, Any], who: str, name: str, state: str
) -> None:
    end = returns.of(a_job(**nodes), agent(None, -getattr(signal, name)))
    assert end.failure is not None
    assert (end.failure.kind, end.failure.signal) == (Kind.preempted, name)
    assert end.failure.reason == f"{who} was told to stop by {name}"
    assert (end.agent_lost, end.state) == (True, state)
    error = error_of(end.job_return)
    assert type(error) is JobInterruptedError
    assert str(error) == end.failure.reason


def test_a_result_that_cannot_be_read_is_a_failure_of_the_agent(agent: Agent) -> None:
    broken = agent(Outcome(5))
    os.ftruncate(broken.result_fd, 1)
    end = returns.of(JOB, broken)
    assert end.failure is not None
    assert end.failure.reason == "its result cannot be read: EOFError: Ran out of input"
    assert (end.failure.kind, end.agent_lost) == (Kind.agent, False)
    error = error_of(end.job_return)
    assert (type(error), str(error)) == (JobError, end.failure.reason)


def test_an_agent_that_hung_has_broken_the_time_limit_whatever_it_has_handed_over(agent: Agent) -> None:
    end = returns.of(a_job(watch__time_limit=2.50), agent(Outcome(end_of()), -9), overdue=True)
    reason = "its agent hung, and did not end the job after watch.time_limit=2.5 s"
    assert end.failure is not None
    assert (end.failure.kind, end.failure.reason, end.agent_lost) == (Kind.timeout, reason, False)
    error = error_of(end.job_return)
    assert (type(error), str(error)) == (JobError, f"job #7: {reason}")


def test_an_exception_of_the_agent_s_own_fails_the_job(agent: Agent) -> None:
    end = returns.of(JOB, agent(Outcome(error=pack(ValueError("no\nmore"))), 1))
    assert end.failure is not None
    assert (end.failure.kind, end.failure.reason) == (Kind.exception, "its agent raised ValueError: no")
    assert end.agent_lost is False
    error = error_of(end.job_return)
    assert (type(error), str(error)) == (ValueError, "no\nmore")


def test_an_agent_that_was_interrupted_outside_of_the_job_is_lost(agent: Agent) -> None:
    end = returns.of(JOB, agent(Outcome(error=pack(KeyboardInterrupt())), 1))
    assert end.failure is not None
    assert (end.failure.kind, end.failure.reason) == (Kind.preempted, "the job was told to stop by SIGINT")
    assert (end.failure.signal, end.agent_lost) == ("SIGINT", True)


@pytest.mark.parametrize(
    ("kind", "by", "stopped_by", "stopped"),
    [
        (Kind.preempted, "", signal.SIGTERM, True),
        (Kind.agent, "", signal.SIGTERM, True),
        (Kind.peer, "", signal.SIGTERM, True),
        (Kind.signal, "SIGTERM", signal.SIGTERM, True),
        (Kind.signal, "SIGKILL", signal.SIGTERM, False),
        (Kind.exception, "", signal.SIGTERM, False),
        (Kind.preempted, "SIGUSR1", None, False),
        (None, "", signal.SIGTERM, False),
    ],
)
def test_what_stopping_brings_about_is_no_failure_of_the_job(
    agent: Agent, kind: Kind | None, by: str, stopped_by: signal.Signals | None, stopped: bool
) -> None:
    failure = None if kind is None else Failure(kind, "why", "host", 0.0, signal=by)
    end = returns.of(JOB, agent(Outcome(end_of(failure))), None if stopped_by is None else Order(stopped_by))
    if not stopped:
        assert end.failure == failure
        return
    assert end.failure is not None
    assert (end.failure.kind, end.failure.signal) == (Kind.preempted, "SIGTERM")
    assert end.failure.reason == "the job was told to stop by SIGTERM"
    assert end.agent_lost is False


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("failed", "failed before: why"),
        ("interrupted", "not run: it was interrupted, and hydra.launcher.resume=failed runs others only"),
        ("waiting", "not run: it was waiting, and hydra.launcher.resume=failed runs others only"),
    ],
)
def test_a_job_that_is_not_run_again_has_failed_with_what_is_recorded(state: str, text: str) -> None:
    error = error_of(returns.recorded(JOB, Recorded(7, [], 0, "/out", state, reason="why"), 5, "failed"))
    assert (type(error), str(error)) == (JobError, text)


def test_a_job_that_had_finished_returns_what_is_recorded() -> None:
    job_return = returns.recorded(JOB, Recorded(7, [], 0, "/out", "finished"), 5, "true")
    check_return(job_return, JobStatus.COMPLETED)
    assert job_return.return_value == 5


def test_a_job_that_was_only_planned_has_returned_nothing() -> None:
    job_return = returns.nothing(JOB)
    check_return(job_return, JobStatus.COMPLETED)
    assert job_return.return_value is None
