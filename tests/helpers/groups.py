"""What the tests of retries share: short launches, workers that misbehave, and a group that has little memory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from torch.distributed.elastic.multiprocessing import Std

import elastic_hydra
from elastic_hydra import LaunchConfig, elastic_launch
from elastic_hydra.config.retry import BackoffConfig, RetryConfig
from elastic_hydra.config.watch import WatchConfig
from elastic_hydra.elastic.logs import JobLogs
from elastic_hydra.elastic.worker_failure import WorkersFailedError
from elastic_hydra.failures.verdict import Verdict


class Launched:
    """A launch, and every decision that was made in it."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self.workers = workers
        self.verdicts: list[Verdict] = []

    def run(
        self,
        entrypoint: Any,
        *args: Any,
        retry: RetryConfig | dict[str, Any] | None = None,
        watch: WatchConfig | dict[str, Any] | None = None,
        **settings: Any,
    ) -> dict[int, Any]:
        if isinstance(retry, dict):
            retry = RetryConfig(**retry)
        if isinstance(watch, dict):
            watch = WatchConfig(**watch)
        config = LaunchConfig(
            1,
            1,
            self.workers,
            start_method=settings.pop("start_method", "warm"),
            retry=retry,
            watch=watch or WatchConfig(),
            on_verdict=self.verdicts.append,
            logs_specs=JobLogs(self.folder / "logs", redirects=Std(settings.pop("redirects", 0))),
            **{"max_restarts": 0, "shutdown_timeout": 1, **settings},
        )
        return elastic_launch(config, entrypoint)(*args)

    def fail(self, entrypoint: Any, *args: Any, **settings: Any) -> WorkersFailedError:
        with pytest.raises(WorkersFailedError) as caught:
            self.run(entrypoint, *args, **settings)
        return caught.value

    @property
    def kinds(self) -> list[str]:
        return [verdict.failure.kind.value for verdict in self.verdicts]


def no_wait(**settings: Any) -> RetryConfig:
    """Return a policy with three restarts at once."""
    return RetryConfig(**{"max_restarts": 3, **settings})


def wait(initial: float, **settings: Any) -> BackoffConfig:
    return BackoffConfig(initial=initial, jitter=0.0, **settings)


def restarts() -> int:
    return int(os.environ["TORCHELASTIC_RESTART_COUNT"])


def rank() -> int:
    return int(os.environ["RANK"])


def misbehave(how: str, until: int = 1, who: int = 0) -> int:
    """Fail in a certain way in rank `who` until the restart `until`; the others wait for it."""
    if restarts() >= until:
        return restarts()
    if rank() != who:
        time.sleep(600)
    if how == "import":
        __import__("no_such_module")
    elif how == "value":
        raise ValueError("nan")
    elif how == "connection":
        raise ConnectionResetError("gone")
    elif how == "memory":
        raise MemoryError
    elif how == "instantiated connection":
        instantiate({"_target_": "tests.helpers.groups.misbehave", "how": "connection"})
    elif how.startswith("exit "):
        os._exit(int(how.split()[1]))
    else:
        os.kill(os.getpid(), getattr(signal, how))
    return -1


def stand_still(who: int = 1) -> None:
    """Beat for ever, except for one rank, which stops in a C call."""
    while rank() != who:
        elastic_hydra.heartbeat()
        time.sleep(0.02)
    elastic_hydra.heartbeat()
    time.sleep(600)


@contextlib.contextmanager
def control_group(limit: int) -> Iterator[Path]:
    """Make a memory control group, version 1 or 2, or skip the test where one may not."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent, file = (first, "memory.limit_in_bytes") if first.is_dir() else (second, "memory.max")
    folder = parent / f"elastic_hydra_test_{os.getpid()}"
    try:
        folder.mkdir()
        (folder / file).write_text(str(limit))
        for swap in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
            with contextlib.suppress(OSError):
                (folder / swap).write_text(str(limit) if "memsw" in swap else "0")
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)  # its last process has been reaped, but not yet by the group
