"""Which workers have died because another one had: one rule, which everybody asks who looks for the first death."""

from __future__ import annotations

import re

from elastic_hydra.failures.cause import is_between_ranks, is_connection, root
from elastic_hydra.failures.evidence import Death, ExceptionFacts

__all__ = ["is_echo", "lost_other_rank"]

# Those of the texts about lost connections that a rank says *because* another one has gone: not timeouts, which name
# no culprit.
_TEXT = re.compile(
    r"connection (?:was )?(?:closed|reset|aborted)|broken pipe|socket closed|remote process exited|ncclRemoteError|"
    r"connection refused|connectFullMesh",
    re.I,
)


def is_echo(death: Death) -> bool:
    """Whether a worker's death is one that the death of another worker causes: the connection to it was closed."""
    return death.exception is not None and _says_closed(root(death.exception))


def lost_other_rank(death: Death) -> bool:
    """Whether a worker died of a connection to another rank that broke, or in which it waited in vain.

    A wait in vain is no echo: it does not say that the other rank has died.
    """
    return death.exception is not None and is_between_ranks(root(death.exception))


def _says_closed(error: ExceptionFacts) -> bool:
    if "ConnectionError" in error.names and "ConnectionRefusedError" not in error.names:
        return True
    return is_connection(error) and bool(_TEXT.search(error.message))
