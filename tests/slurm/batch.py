"""Batch scripts that launch the apps of tests."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.apps import App
from tests.helpers.slurm import Cluster

__all__ = ["BatchJob"]


class BatchJob:
    """A batch job whose script launches an app.

    Args:
        slurm: where.
        app: what is launched.
        overrides: of the sweep, whose directory is `sweep` beside the app.
        options: of sbatch.
        prefix: what stands in front of the launcher's command: `exec` or `srun`.
        script: the whole script instead, in which `$SCRATCH` is the app's folder; the sweep is in `sweeps/JOBID` there.
    """

    def __init__(
        self,
        slurm: Cluster,
        app: App,
        overrides: Sequence[str],
        options: Sequence[str] = (),
        prefix: str = "exec",
        script: str = "",
    ) -> None:
        self._slurm = slurm
        self.folder = app.folder / "sweep"
        command = [sys.executable, str(app.path), "-m", f"hydra.sweep.dir={self.folder}", "hydra/launcher=elastic"]
        path = app.folder / "job.sh"
        path.write_text(script or f"#!/bin/bash\n{prefix} {shlex.join([*command, *overrides])}\n")
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.id = slurm.submit(path, *options, PATH=programs, SCRATCH=str(app.folder))
        if script:
            self.folder = app.folder / "sweeps" / self.id
        self._output = app.folder / f"{self.id}.out"

    def output(self) -> str:
        """Return what it has written so far, in all its lives."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def wait_for_line(self, pattern: str, count: int = 1) -> None:
        """Wait until its output has so many lines with a text."""
        what = f"{count} lines with {pattern!r}"
        try:
            self._slurm.wait_for(lambda: len(re.findall(pattern, self.output())) >= count, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- output\n{self.output()}") from None

    def wait_for_end(self) -> str:
        """Wait until Slurm says that it has ended, and return in which state."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL")
        return self._slurm.wait_for_state(self.id, *ends)["JobState"]

    def journal(self) -> Path:
        """Return where the journal of its sweep is."""
        return self.folder / "journal.jsonl"
