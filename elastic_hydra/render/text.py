"""The texts that there are, and how one comes from a command line and from what is said of the place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.render import jobset, pod, sbatch, trainjob
from elastic_hydra.render.command import Command
from elastic_hydra.render.plan import Plan, plan_of
from elastic_hydra.render.site import Site

__all__ = ["KINDS", "text_for"]


class Kind(NamedTuple):
    """A kind of text."""

    options: Sequence[str]
    """The fields of a site that it has a place for."""
    needed: Callable[[Plan], Mapping[str, str]]
    """Returns the fields that must be known, and what they are."""
    name_of: Callable[[str], str]
    """Makes a name of the app's."""
    write: Callable[[Plan, Site], str]


def _name_in_slurm(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


KINDS = {
    "sbatch": Kind(sbatch.OPTIONS, sbatch.needed, _name_in_slurm, sbatch.sbatch),
    "jobset": Kind(jobset.OPTIONS, pod.needed, pod.name_of, jobset.jobset),
    "trainjob": Kind(trainjob.OPTIONS, pod.needed, pod.name_of, trainjob.trainjob),
}
"""By the names that `--render` takes."""


def text_for(name: str, words: Sequence[str], said: Site) -> str:
    """Write a text that launches a command elsewhere.

    Args:
        name: of the kind of text.
        words: the command line.
        said: what is said of the place.

    Raises:
        ConfigError: the command launches nothing, something is missing, or it cannot be said in such a text.
    """
    kind, where = KINDS[name], f"--render {name}"
    for word in words:
        if not word.isprintable() and word != word.encode(errors="replace").decode():
            raise ConfigError(f"{word!r}: is not UTF-8, and cannot stand in a text: rename it")
    said.check(kind.options, {}, where)  # before the app is asked, which takes a while
    plan = plan_of(Command.of(words))
    site = replace(said.completed(plan), name=said.name or kind.name_of(plan.command.name))
    site.check(site.__dict__, kind.needed(plan), where)
    return kind.write(plan, site)
