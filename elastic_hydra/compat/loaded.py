"""What libraries say that this process has imported. None of them is imported here."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["cuda_is_unusable", "hydra_runs", "is_in_shared_memory", "noted_cuda_seed", "numpy_is_seeded"]


def cuda_is_unusable() -> bool:
    """Whether this process was forked from one after whose questions a fork cannot use CUDA."""
    cuda = sys.modules.get("torch.cuda")
    return cuda is not None and bool(cuda._is_in_bad_fork())


def noted_cuda_seed() -> Any:
    """Return what torch has noted of the last seed for all GPUs, and the stack of who gave it; None: of no seed."""
    tracker = getattr(sys.modules.get("torch.cuda"), "_lazy_seed_tracker", None)
    return getattr(tracker, "manual_seed_all_cb", None)


def numpy_is_seeded() -> bool:
    """Whether somebody has seeded the generator behind the functions of `numpy.random`, which is imported."""
    generator = sys.modules["numpy.random"].get_state.__self__._bit_generator
    return getattr(generator, "_seed_seq", None) is None


def is_in_shared_memory(tensor: Any) -> bool:
    """Whether other processes share the memory of a tensor or of a storage of torch's."""
    # A typed storage warns when it is asked itself.
    return bool(getattr(tensor, "_untyped_storage", tensor).is_shared())


@contextlib.contextmanager
def hydra_runs(instead: Callable[..., Any]) -> Iterator[None]:
    """Have functions that `hydra.main` has decorated call another function while this is entered, and not run an app.

    Args:
        instead: takes whatever arguments.
    """
    importlib.import_module("hydra")
    module: Any = sys.modules["hydra.main"]  # the name itself is the function's
    before, module._run_hydra = module._run_hydra, instead
    try:
        yield
    finally:
        module._run_hydra = before
