"""What may be asked of a running launcher: one line of JSON, as is the answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["STACKS", "STOP", "VERBS", "Request"]

STOP = "stop"
"""Stop jobs, or the sweep if no job is named."""
STACKS = "stacks"
"""Have the workers of one job write their stacks."""
VERBS = (STOP, STACKS)

_LONGEST_REASON = 500
"""Characters of a reason that are kept: it stands in one line of the journal, of the log and of a table."""


@dataclass(frozen=True)
class Request:
    """What is asked."""

    verb: str
    """One of `VERBS`."""
    jobs: tuple[int, ...] = ()
    """Numbers of the jobs that it is about; none: all of the sweep."""
    reason: str = ""
    """Why, in the words of who asks, in one line."""

    def encode(self) -> bytes:
        """Return the request as a line, with the newline at its end."""
        return (json.dumps(asdict(self)) + "\n").encode()

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """Return the request that a line holds.

        Raises:
            ValueError: it holds none; the text says why.
        """
        try:
            said: Any = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError("a request is one line of JSON") from None
        if not isinstance(said, dict) or said.get("verb") not in VERBS:
            raise ValueError(f"this launcher knows only the requests {', '.join(VERBS)}")
        jobs, reason = said.get("jobs", []), said.get("reason", "")
        if not isinstance(jobs, list) or not all(type(num) is int for num in jobs) or not isinstance(reason, str):
            raise ValueError("`jobs` of a request must be a list of numbers, and its `reason` a text")
        # The text goes to terminals and into files: half a character of another encoding could not be written there.
        plain = "".join(character for character in " ".join(reason.split()) if character.isprintable())
        return cls(said["verb"], tuple(jobs), plain[:_LONGEST_REASON])
