"""What happens to a sweep that is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from hydra.types import HydraContext
from omegaconf import DictConfig

from elastic_hydra.compat.versions import hydra_ends_interrupted_multiruns
from elastic_hydra.supervisor.signal_queue import SignalQueue

__all__ = ["Order", "Stopped", "keep_last_screen", "multirun_end_on_interrupt", "order_of", "stop_signals"]


@dataclass(frozen=True)
class Order:
    """What has told jobs, or the sweep, to stop: a signal, or a user by `elastic-hydra stop`."""

    number: signal.Signals = signal.SIGTERM
    """The signal that agents and workers get."""
    by: str = ""
    """Name of the user who has asked; empty: the signal came."""
    reason: str = ""
    """Why, in the user's words; empty: they did not say."""

    def __str__(self) -> str:
        if not self.by:
            return self.number.name
        return f"{self.by} (elastic-hydra stop{': ' if self.reason else ''}{self.reason})"


class Stopped(SystemExit):
    """The launcher was told to stop: it ends with the exit code that a shell gives an end by that signal."""

    def __init__(self, order: Order) -> None:
        super().__init__(128 + order.number)
        self.order = order


def order_of(error: BaseException) -> Order:
    """Return what has told a sweep to stop that ends by this exception; SIGTERM if it is another one."""
    if isinstance(error, Stopped):
        return error.order
    return Order(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)


def stop_signals(names: Iterable[str]) -> SignalQueue:
    """Make the queue whose signals end the sweep in order: SIGINT by `KeyboardInterrupt`, others by `Stopped`.

    What is ignored stays ignored. Handlers that the app has set are for its workers, and are put back afterwards.

    Args:
        names: of the signals, as in `hydra.launcher.signals_to_handle`.
    """
    numbers = [signal.Signals[name] for name in names]
    return SignalQueue((number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN), _error)


def _error(number: signal.Signals) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(Order(number))


def keep_last_screen() -> None:
    """Have Python not print a stack trace of the launcher's own code below the summary, if Ctrl-C has ended it.

    The process still ends as one that SIGINT has killed, which is how a shell knows to stop its loop.
    """
    if sys.excepthook is not sys.__excepthook__ or os.environ.get("HYDRA_FULL_ERROR", "") == "1":
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


@contextlib.contextmanager
def multirun_end_on_interrupt(context: HydraContext, config: DictConfig) -> Iterator[None]:
    """Call the callbacks' `on_multirun_end` when the sweep is interrupted: Hydra 1.3 leaves that out, 1.4 does it."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        if not hydra_ends_interrupted_multiruns():
            context.callbacks.on_multirun_end(config=config, config_name=config.hydra.job.config_name)
        raise
