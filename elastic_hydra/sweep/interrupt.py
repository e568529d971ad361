"""What happens to a sweep that is told to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import hydra
from hydra.types import HydraContext
from omegaconf import DictConfig

__all__ = ["multirun_end_on_interrupt", "stopped_by_signals"]


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the sweep in order, with the exit code that a shell gives such an end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def multirun_end_on_interrupt(context: HydraContext, config: DictConfig) -> Iterator[None]:
    """Call the callbacks' `on_multirun_end` when the sweep is interrupted: Hydra 1.3 leaves that out, 1.4 does it."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        if tuple(map(int, hydra.__version__.split(".")[:2])) < (1, 4):
            context.callbacks.on_multirun_end(config=config, config_name=config.hydra.job.config_name)
        raise
