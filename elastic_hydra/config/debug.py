"""`hydra.launcher.debug`: which rank has the terminal, and what does not happen while a person thinks."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from elastic_hydra.config.nodes import Nodes
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.schema import INLINE, ElasticConfig
from elastic_hydra.config.watch import WatchConfig

if TYPE_CHECKING:
    from elastic_hydra.config.logs import Streams

__all__ = ["POST_MORTEM", "check_debug", "check_inline", "in_words", "rank_of", "undisturbed", "without"]

POST_MORTEM = "post_mortem"
"""The debugger opens where the first rank has failed."""


def rank_of(debug: str | None) -> int | None:
    """Return the rank that has the terminal; None: no single one has."""
    found = re.fullmatch(r"rank([0-9]{1,6})", debug or "")
    return None if found is None else int(found[1])


def in_words(debug: str | None) -> str:
    """Say, when a job starts, what is different; nothing when it is not debugged."""
    if debug is None:
        return ""
    rank = rank_of(debug)
    who = "the first rank that fails opens pdb" if rank is None else f"rank {rank} has this terminal, for breakpoint()"
    keys = "Ctrl-C is for the debugger, Ctrl-\\ ends the sweep"
    return f"{ROOT}.debug={debug}: {who}; {keys}; no limit holds, and nothing is tried again"


def check_debug(keys: ElasticConfig, nodes: Nodes, workers: int, parallel: int | None, problems: Problems) -> None:
    """Check the key together with those that decide who shares the terminal.

    Args:
        keys: of the job.
        nodes: of the job.
        workers: per node.
        parallel: how many jobs may run at once; None: as many as there is room for.
        problems: takes what is wrong.
    """
    debug, rank = keys.debug, rank_of(keys.debug)
    if debug is None:
        return
    if rank is None and debug != POST_MORTEM:
        problems.add("debug", debug, f"must be rank0, rank1 and so on, {POST_MORTEM}, or null")
    if rank is not None and rank >= workers:
        last = f"rank0 to rank{workers - 1}" if workers > 1 else "rank0"
        problems.add("debug", debug, f"with {ROOT}.nproc_per_node={workers} there is {last} only")
    if nodes.most > 1:
        problems.add("debug", debug, f"needs {ROOT}.nodes=1: the other nodes would not wait")
    if rank is not None and parallel != 1:
        problems.add("debug", debug, f"needs {ROOT}.parallel=1: several jobs cannot share the terminal")


def check_inline(keys: ElasticConfig, nodes: Nodes, workers: int, parallel: int | None, problems: Problems) -> None:
    """Check that a job which runs in the launcher's own process is one of a single worker; arguments as above."""
    if keys.start_method != INLINE:
        return
    here = "this process is the only worker"
    for key, value, is_one in (
        ("nproc_per_node", keys.nproc_per_node, workers == 1),
        ("nodes", keys.nodes, nodes.most == 1),
        ("parallel", keys.parallel, parallel == 1),
    ):
        problems.require(is_one, key, value, f"must be 1 with {ROOT}.start_method={INLINE}: {here}")
    if keys.debug is not None:
        problems.add("debug", keys.debug, f"means nothing with {ROOT}.start_method={INLINE}: leave one of them out")


def undisturbed(keys: ElasticConfig) -> ElasticConfig:
    """Return the keys of a job that is debugged: no limit ends it, and it is not tried again."""
    return replace(keys, watch=WatchConfig(), retry=RetryConfig(max_restarts=0, max_attempts=1))


def without(rank: int, streams: Streams, workers: int) -> dict[int, int]:
    """Return which streams of which local ranks go somewhere, without those of the rank that has the terminal."""
    every = streams if isinstance(streams, dict) else dict.fromkeys(range(workers), streams)
    return {local_rank: value for local_rank, value in every.items() if local_rank != rank}
