"""Which frames of a traceback are the user's.

A module of ours that calls the user's code says so by `__tracebackhide__ = True`, as helpers of pytest do. Frames of
such modules stand above the user's code in every traceback and say nothing to the user.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Collection

__all__ = ["internal_files", "users_part"]

_TORCHS = "torch.distributed.elastic.multiprocessing.errors"
"""The module of torch's `record`, which calls the user's function."""


def users_part(trace: types.TracebackType | None, others: Collection[str] = ()) -> types.TracebackType | None:
    """Drop the first frames of a traceback, as long as they are not the user's.

    Args:
        trace: the traceback.
        others: names of further modules whose frames are dropped.
    """
    while trace is not None and _is_internal(trace.tb_frame.f_globals, others):
        trace = trace.tb_next
    return trace


def internal_files() -> set[str]:
    """Return the source files of all modules here that call the user's code."""
    found = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("elastic_hydra.")]
    return {str(names["__file__"]) for names in found if names.get("__tracebackhide__") is True}


def _is_internal(names: dict[str, object], others: Collection[str]) -> bool:
    return names.get("__tracebackhide__") is True or names.get("__name__") in (_TORCHS, *others)
