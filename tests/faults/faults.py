"""What goes wrong in a job of the fault matrix: imported by the app, so it runs in all processes of the sweep.

A job's `case` says which process comes to harm, when, and how: `rank1-running-SIGKILL`. Whoever gets to that moment
does it to that process, once per job.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

OmegaConf.register_new_resolver("wait", lambda _root_: 5.0 if "backoff" in _root_.get("case", "") else 0.0)

FOR_EVER = 600
VALUE = 0.5


def _raise() -> NoReturn:
    raise RuntimeError("the fault")


def _eat() -> None:
    """Run out of memory, as far as the kernel lets this process have some."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
    bytearray(512 << 20)


def _hoard() -> None:
    """Take more memory than a control group has, so that the kernel kills this process and no other."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    hoarded = b"x" * (2 << 30)
    raise RuntimeError(f"nobody minds {len(hoarded)} bytes")


def fill(folder: Path) -> None:
    """Take all that is left of the disk."""
    with open(folder / "ballast", "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 8, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"0" * size)


TO_ONESELF: dict[str, Callable[[], Any]] = {
    "exception": _raise,
    "exit0": lambda: os._exit(0),
    "exit3": lambda: os._exit(3),
    "sysexit3": lambda: sys.exit(3),
    "memory": _eat,
    "hoard": _hoard,
}


class Case:
    """The case of one job, as seen by one of its processes."""

    def __init__(self, text: str, folder: Path) -> None:
        self.text, self.folder = text, folder
        self.who, self.moment, self.fault = text.split("-")

    @classmethod
    def current(cls) -> Case:
        config = HydraConfig.get()
        (text,) = (word.partition("=")[2] for word in config.overrides.task if "case=" in word)
        return cls(text, Path(config.runtime.output_dir))

    @property
    def fired(self) -> bool:
        return (self.folder / "fired").exists()

    def pid(self, who: str) -> int:
        agent = int((self.folder / "agent.pid").read_text())
        server = psutil.Process(agent).ppid() if who != "agent" else 0
        return {"agent": agent, "server": server}.get(who) or psutil.Process(server).ppid()

    def at(self, moment: str, here: str, deputy: str) -> None:
        """Let it happen, if it is time.

        Args:
            moment: that has come.
            here: the process that is in it.
            deputy: who does it to processes that are not in it themselves.
        """
        doers = {self.who} if self.who.startswith("rank") else {self.who, deputy}
        if moment != self.moment or here not in doers:
            return
        if self.fired:
            return
        (self.folder / "fired").touch()
        if here != self.who:
            os.kill(self.pid(self.who), signal.Signals[self.fault])
            time.sleep(FOR_EVER)
        elif self.fault == "disk":
            fill(self.folder.parents[1])
        else:
            suffer(self.fault)


def suffer(fault: str) -> None:
    """Let it happen to this process."""
    if fault in TO_ONESELF:
        TO_ONESELF[fault]()
        return
    os.kill(os.getpid(), signal.Signals[fault])
    time.sleep(FOR_EVER if fault != "SIGSTOP" else 0)


def rank() -> str:
    return "rank" + os.environ["RANK"]


# --- the moments ---------------------------------------------------------------------------------------------------

_agent = 0


class Moments(Callback):
    """Before the rendezvous, and after the exit barrier: in the agent."""

    def on_job_start(self, config: Any, **_: Any) -> None:
        global _agent
        _agent = os.getpid()
        case = Case.current()
        case.folder.mkdir(parents=True, exist_ok=True)
        (case.folder / "agent.pid").write_text(str(_agent))
        case.at("before", "agent", "agent")

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        Case.current().at("exit", "agent", "agent")


class Handler(logging.Handler):
    """During the start: logging is configured before the task runs. During the back-off: the agent announces it."""

    def __init__(self) -> None:
        super().__init__()
        if "RANK" in os.environ:
            Case.current().at("start", rank(), "rank0")

    def emit(self, record: logging.LogRecord) -> None:
        case = Case.current()
        if case.moment == "backoff" and "restarting the workers in" in record.getMessage():
            threading.Thread(target=self._in_backoff, args=(case,), daemon=True).start()

    def _in_backoff(self, case: Case) -> None:
        workers = [p for p in psutil.Process(os.getppid()).children() if p.pid != _agent]
        psutil.wait_procs(workers)  # then the agent has nothing left to do but wait
        case.at("backoff", "agent", "agent")


class Result:
    """A return value that makes a moment of its journey: from the worker to the agent, and on to the launcher."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __reduce__(self) -> tuple[Any, ...]:
        if _agent == os.getpid():
            self.case.at("returning", "agent", "agent" if self.case.who != "launcher" else "")
        elif "RANK" in os.environ:
            self.case.at("returning", rank(), "")
        return _arrived, (self.case.text, self.case.folder)


def _arrived(text: str, folder: Path) -> Any:
    case = Case(text, folder)
    if _agent == os.getpid():
        return Result(case)
    case.at("returning", "launcher", "")
    return VALUE


def task() -> Any:
    """Run a worker through its moments."""
    case, me = Case.current(), rank()
    subprocess.Popen(["sleep", str(FOR_EVER)], start_new_session=True)  # what a worker leaves behind
    atexit.register(lambda: case.at("exit", me, ""))
    if case.fault == "deaf" and me == "rank0":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif case.moment == "restart":
        signal.signal(signal.SIGTERM, lambda *_: case.at("restart", me, "rank0"))
    (case.folder / f"runs.{me}").touch()
    if case.moment in ("restart", "backoff") or case.fault == "deaf":
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and not case.fired:
            if me == "rank0":
                time.sleep(FOR_EVER)
            while not (case.folder / "runs.rank0").exists():
                time.sleep(0.01)
            if case.fault == "deaf":
                (case.folder / "fired").touch()
            raise RuntimeError("what the group is restarted for")
        return Result(case)
    case.at("running", me, "rank0")
    if case.moment in ("start", "running") and not case.fired:
        time.sleep(FOR_EVER)  # the others, until they are stopped
    return Result(case)
