"""A Hydra callback that writes down, from each job's agent, who the agent is and what its job came to."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Recorder(Callback):
    """Writes a line when a job starts and one when it ends."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Say which process is the agent."""
        _write({"event": "agent", "pid": os.getpid(), "job": int(config.hydra.job.num)})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Say what the job came to on this node."""
        failed = job_return.status is JobStatus.FAILED
        result = job_return._return_value
        said = {"error": f"{type(result).__name__}: {result}"} if failed else {"value": result}
        _write({"event": "result", "job": int(config.hydra.job.num), **said})


def _write(line: dict[str, Any]) -> None:
    with open(os.environ["NODES_EVENTS"], "a") as file:
        file.write(json.dumps({**line, "at": time.time(), "host": os.environ["NODES_HOST"]}) + "\n")
