"""Which rank a standstill comes from: found in the stacks of all ranks, as the one that the others wait for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place", "explain", "place_in"]

_FRAME = re.compile(r'^  File "(?P<path>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_WAITS = re.compile(r"/torch/(distributed|_C/_distributed|autograd|cuda)/|/(deepspeed|horovod)/")
"""Files whose frames mean that a rank may wait for others. Autograd is among them, since gradients are exchanged during
the backward pass. CUDA is, since a rank waits there for its GPU, and the GPU may wait for other ranks."""
_LIBRARIES = re.compile(r"/(site|dist)-packages/|/lib(64)?/python3[^/]*/|^<frozen ")
_OURS = f"{Path(__file__).parents[1]}/"
"""The folder of this package, which is in no `site-packages` when it is installed from a checkout."""


@dataclass(frozen=True)
class Place:
    """Where a worker's main thread is."""

    users: str
    """The innermost frame of the user's code: `train.py:42 in step`; empty when none is known."""
    operation: str
    """The collective operation in which the worker waits; empty when it waits in none."""


def place_in(stacks: str) -> Place | None:
    """Find where a worker is.

    Args:
        stacks: the text that `faulthandler` has written for all threads; the main thread comes last.

    Returns:
        the place; None when the text has no stacks.
    """
    last = re.split(r"^(?:Current thread|Thread) .*$", stacks, flags=re.MULTILINE)[-1]
    frames = [match for line in last.splitlines() if (match := _FRAME.match(line)) is not None]
    if not frames:
        return None
    users = next((frame for frame in frames if _is_users(frame["path"])), None)
    above = frames[: frames.index(users)] if users is not None else frames
    waits = [frame for frame in above if _WAITS.search(frame["path"]) and frame["function"] != "wrapper"]
    words = f"{users['path'].rpartition('/')[2]}:{users['line']} in {users['function']}" if users is not None else ""
    return Place(words, waits[-1]["function"] if waits else "")


def _is_users(path: str) -> bool:
    return not path.startswith(_OURS) and not _LIBRARIES.search(path)


def explain(places: Mapping[int, Place], ended: Mapping[int, str], late: int | None) -> tuple[int | None, str]:
    """Say which rank keeps the others waiting.

    Args:
        places: the places of the ranks that run, by rank; ranks that did not answer are left out.
        ended: in words, how other ranks have ended, by rank.
        late: the rank that has stood still for the longest time; None: unknown.

    Returns:
        the rank, or None if no single rank is to blame; and the explanation, empty when the stacks show nothing.
    """
    waiting = {rank: place for rank, place in places.items() if place.operation}
    busy = {rank: place for rank, place in places.items() if not place.operation}
    if waiting and ended:
        missing = min(ended)
        return missing, f"rank {missing} {ended[missing]}, and {_waits(waiting)}"
    if waiting and busy:
        missing = min(busy)
        place = f" but at {busy[missing].users}" if busy[missing].users else ""
        return missing, f"rank {missing} is in no collective operation{place}, and {_waits(waiting)}"
    if len({(place.operation, place.users) for place in waiting.values()}) > 1:
        where = "; ".join(f"rank {rank} in {place.operation} ({place.users})" for rank, place in waiting.items())
        return None, f"the ranks wait for each other at different places: {where}"
    rank = late if late in places else min(places, default=None)
    if rank is None or not places[rank].users:
        return None, ""
    inside = f", in {places[rank].operation}" if places[rank].operation else ""
    return None, f"rank {rank} is at {places[rank].users}{inside}"


def _waits(waiting: Mapping[int, Place]) -> str:
    rank, place = next(iter(waiting.items()))
    ranks = f"ranks {', '.join(map(str, waiting))} wait" if len(waiting) > 1 else f"rank {rank} waits"
    return f"{ranks} in {place.operation}" + (f" ({place.users})" if place.users else "")
