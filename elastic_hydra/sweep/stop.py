"""What happens to a sweep that is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

from hydra.types import HydraContext
from omegaconf import DictConfig

from elastic_hydra.compat.versions import hydra_ends_interrupted_multiruns
from elastic_hydra.supervisor import signals
from elastic_hydra.supervisor.process_state import woken_by_signals

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StopSignals", "Stopped", "keep_last_screen", "multirun_end_on_interrupt", "signal_of"]


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


class StopSignals:
    """While entered, signals end the sweep in order: SIGINT by `KeyboardInterrupt`, others by `Stopped`.

    What is ignored stays ignored. Handlers that the app has set are for its workers, and are put back afterwards.

    Args:
        names: of the signals, as in `hydra.launcher.signals_to_handle`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._numbers = [signal.Signals[name] for name in names]
        self._before: dict[signal.Signals, object] = {}
        self._had: set[int] = set()
        self._woken = woken_by_signals()
        self._holding = False
        self._kept: int | None = None
        self.deaf = False
        """Whether further signals are ignored: all jobs have ended, and only their ends are still being recorded."""

    def __enter__(self) -> Self:
        self._woken.__enter__()
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signals.displace(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signals.put_back(number, handler)
        self._woken.__exit__(None, None, None)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.deaf:
            return
        if number != signal.SIGINT and number in self._had:
            return  # batch systems repeat their signals: a repeated one changes nothing
        self._had.add(number)
        if self._holding and self._kept is None:
            self._kept = number
        else:
            _raise(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep a signal until what is under way is done, so that it meets no job on its way from one list to another.

        A second one is not kept: should that never be done, the sweep can still be ended.
        """
        self._kept, self._holding = None, True
        try:
            yield
        finally:
            self._holding = False
            if (number := self._kept) is not None:
                _raise(number)


def _raise(number: int) -> NoReturn:
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


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
