"""Arguments that several verbs have, and what a shell completes them to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from elastic_hydra.cli.errors import UserError
from elastic_hydra.cli.sweeps import DEFAULT_FOLDERS
from elastic_hydra.overview.find import journals_in, sweeps_below
from elastic_hydra.overview.follow import Follower

__all__ = ["DIRECTORY", "JOB"]


class _Directory(click.ParamType):  # type: ignore[type-arg]
    """The directory of a sweep."""

    name = "directory"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the sweeps below `multirun` and `outputs`; where none matches, the shell offers directories."""
        found = [str(place) for folder in DEFAULT_FOLDERS for place in sweeps_below(Path(folder))]
        matching = [CompletionItem(place) for place in found if place.startswith(incomplete)]
        return matching or [CompletionItem(incomplete, type="dir")]


class _Job(click.ParamType):  # type: ignore[type-arg]
    """The number of a job: `3` or `#3`."""

    name = "job"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        text = str(value).removeprefix("#")
        if not text.isdecimal():
            raise UserError(f"JOB={value}: must be the number of a job, such as 3; `elastic-hydra status` shows them")
        return int(text)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the jobs of the sweep that the command line names, each with its state and its overrides."""
        try:
            (journal, *_) = journals_in(Path(ctx.params.get("directory") or "."))
            follower = Follower(journal)
            follower.read()
        except Exception:  # whatever is wrong with the journal, nobody wants to read of it while completing a line
            return []
        sweep = follower.overview
        return [
            CompletionItem(str(job.num), help=f"{sweep.state_of(job)}: {' '.join(sweep.differing(job))}")
            for job in sweep.jobs.values()
            if str(job.num).startswith(incomplete)
        ]


DIRECTORY = _Directory()
JOB = _Job()
