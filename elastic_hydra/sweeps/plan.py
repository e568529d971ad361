"""A dry run: what the scheduler of a batch would do, with nothing started."""

from __future__ import annotations

from elastic_hydra.resources.slots import Slot
from elastic_hydra.sweeps.scheduler import Scheduler
from elastic_hydra.sweeps.steps import Done, KillAgent, StartJob, Wait

__all__ = ["planned_slots"]


def planned_slots(scheduler: Scheduler) -> dict[int, tuple[Slot, ...]]:
    """Return the slots that each job would hold, by the jobs' numbers in the order of their starts.

    Jobs end in the order of their starts, each as late as it can: when nothing else could start before.

    Args:
        scheduler: of a batch whose jobs are composed; all of them have ended afterwards, but for those that need more
            hosts than are there.
    """
    slots: dict[int, tuple[Slot, ...]] = {}
    now = 0.0
    while True:
        step = scheduler.next(now)
        if isinstance(step, StartJob):
            slots[step.attempt.job.num] = step.slots
        elif isinstance(step, KillAgent):
            scheduler.ended(step.num)
        elif isinstance(step, Wait):
            pause = scheduler.pause(now)
            if pause > 0.0:
                now += pause
            elif scheduler.running:
                scheduler.ended(next(iter(scheduler.running)))
            else:
                return slots  # what is left has more nodes than there are hosts now
        else:
            assert isinstance(step, Done), f"nothing is composed, and nothing fails, in a dry run: {step}"
            return slots
