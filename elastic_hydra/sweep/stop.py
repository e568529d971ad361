"""What happens to a sweep that is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType

from hydra.types import HydraContext
from omegaconf import DictConfig

from elastic_hydra.compat.versions import hydra_ends_interrupted_multiruns
from elastic_hydra.supervisor.signal_queue import SignalQueue

__all__ = ["Stopped", "keep_last_screen", "multirun_end_on_interrupt", "signal_of", "stop_signals"]


class Stopped(SystemExit):
    """A signal has told the launcher to stop: it ends with the exit code that a shell gives such an end."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = signal.Signals(number)


def signal_of(error: BaseException) -> signal.Signals:
    """Return the signal because of which a sweep ends; SIGTERM if it is none."""
    if isinstance(error, Stopped):
        return error.number
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM


def stop_signals(names: Iterable[str]) -> SignalQueue:
    """Make the queue whose signals end the sweep in order: SIGINT by `KeyboardInterrupt`, others by `Stopped`.

    What is ignored stays ignored. Handlers that the app has set are for its workers, and are put back afterwards.

    Args:
        names: of the signals, as in `hydra.launcher.signals_to_handle`.
    """
    numbers = [signal.Signals[name] for name in names]
    return SignalQueue((number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN), _error)


def _error(number: signal.Signals) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)


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
