"""What the journal keeps for those who look at a sweep later: its environment, starts of workers, and tracebacks."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from elastic_hydra.journal import events, writer
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import App

pytestmark = pytest.mark.system

BODY = """
if cfg.x == 1:
    raise KeyError("no such layer")
if cfg.x == 2 and not os.path.exists("was here"):
    Path("was here").touch()
    os._exit(3)
return cfg.x
"""


@pytest.mark.smoke
def test_the_journal_keeps_what_a_report_needs(tmp_path: Path) -> None:
    retry = "hydra.launcher.retry.max_restarts=1"
    finished = App(tmp_path, BODY).run("+x=0,1,2", retry, "hydra.launcher.nproc_per_node=1")
    found = [event for _, event in Lines(finished.folder / writer.FILE_NAME)]

    (began,) = [event for event in found if isinstance(event, events.SweepBegan)]
    assert began.versions["python"] == platform.python_version()
    assert began.versions["torch"] == torch.__version__
    assert {"hydra-core", "elastic_hydra"} < set(began.versions)
    assert began.cpus is not None
    assert began.maximize is None

    starts = [(event.num, event.attempt) for event in found if isinstance(event, events.WorkersStarted)]
    assert starts == [(0, 0), (1, 0), (1, 0), (2, 0), (2, 0)]  # those of two jobs were restarted

    ends = {event.num: event for event in found if isinstance(event, events.JobEnded)}
    assert ends[0].traceback is None
    assert ends[0].log is None
    assert ends[1].traceback is not None
    assert ends[1].traceback.startswith("Traceback")
    assert "in body" in ends[1].traceback or "app.py" in ends[1].traceback
    assert "KeyError: 'no such layer'" in ends[1].traceback
    assert ends[1].log is not None
    assert Path(ends[1].log).exists()
