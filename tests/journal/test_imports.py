"""Looking at a sweep costs little: what it imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_hydra.journal.events import AttemptStarted, JobComposed, JobEnded, SweepBegan
from elastic_hydra.journal.writer import Journal

LOOK = """
import sys
from pathlib import Path
from elastic_hydra.journal import reader
(job,) = reader.read(Path(sys.argv[1])).values()
heavy = {"cloudpickle", "hydra", "numpy", "omegaconf", "psutil", "torch"}
print(job.state, job.value.load(), sorted(heavy & {*sys.modules}))
"""


@pytest.mark.system
def test_a_journal_is_read_without_torch_and_hydra(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(SweepBegan(resume=False))
    journal.write(JobComposed(num=0, overrides=["x=1"], config="x: 1\n", dir="0"))
    journal.write(AttemptStarted(num=0, attempt=0))
    journal.write_end(JobEnded(num=0, state="finished", seconds=1.0, reason=""), 0.5)
    path = shutil.copy(journal.path, tmp_path / "copy.jsonl")  # one whose launcher has ended
    look = subprocess.run([sys.executable, "-c", LOOK, path], capture_output=True, text=True, check=False)
    assert look.stdout == "finished 0.5 []\n", look.stderr
