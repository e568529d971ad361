"""Private names of torch's elastic agent, and what differs between its versions."""

from __future__ import annotations

import dataclasses
import inspect
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.events import handlers
from torch.distributed.elastic.metrics.api import prof
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsSpecs, PContext
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import rendezvous_handler_registry

from elastic_hydra.compat.patch import with_globals

__all__ = [
    "AGENT_OPTIONS",
    "INHERITED",
    "TorchTail",
    "construct_event",
    "event_handlers",
    "for_fields_of",
    "forget_folder",
    "has_uninterruptible_state",
    "rendezvous_backends",
    "replace_tails",
    "start_workers_by",
]

AGENT_OPTIONS = frozenset(inspect.signature(LocalElasticAgent.__init__).parameters)
"""Names of the arguments that the installed torch's agent takes."""

INHERITED: dict[type, frozenset[str]] = {
    LocalElasticAgent: frozenset(
        {
            "_construct_event",
            "_exit_barrier_timeout",
            "_initialize_workers",
            "_invoke_run",
            "_monitor_workers",
            "_pcontext",
            "_rdzv_handler",
            "_remaining_restarts",
            "_rendezvous",
            "_restart_workers",
            "_shutdown",
            "_start_workers",
            "_stop_workers",
            "_worker_group",
        }
    ),
    PContext: frozenset({"_close", "_poll", "_start"}),
    LogsSpecs: frozenset({"_local_ranks_filter", "_redirects", "_root_log_dir", "_tee"}),
    DefaultLogsSpecs: frozenset({"_run_log_dir"}),
    ProcessFailure: frozenset({"_set_no_reply_file"}),
}
"""Private names of torch's classes that classes of ours use, or define anew, because they extend these.

They are used where these classes stand; tests hold that the list is whole, and that the installed torch has all of it.
"""


def for_fields_of(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for which a dataclass has a field; which those are may depend on the installed torch."""
    known = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in known}


def rendezvous_backends() -> set[str]:
    """Return the names of the registered rendezvous backends, as far as torch says them."""
    return set(getattr(rendezvous_handler_registry, "_registry", ()))


def event_handlers() -> set[str]:
    """Return the names of the registered handlers of events, as far as torch says them."""
    return set(getattr(handlers, "_log_handlers", ()))


# --- the agent ----------------------------------------------------------------------------------------------------


def start_workers_by(start_processes: Callable[..., PContext]) -> Any:
    """Return the agent's method that starts its workers, with another function that starts processes.

    Torch's method calls `start_processes` by its global name: it runs here with that one name replaced.

    Args:
        start_processes: takes the arguments of `torch.distributed.elastic.multiprocessing.start_processes`.
    """
    return prof(with_globals(LocalElasticAgent._start_workers, start_processes=start_processes))


construct_event = with_globals(LocalElasticAgent._construct_event, _get_fq_hostname=socket.gethostname)
"""The agent's method that makes an event. Torch's own asks the resolver for this host's full name at every event, which
takes milliseconds, or seconds where the name server answers slowly."""


def has_uninterruptible_state(agent: LocalElasticAgent) -> bool:
    """Whether torch's agent is told to look for workers that hang in the kernel."""
    return bool(getattr(agent, "_uninterruptible_state_timeout", 0.0) > 0)


# --- logs ---------------------------------------------------------------------------------------------------------


def forget_folder(specs: LogsSpecs) -> None:
    """Have log settings make a new folder for their next launch."""
    if hasattr(specs, "_run_log_dir"):
        specs._run_log_dir = None


@dataclass(frozen=True)
class TorchTail:
    """What torch has prepared to show of the workers' output."""

    files: Mapping[int, str]
    """The file of each local rank's output."""
    stream: TextIO
    """The stream that the output is shown on."""
    prefixes: Mapping[int, str]
    """What each line of a rank begins with."""
    wanted: Callable[[str], bool] | None
    """Which lines go into a file that all ranks share; None: all."""

    @classmethod
    def of(cls, tail: Any) -> TorchTail:
        """Read what a `TailLog` of the installed torch has been given."""
        is_file = tail._dst not in (sys.stdout, sys.stderr)
        line_filter = getattr(tail, "_log_line_filter", None) if is_file else None
        return cls(tail._log_files, tail._dst, dict(tail._log_line_prefixes or {}), line_filter)


def replace_tails(context: PContext, make: Callable[[TorchTail], Any]) -> list[Any]:
    """Replace the objects that show the workers' output.

    Args:
        context: torch's context of a worker group that is not started yet.
        make: makes the object that shows some output instead; it must have the methods of torch's `TailLog`.

    Returns:
        the new objects.
    """
    group: Any = context
    if hasattr(group, "_stdout_tail"):  # torch 2.9: two of them, each by a name
        group._stdout_tail = make(TorchTail.of(group._stdout_tail))
        group._stderr_tail = make(TorchTail.of(group._stderr_tail))
        return [group._stdout_tail, group._stderr_tail]
    group._tail_logs = [make(TorchTail.of(tail)) for tail in group._tail_logs]
    tails: list[Any] = group._tail_logs
    return tails
