"""What an earlier launcher has done of this sweep, and what is left to do."""

from __future__ import annotations

import difflib
import itertools
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.reader import Record, Recorded

__all__ = ["History"]

log = logging.getLogger("elastic_hydra")

_UNFINISHED = ("waiting", "started", "interrupted", "preempted")
_RUN_AGAIN = {
    "true": (*_UNFINISHED, "failed"),
    "failed": ("failed",),
    "interrupted": _UNFINISHED,
    "all": (*_UNFINISHED, "failed", "finished"),
}


class History:
    """The recorded jobs of a sweep that is resumed.

    A job is known again by its overrides, in whatever order they are given. Numbers and directories stay those of the
    record; jobs that are new (an adaptive sweeper goes on, or a range was extended) get the numbers after it.

    Args:
        record: what the journal says; None: nothing is resumed.
        mode: `hydra.launcher.resume`.
        may_change: keys of a job's configuration that may be others now.
    """

    def __init__(self, record: Record | None = None, mode: str = "false", may_change: Collection[str] = ()) -> None:
        self.recorded = Record(Path()) if record is None else record
        self.mode = mode
        self._may_change = may_change
        self._unclaimed: dict[tuple[str, ...], list[int]] = {}
        """Numbers of recorded jobs that nobody has asked for yet, by their overrides."""
        for job in self.recorded.values():
            self._unclaimed.setdefault(_in_any_order(job.overrides), []).append(job.num)
        self._next = max(self.recorded, default=-1) + 1

    def number(self, overrides: Sequence[str], planned: int) -> int:
        """Return the number of a job, another one at each call.

        Args:
            overrides: the job's.
            planned: the number that Hydra's sweeper has in mind for it.
        """
        if self.mode == "false":
            return planned
        if known := self._unclaimed.get(_in_any_order(overrides)):
            return known.pop(0)
        num = max(self._next, planned)
        self._next = num + 1
        return num

    def found(self, nums: Sequence[int], whole: bool, first: bool) -> str:
        """Say what is recorded of the jobs that are about to be run; nothing when that is not worth a line.

        Args:
            nums: of the jobs of a batch, each from `number`.
            whole: whether these are all jobs of the sweep.
            first: whether the sweeper has asked for no others before.
        """
        known = sum(num in self.recorded for num in nums)
        left = sorted(num for recorded in self._unclaimed.values() for num in recorded) if whole else []
        said = []
        if known:
            to_run = sum(self.settled(num) is None for num in nums)
            said.append(f"{known} of {len(nums)} jobs {'is' if known == 1 else 'are'} recorded, {to_run} to run")
        elif left:
            said.append(f"none of {len(nums)} jobs is recorded, all are to be run")
        elif first:
            total = len(self.recorded)
            said.append(
                f"{total} job{'s are' if total > 1 else ' is'} recorded, none of them asked for by the sweeper yet"
            )
        if left:
            parts = "job is no part" if len(left) == 1 else "jobs are not part"
            said.append(f"{len(left)} recorded {parts} of this command ({_some(left)})")
        return "; ".join(said)

    def check(self, num: int, config: str) -> None:
        """Refuse a job that is not what it was.

        Args:
            num: the job.
            config: its task configuration, as YAML.

        Raises:
            ConfigError: the recorded one differs; the text shows the difference.
        """
        if num not in self.recorded or (recorded := self.recorded.config(num)) == config:
            return
        recorded, config = _sorted_yaml(recorded, self._may_change), _sorted_yaml(config, self._may_change)
        if recorded == config:
            return
        difference = difflib.unified_diff(
            recorded.splitlines(), config.splitlines(), "recorded", "now", lineterm="", n=1
        )
        raise ConfigError(
            f"hydra.launcher.resume={self.mode}: job #{num} is no longer what it was:\n"
            + "\n".join(f"    {line}" for line in difference)
            + "\nRestore the configuration, or start anew in another directory"
        )

    def check_trust(self) -> None:
        """Refuse recorded values that would have to be unpickled, if somebody else may have written them.

        Raises:
            ConfigError: that is so; the text says what to do.
        """
        if "finished" in _RUN_AGAIN.get(self.mode, _RUN_AGAIN["all"]):
            return
        values = {num: job.value for num, job in self.recorded.items() if job.value is not None}
        suspect = [num for num, value in values.items() if value.is_pickled and value.distrust]
        if not suspect:
            return
        value = values[suspect[0]]
        raise ConfigError(
            f"hydra.launcher.resume={self.mode}: the recorded values of {_some(suspect)} are pickles, which run code "
            f"when they are read, and {value.journal} {value.distrust}. Or run all jobs again with "
            "hydra.launcher.resume=all, which reads none of them"
        )

    def settled(self, num: int) -> Recorded | None:
        """Return what is recorded of a job that is not to be run again; None when it is to be run."""
        job = self.recorded.get(num)
        if job is None or job.state in _RUN_AGAIN[self.mode]:
            return None
        return job

    def settled_with_value(self, num: int) -> tuple[Recorded | None, Any]:
        """Return what is recorded of a job that is not to be run again, and the value that it has returned.

        Raises:
            ConfigError: the value is a pickle that somebody else may have written.
        """
        settled = self.settled(num)
        if settled is None or settled.value is None:
            return settled, None
        try:
            return settled, settled.value.load()
        except ConfigError:
            raise
        except Exception as error:  # its class may have changed, and may raise anything
            name = type(error).__name__
            log.warning("#%s runs again: its recorded value cannot be read (%s: %s)", num, name, error)
            return None, None

    def output_dir(self, num: int) -> Path | None:
        """Return a recorded job's directory, which stays its own whatever the configuration says now."""
        job = self.recorded.get(num)
        return None if job is None else Path(job.dir)


def _some(nums: Sequence[int]) -> str:
    """Name the first of several jobs."""
    return ", ".join(f"#{num}" for num in nums[:5]) + ", …" * (len(nums) > 5)


def _in_any_order(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return a job's overrides in an order that is the same however they are given, as far as it means nothing.

    It means something where two are about one key, or where the key of one is inside the other's: the last one wins.
    """
    keyed = sorted((override.partition("=")[0].lstrip("+~").split("."), override) for override in overrides)
    keys = [key for key, _ in keyed]
    overlap = any(after[: len(key)] == key for key, after in itertools.pairwise(keys))
    return tuple(overrides) if overlap else tuple(override for _, override in keyed)


def _sorted_yaml(text: str, without: Collection[str]) -> str:
    """Return a configuration, but for some keys, in alphabetical order, or as it is if it cannot be read."""
    try:
        config = OmegaConf.create(text)
        if isinstance(config, DictConfig):
            for key in without:
                config.pop(key, None)
        return OmegaConf.to_yaml(config, sort_keys=True)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError):
        return text
