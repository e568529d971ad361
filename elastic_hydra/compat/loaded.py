"""Facts about libraries that this process may have imported. This module imports none of them."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["cuda_is_unusable", "hydra_runs", "is_in_shared_memory", "leave_hydra", "noted_cuda_seed", "numpy_is_seeded"]


def cuda_is_unusable() -> bool:
    """Whether this process cannot use CUDA, because it was forked from a process that had initialised CUDA."""
    cuda = sys.modules.get("torch.cuda")
    return cuda is not None and bool(cuda._is_in_bad_fork())


def noted_cuda_seed() -> Any:
    """Return torch's note of the last seed for all GPUs: the seed's call, and its stack; None: none was given."""
    tracker = getattr(sys.modules.get("torch.cuda"), "_lazy_seed_tracker", None)
    return getattr(tracker, "manual_seed_all_cb", None)


def numpy_is_seeded() -> bool:
    """Whether somebody has seeded the generator behind the functions of `numpy.random`, which must be imported."""
    generator = sys.modules["numpy.random"].get_state.__self__._bit_generator
    return getattr(generator, "_seed_seq", None) is None


def is_in_shared_memory(tensor: Any) -> bool:
    """Whether other processes share the memory of a tensor or of a storage of torch's."""
    # A typed storage would warn if we asked it directly.
    return bool(getattr(tensor, "_untyped_storage", tensor).is_shared())


@contextlib.contextmanager
def hydra_runs(instead: Callable[..., Any]) -> Iterator[None]:
    """A context in which functions that `hydra.main` has decorated call another function instead of running their app.

    Args:
        instead: the other function; it must take any arguments.
    """
    importlib.import_module("hydra")
    module: Any = sys.modules["hydra.main"]  # `hydra.main` itself is the function, not the module
    before, module._run_hydra = module._run_hydra, instead
    try:
        yield
    finally:
        module._run_hydra = before


def leave_hydra() -> None:
    """Make Hydra what it is after its import: this fork of an app runs a script, which may be an app itself."""
    if "hydra.core.global_hydra" in sys.modules:
        sys.modules["hydra.core.global_hydra"].GlobalHydra.instance().clear()
        importlib.import_module("hydra.core.hydra_config").HydraConfig.instance().cfg = None
