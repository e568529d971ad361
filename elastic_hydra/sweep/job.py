"""One job of a sweep: what it is, and how it goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from elastic_hydra.config.resolve import Launch
from elastic_hydra.numa.allowance import Allowance

__all__ = ["NO_CONFIG", "Job"]

NO_CONFIG = OmegaConf.create()
"""In the place of a job's configuration that nobody needs any more: there may be thousands of them."""


@dataclass
class Job:
    """One job, composed and checked."""

    num: int
    overrides: list[str]
    config: DictConfig
    launch: Launch
    output_dir: Path
    run_id: str
    slot: Allowance | None = None
    """What it holds of this host; None: all that the launcher may use."""
    label: str = ""
    """What tells its lines on the console from those of other jobs, as `#3`; empty: it runs alone."""
    stdin: bool = False
    """Whether rank 0 has the launcher's standard input, as no other job runs beside it."""
    attempt: int = 0
    began: float | None = None
    """When its first attempt was started, on the monotonic clock, in seconds."""
    not_before: float = 0.0
    """When it may start, on the monotonic clock, in seconds."""
    journal: Path | None = None
    """Where its agent takes down its restarts."""
    journal_start: int = 0
    """Where in the journal that begins, in bytes."""
    restarts: tuple[float, ...] = ()
    """When its workers were restarted, on the monotonic clock, in seconds; only restarts that count."""

    @property
    def elapsed(self) -> float:
        """Seconds since its first attempt was started: all processes of a host share the monotonic clock."""
        return 0.0 if self.began is None else time.monotonic() - self.began

    @property
    def env_set(self) -> dict[str, str]:
        """Environment variables that it sets."""
        return {str(name): str(value) for name, value in self.config.hydra.job.env_set.items()}

    @property
    def log_dir(self) -> Path:
        """Where its workers write."""
        return self.output_dir / (self.launch.keys.logs.dir or "logs")
