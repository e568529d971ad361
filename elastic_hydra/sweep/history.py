"""What an earlier launcher has done of this sweep, and what is left to do: decisions only."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.sweep.recorded import Recorded

__all__ = ["History"]

_UNFINISHED = ("waiting", "started", "interrupted", "preempted")
_RUN_AGAIN = {
    "true": (*_UNFINISHED, "failed"),
    "failed": ("failed",),
    "interrupted": _UNFINISHED,
    "all": (*_UNFINISHED, "failed", "finished"),
}


@dataclass
class History:
    """The recorded jobs of a sweep that is resumed.

    A job is known again by its overrides. Numbers and directories stay those of the record; jobs that are new (an
    adaptive sweeper goes on, or a range was extended) get the numbers after it.
    """

    recorded: Mapping[int, Recorded] = field(default_factory=dict)
    mode: str = "false"
    """`hydra.launcher.resume`."""
    _claimed: set[int] = field(default_factory=set)

    def number(self, overrides: Sequence[str], planned: int) -> int:
        """Return the number of a job.

        Args:
            overrides: the job's.
            planned: the number that Hydra's sweeper has in mind for it.
        """
        if self.mode == "false":
            return planned
        for num, job in self.recorded.items():
            if num not in self._claimed and job.overrides == list(overrides):
                break
        else:
            num = max([planned - 1, *self.recorded, *self._claimed]) + 1
        self._claimed.add(num)
        return num

    def check(self, num: int, config: str) -> None:
        """Refuse a job that is not what it was.

        Args:
            num: the job.
            config: its task configuration, as YAML.

        Raises:
            ConfigError: the recorded one differs; the text shows the difference.
        """
        job = self.recorded.get(num)
        if self.mode == "false" or job is None or job.config == config:
            return
        difference = difflib.unified_diff(
            job.config.splitlines(), config.splitlines(), "recorded", "now", lineterm="", n=1
        )
        raise ConfigError(
            f"hydra.launcher.resume={self.mode}: job #{num} is no longer what it was:\n"
            + "\n".join(f"    {line}" for line in difference)
            + "\nRestore the configuration, or start a new sweep in another hydra.sweep.dir"
        )

    def settled(self, num: int) -> Recorded | None:
        """Return what is recorded of a job that is not to be run again; None when it is to be run."""
        job = self.recorded.get(num)
        if self.mode == "false" or job is None or job.unreadable or job.state in _RUN_AGAIN[self.mode]:
            return None
        return job
