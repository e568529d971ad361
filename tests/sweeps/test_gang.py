"""What the ends of a gang's agents add up to, and what each agent is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from elastic_hydra.config.resources import Demand
from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.job import Job
from elastic_hydra.resources.slots import Slot
from elastic_hydra.sweeps.gang import end_of, for_nodes, met_at
from tests.sweeps.test_scheduler import attempt

TWO_NODES = attempt(3, Demand(nodes=2))


def end(kind: Kind | None = None, rank: int | None = None, *, lost: bool = False, value: Any = None) -> AttemptEnd:
    job_return = JobReturn(status=JobStatus.COMPLETED if kind is None else JobStatus.FAILED)
    job_return.return_value = value
    failure = None if kind is None else Failure(kind, f"{kind.value} of rank {rank}", "n1", 0.0, rank=rank)
    return AttemptEnd(job_return, failure, agent_lost=lost)


def job(**keys: Any) -> Job:
    launch = replace(TWO_NODES.job.launch, nproc_per_node=2)
    return replace(TWO_NODES.job, launch=replace(launch, keys=replace(launch.keys, **keys)))


def test_a_gang_that_finishes_has_returned_what_node_0_has() -> None:
    assert end_of({1: end(), 0: end(value=7.0)}, job()).job_return.return_value == 7.0


def test_the_values_of_all_ranks_are_those_of_all_nodes() -> None:
    ends = {1: end(value={2: "c", 3: "d"}), 0: end(value={0: "a", 1: "b"})}
    assert end_of(ends, job(return_values="all")).job_return.return_value == {0: "a", 1: "b", 2: "c", 3: "d"}


def test_the_node_of_the_worker_that_failed_tells_why() -> None:
    own = end(Kind.exception, 2)
    assert end_of({0: end(Kind.exception, 2), 1: own}, job()) is own
    assert end_of({1: own, 0: end(Kind.exception, 2)}, job()) is own


def test_the_first_that_failed_decides_and_not_those_that_were_ended_because_of_it() -> None:
    first = end(Kind.exit, 1)
    assert end_of({0: first, 1: end(Kind.agent, lost=True)}, job()).failure == first.failure


def test_a_lost_agent_explains_why_the_other_node_could_reach_it_no_more() -> None:
    lost = end(Kind.agent, lost=True)
    assert end_of({0: end(Kind.peer), 1: lost}, job()).failure == lost.failure
    assert end_of({0: end(Kind.peer, 1), 1: lost}, job()).failure == lost.failure
    assert end_of({0: end(Kind.preempted, lost=True), 1: lost}, job()).failure == lost.failure


def test_nodes_that_could_not_reach_each_other_are_tried_again() -> None:
    assert end_of({0: end(Kind.peer), 1: end(Kind.peer)}, job()).agent_lost
    assert not end_of({0: end(Kind.peer, 0), 1: end(Kind.peer, 0)}, job()).agent_lost


def test_each_agent_knows_its_node_and_no_attempt_meets_another() -> None:
    slots = [Slot((0,), host="n1"), Slot((1,), host="n2")]
    names = {"n1": ["one", "n1"], "n2": ["two", "n2"]}
    first, second = (for_nodes(TWO_NODES, slots, names, 4) for _ in range(2))
    nodes = [of_node.node for of_node in first]
    assert [(node.rank, node.endpoint, node.first_restart, node.others) for node in nodes if node] == [
        (0, "", 4, ("two", "n2")),
        (1, "", 4, ("two", "n2")),
    ]
    assert [of_node.node.endpoint for of_node in met_at(first[1:], "n1:1234") if of_node.node] == ["n1:1234"]
    run_ids = [{of_node.node.run_id for of_node in nodes if of_node.node} for nodes in (first, second)]
    assert len(run_ids[0]) == len(run_ids[1]) == 1
    assert run_ids[0] != run_ids[1]
    assert [of_node.is_first_node for of_node in first] == [True, False]
    assert TWO_NODES.node is None
