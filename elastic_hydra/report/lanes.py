"""Which slot each attempt has held: one lane of a picture for each GPU, or for each job that runs beside others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from elastic_hydra.config.lists import format_list
from elastic_hydra.report.attempts import Attempt

__all__ = ["Lane", "in_lanes"]


@dataclass(slots=True, eq=False)
class Lane:
    """A slot over the time of a sweep."""

    gpu: int | None
    """The GPU; None: jobs in this lane hold no particular one."""
    host: str = ""
    """The host; empty: the launcher's own."""
    attempts: list[Attempt] = field(default_factory=list)
    """Those that have held it, one after the other."""
    until: float = 0.0
    """When the last one of these ended, in seconds since the epoch."""

    def name(self) -> str:
        """Return what people call it: its host, and the GPU, or the CPUs if all have held the same ones."""
        held = {tuple(attempt.held[self.host][1]) for attempt in self.attempts}
        cpus = held.pop() if len(held) == 1 else ()
        part = f"GPU {self.gpu}" if self.gpu is not None else f"CPUs {format_list(cpus)}" if cpus else ""
        return f"{self.host} {part}".strip()


def in_lanes(attempts: Iterable[Attempt], now: float) -> list[tuple[str, Lane]]:
    """Set attempts in lanes, so that no two of a lane overlap.

    An attempt that holds several GPUs, or several hosts, is in the lane of each of them; GPUs that several jobs share
    have several lanes.

    Args:
        attempts: in the order of their starts.
        now: when those end that run.

    Returns:
        lanes with their names, by host; those of GPUs first.
    """
    lanes: dict[tuple[str, int | None], list[Lane]] = {}
    for attempt in attempts:
        for host, (gpus, _) in attempt.held.items():
            for gpu in gpus or (None,):
                lane = _free_lane(lanes.setdefault((host, gpu), []), attempt, host, gpu)
                lane.attempts.append(attempt)
                lane.until = now if attempt.end is None else attempt.end
    ordered = sorted(lanes, key=lambda of: (of[0], of[1] is None, of[1] or 0))
    return _named(list(itertools.chain.from_iterable(lanes[of] for of in ordered)))


def _free_lane(lanes: list[Lane], attempt: Attempt, host: str, gpu: int | None) -> Lane:
    """Return a free lane, if possible one whose last job held the same CPUs."""
    free = [lane for lane in lanes if lane.until <= attempt.begin]
    same = (lane for lane in free if lane.attempts[-1].held[host][1] == attempt.held[host][1])
    lane = next(same, None) or next(iter(free), None)
    if lane is None:
        lane = Lane(gpu, host)
        lanes.append(lane)
    return lane


def _named(lanes: Sequence[Lane]) -> list[tuple[str, Lane]]:
    """Give each lane a name of its own."""
    names = [lane.name() for lane in lanes]
    found, seen = [], dict.fromkeys(names, 0)
    for number, (name, lane) in enumerate(zip(names, lanes, strict=True), 1):
        seen[name] += 1
        several = names.count(name) > 1
        found.append((f"slot {number}" if not name else f"{name} ({seen[name]})" if several else name, lane))
    return found
