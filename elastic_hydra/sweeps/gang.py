"""A gang: a job of several nodes, each with an agent of its own. What the agents are told, and what
they have told.

::

    launcher ── Attempt, node 0 ──▶ agent on host n1, which opens a store ─┐
        │    └─ Attempt, node 1 ──▶ agent on host n2, once that is open ───┴─▶ meet there
        ◀── AttemptEnd of each ── end_of: one for the job
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from elastic_hydra.compat.hydra import returned
from elastic_hydra.config.words import Kind
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.job import Attempt, GangNode, Job
from elastic_hydra.resources.slots import Slot

__all__ = ["end_of", "for_nodes", "met_at"]

_KNOWS_LITTLE = (Kind.peer, Kind.rendezvous, Kind.preempted)
"""How an agent ends that has missed the others, or was told by one to stop: that of a host that dies tells it, too."""


def for_nodes(
    attempt: Attempt, slots: Sequence[Slot], names: Mapping[str, Sequence[str]], first_restart: int
) -> list[Attempt]:
    """Return an attempt as each of its agents is to see it, in the order of node ranks.

    Args:
        attempt: at a job of several nodes.
        slots: one for each node.
        names: of the hosts, as others may know them, by the names that the launcher gives them.
        first_restart: number of the folder that the workers write into first.
    """
    endpoint = attempt.job.launch.rendezvous.endpoint
    others = tuple(name for slot in slots[1:] for name in names[slot.host])
    # What an earlier attempt has left in the store must mean nothing to this one.
    run_id = f"{uuid.uuid4().hex}-{attempt.job.num}"
    return [
        replace(attempt, allowance=slot.allowance, node=GangNode(rank, endpoint, run_id, first_restart, others))
        for rank, slot in enumerate(slots)
    ]


def met_at(attempts: Sequence[Attempt], endpoint: str) -> list[Attempt]:
    """Return an attempt as agents are to see it that start after node 0's, which has opened the store."""
    return [
        replace(attempt, node=replace(attempt.node, endpoint=endpoint))
        for attempt in attempts
        if attempt.node is not None
    ]


def end_of(ends: Mapping[int, AttemptEnd], job: Job) -> AttemptEnd:
    """Return how an attempt has ended, all of whose agents have; that of a job of one node as its agent says.

    The first agent that has failed decides, as the others then end because of it. But one that was only ended by
    another does not know why: whichever knows more decides.

    Args:
        ends: by the ranks of the nodes, in the order in which they came.
        job: which it was.
    """
    if len(ends) == 1:
        return ends[0]  # no gang: where each node has a launcher of its own, the agents agree by themselves
    failed = [end for end in ends.values() if end.failure is not None]
    if not failed:
        return _of_node_0(ends, job)
    decider = next((end for end in failed if _kind(end) not in _KNOWS_LITTLE), failed[0])
    # All agents tell of the worker that failed; the agent of its own node has its exception.
    culprit = _rank(decider)
    own = None if culprit is None else ends.get(culprit // job.launch.nproc_per_node)
    if own is not None and _rank(own) == culprit:
        return own
    # Where nodes could not reach each other for a while, and none failed, another attempt may help.
    without_cause = _kind(decider) is Kind.peer and culprit is None
    return replace(decider, agent_lost=decider.agent_lost or without_cause)


def _of_node_0(ends: Mapping[int, AttemptEnd], job: Job) -> AttemptEnd:
    """Return the end of node 0, which has finished as all others have; with the values of all ranks, if they count."""
    if job.launch.keys.return_values == "all":
        of_nodes = [returned(ends[rank].job_return) for rank in sorted(ends)]
        ends[0].job_return.return_value = {rank: value for values in of_nodes for rank, value in values.items()}
    return ends[0]


def _kind(end: AttemptEnd) -> Kind | None:
    return None if end.failure is None else end.failure.kind


def _rank(end: AttemptEnd) -> int | None:
    return None if end.failure is None else end.failure.rank
