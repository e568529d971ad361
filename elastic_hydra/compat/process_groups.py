"""Process groups of torch that wait for a person: the time-outs are torch's own, and pass through private functions."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

__all__ = ["PRIVATE", "have_them_wait"]

PRIVATE = ("rendezvous", "_new_process_group_helper", "_store_based_barrier")
"""Functions of `torch.distributed.distributed_c10d` through which all time-outs of groups go, those of the app, too."""

_DAYS = timedelta(days=7)
"""Longer than anybody debugs; in milliseconds it still fits into 32 bits, as some backends want."""


def have_them_wait() -> None:
    """Have the process groups that this process makes from now on wait for days, whatever the app says."""
    from torch.distributed import distributed_c10d

    module: Any = distributed_c10d
    module.default_pg_timeout = module.default_pg_nccl_timeout = _DAYS
    for name in PRIVATE:
        if hasattr(module, name):
            setattr(module, name, _patient(getattr(module, name)))
    os.environ["TORCH_NCCL_ENABLE_MONITORING"] = "0"  # it would end a process whose threads a debugger has stopped


def _patient(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        where = bound.arguments if "timeout" in signature.parameters else bound.arguments.setdefault("kwargs", {})
        where["timeout"] = _DAYS
        if (store := bound.arguments.get("store")) is not None:
            store.set_timeout(_DAYS)
        return function(*bound.args, **bound.kwargs)

    return call
