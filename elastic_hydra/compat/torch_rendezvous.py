"""torch's dynamic rendezvous without its pauses, and a way for a node to leave it, which torch does not offer."""

from __future__ import annotations

import time
from typing import Any

from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import (
    DynamicRendezvousHandler,
    _DistributedRendezvousOpExecutor,
    _RendezvousExitOp,
)

from elastic_hydra.compat.patch import with_globals

__all__ = ["leave", "next_rendezvous", "quicken"]


def _pause(seconds: float | tuple[float, float]) -> None:
    """Replaces torch's `_delay`: a store in memory can be asked ten times a second while nodes come together."""
    time.sleep(0.0 if isinstance(seconds, tuple) else min(seconds, 0.1))


class _QuickExecutor(_DistributedRendezvousOpExecutor):
    run = with_globals(_DistributedRendezvousOpExecutor.run, _delay=_pause)


_quick_next_rendezvous = with_globals(DynamicRendezvousHandler.next_rendezvous, _delay=_pause)


def quicken(handler: RendezvousHandler) -> RendezvousHandler:
    """Make a node see within a tenth of a second that the group is complete; torch looks once a second.

    Args:
        handler: the handler of a backend whose store is in memory. Only torch's dynamic handler is changed.

    Returns:
        the handler.
    """
    if isinstance(handler, DynamicRendezvousHandler):
        handler._op_executor = _QuickExecutor(handler._this_node, handler._state_holder, handler.settings)
    return handler


def next_rendezvous(handler: RendezvousHandler) -> RendezvousInfo:
    """Meet the other nodes; quickly, if the handler was quickened."""
    if not isinstance(getattr(handler, "_op_executor", None), _QuickExecutor):
        return handler.next_rendezvous()
    holder: Any = handler._state_holder  # type: ignore[attr-defined]
    before, holder._cache_duration = holder._cache_duration, 0
    try:
        info: RendezvousInfo = _quick_next_rendezvous(handler)
    finally:
        holder._cache_duration = before
    return info


def leave(handler: DynamicRendezvousHandler) -> None:
    """Take this node out of the rendezvous. Otherwise the other nodes would wait until its keep-alives are missing.

    Args:
        handler: this node's handler.

    Raises:
        Exception: the store cannot be reached, or torch fails in another way.
    """
    handler._stop_heartbeats()
    deadline = time.monotonic() + handler.settings.timeout.close.total_seconds()
    handler._op_executor.run(_RendezvousExitOp(), deadline)
