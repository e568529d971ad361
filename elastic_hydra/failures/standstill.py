"""Whose standstill it is: the rank that is not where the others wait for it, told from every rank's stacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place", "explain", "place_in"]

_FRAME = re.compile(r'^  File "(?P<path>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_WAITS = re.compile(r"/torch/(distributed|_C/_distributed|autograd|cuda)/|/(deepspeed|horovod)/")
"""Files whose frames mean that a rank may wait for others: gradients are exchanged during the backward pass, and a GPU
is waited for that waits for others."""
_LIBRARIES = re.compile(r"/(site|dist)-packages/|/lib(64)?/python3[^/]*/|^<frozen ")
_OURS = f"{Path(__file__).parents[1]}/"
"""The folder of this package, which is in no `site-packages` when it is installed from a checkout."""


@dataclass(frozen=True)
class Place:
    """Where a worker's main thread is."""

    users: str
    """The innermost frame of the user's code: `train.py:42 in step`; empty when none is known."""
    operation: str
    """The collective operation in which it waits; empty when it is in none."""


def place_in(stacks: str) -> Place | None:
    """Find where a worker is.

    Args:
        stacks: what `faulthandler` has written for all threads; the main thread comes last.

    Returns:
        the place; None when there are no stacks.
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
    """Say who keeps the others waiting.

    Args:
        places: where the ranks are that run, by rank; those that did not answer are not in it.
        ended: how the others ended, by rank.
        late: the rank that stands still for the longest time, as far as is known.

    Returns:
        the rank, if it is one, and the explanation; empty when the stacks show none.
    """
    waiting = {rank: place for rank, place in places.items() if place.operation}
    busy = {rank: place for rank, place in places.items() if not place.operation}
    if waiting and ended:
        left = min(ended)
        return left, f"rank {left} {ended[left]}, and {_waits(waiting)}"
    if waiting and busy:
        odd = min(busy)
        at = f" but at {busy[odd].users}" if busy[odd].users else ""
        return odd, f"rank {odd} is in no collective operation{at}, and {_waits(waiting)}"
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
