"""Sweeps of the fault matrix: started, and looked at when they are over."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.apps import App, Finished, Running

SETTINGS = [
    "hydra.launcher.nproc_per_node=2",
    "hydra.launcher.shutdown_timeout=1",
    "+hydra.callbacks.moments._target_=faults.Moments",
    "+hydra.job_logging.handlers.fault={class: faults.Handler}",
    "hydra.job_logging.root.handlers=[console,file,fault]",
]
ONCE_MORE = [
    "hydra.launcher.retry.max_restarts=2",
    "hydra.launcher.retry.max_attempts=2",
    "hydra.launcher.retry.backoff={jitter: 0}",
    # Long enough to be met, and only where it shall be.
    "hydra.launcher.retry.backoff.initial=${wait:}",
]
"""Each job comes to harm once, so that it finishes with these."""
WATCHED = ["hydra.launcher.watch={progress_limit: 1, progress: [cpu], action: restart}"]


class Sweep:
    """A sweep whose jobs are cases."""

    def __init__(self, folder: Path, cases: Sequence[str], name: str = "sweep", inside: Sequence[str] = ()) -> None:
        shutil.copy(Path(__file__).with_name("faults.py"), folder)
        self.cases = list(cases)
        self.folder = folder / name
        self._name = name
        self._app = App(folder, "return faults.task()", before="import faults", inside=inside)

    @contextlib.contextmanager
    def started(self, *overrides: str) -> Iterator[Running]:
        with self._app.started(*SETTINGS, *overrides, f"+case={','.join(self.cases)}", name=self._name) as running:
            yield running

    def run(self, *overrides: str) -> Finished:
        """Run it to the launcher's end, whoever brings that about, and see that nothing is left."""
        with self.started(*overrides) as running:
            finished = running.finish()
            left = running.survivors()
            assert left == [], finished.output
        return finished

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the journal: all of them whole."""
        return [json.loads(line) for line in (self.folder / "journal.jsonl").read_text().splitlines()]

    def ends(self) -> dict[str, dict[str, Any]]:
        """Return how each case ended, by its name."""
        names = {
            line["num"]: line["overrides"][-1].partition("=")[2] for line in self.lines() if line["event"] == "job"
        }
        return {names[line["num"]]: line for line in self.lines() if line["event"] == "end"}
