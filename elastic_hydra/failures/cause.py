"""Which exception says why: the one behind those that frameworks and groups put around it, and its words."""

from __future__ import annotations

import re

from elastic_hydra.failures.evidence import ExceptionFacts

__all__ = ["in_words", "is_between_ranks", "is_connection", "is_out_of_memory", "one_line", "root"]

_LONGEST = 300
"""Characters of a message that a line for people shows."""

_OUT_OF_MEMORY = ("MemoryError", "torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError", "OutOfMemoryError")
_ALLOCATION = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|failed to allocate|std::bad_alloc|not enough memory",
    re.I,
)
_CONNECTION_TYPES = (
    "ConnectionError",
    "torch.distributed.DistBackendError",
    "torch.distributed.DistNetworkError",
    "torch.distributed.DistStoreError",
    "DistBackendError",
    "DistNetworkError",
    "DistStoreError",
)
# What gloo, NCCL, MPI and torch's stores say when the other end has gone or cannot be reached.
_CONNECTION_TEXT = re.compile(
    r"connection (?:was )?(?:closed|reset|refused|aborted|timed out|lost)|broken pipe|socket (?:closed|timeout)|"
    r"connectFullMesh|ncclRemoteError|ncclSystemError|ncclUnhandledCudaError|NCCL (?:error|communicator)|"
    r"remote process exited|network (?:error|is unreachable)|no route to host|gloo.*(?:timed out|timeout|transport)|"
    r"(?:timed out|timeout) waiting .* (?:recv|send|operation|store)|watchdog caught collective",
    re.I,
)


def root(error: ExceptionFacts) -> ExceptionFacts:
    """Find the exception that says why.

    Hydra 1.3 raises `InstantiationException` for whatever an instantiated object raises, OmegaConf
    `InterpolationResolutionError` for whatever a resolver raises. What a program raises from another exception is its
    own choice of words, and stays.

    Args:
        error: as it was raised.

    Returns:
        the exception behind such wrappers. Of a group it is the first member that is no lost connection and no lack of
        memory: a group with a mistake in it is a mistake.
    """
    while True:
        if error.members:
            causes = [
                cause for cause in map(root, error.members) if not is_connection(cause) and not is_out_of_memory(cause)
            ]
            return causes[0] if causes else root(error.members[0])
        inner = _wrapped(error)
        if inner is None:
            return error
        error = inner


def _wrapped(error: ExceptionFacts) -> ExceptionFacts | None:
    if "hydra.errors.HydraException" in error.names:
        return error.cause
    # Its subclasses are no wrappers: they say that a key is not there.
    if error.type_name == "omegaconf.errors.InterpolationResolutionError":
        return error.cause or error.context
    return None


def is_out_of_memory(error: ExceptionFacts) -> bool:
    """Whether it is a failed allocation, on the host or on a GPU."""
    if any(name in _OUT_OF_MEMORY for name in error.names):
        return True
    return "RuntimeError" in error.names and bool(_ALLOCATION.search(error.message))


def is_connection(error: ExceptionFacts) -> bool:
    """Whether it is a lost connection."""
    if any(name in _CONNECTION_TYPES for name in error.names):
        return True
    # gloo throws RuntimeError; the words alone would make a lost database connection's ValueError one.
    return "RuntimeError" in error.names and bool(_CONNECTION_TEXT.search(error.message))


def is_between_ranks(error: ExceptionFacts) -> bool:
    """Whether it is torch's word for a connection to another rank that broke, or waited in vain."""
    # A plain ConnectionError is rather the user's own, to a database or the web.
    return is_connection(error) and "ConnectionError" not in error.names


def in_words(error: ExceptionFacts) -> str:
    """Name an exception in one line for people: what says why first, then what was around it."""
    found = root(error)
    words = _named(found)
    if found is error:
        return words
    if error.members:
        return f"{words} (one of {len(error.members)} in {_named(error)})"
    where = next(iter(error.message.strip().splitlines()), "").rstrip(":")
    return f"{words} ({_short(error)}: {one_line(where)})"


def _named(error: ExceptionFacts) -> str:
    line = one_line(error.message)
    return f"{_short(error)}: {line}" if line else _short(error)


def _short(error: ExceptionFacts) -> str:
    return error.type_name.removeprefix("builtins.")


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Put a text of many lines into one: what says why may be on any of them.

    Args:
        text: of any length.
        longest: characters of the result; a longer text loses its middle.
    """
    if len(text) > 8 * longest:  # whatever its lines are like: a message may have 100 MB
        text = f"{text[: 4 * longest]}\n{text[-4 * longest :]}"
    lines = [" ".join(line.split()) for line in text.splitlines()]
    joined = ""
    for line in filter(None, lines):
        if joined:
            joined += " " if joined[-1] in ":;,." else "; "
        joined += line
    if len(joined) <= longest:
        return joined
    tail = longest // 3
    return f"{joined[: longest - tail - 3].rstrip()} … {joined[-tail:].lstrip()}"
