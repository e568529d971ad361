"""A long sweep needs no more of the machine at its end than at its beginning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

JOBS = 160
SIDE_BY_SIDE = 2
SETTLED = 20
"""Jobs after which nothing more is expected to grow."""
WITH_ONE_JOB = 4
"""What comes and goes with one job: file descriptors while it starts, its agent, its worker."""

# A job's worker is a child of the server, which is a child of the launcher: so each job can look at both.
APP = """
import json, os, tempfile
from pathlib import Path
import hydra

def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

def children(pid):
    return sum(len(path.read_text().split()) for path in Path(f"/proc/{pid}/task").glob("*/children"))

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    server = os.getppid()
    seen = {"temporary files": len(os.listdir(tempfile.gettempdir()))}
    for name, pid in (("server", server), ("launcher", parent(server))):
        seen[f"{name}: fds"] = len(os.listdir(f"/proc/{pid}/fd"))
        seen[f"{name}: threads"] = len(os.listdir(f"/proc/{pid}/task"))
        seen[f"{name}: children"] = children(pid)
    print(json.dumps(seen), file=open("seen", "a"))

main()
"""


def test_a_sweep_of_many_jobs_stays_flat(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "tmp").mkdir()
    numbers = ",".join(map(str, range(JOBS)))
    launch = ["hydra/launcher=elastic", f"hydra.launcher.parallel={SIDE_BY_SIDE}", "hydra.job.chdir=false"]
    done = subprocess.run(
        [sys.executable, "app.py", "-m", *launch, f"+n={numbers}", "hydra.sweep.dir=sweep"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(seen) == JOBS

    highest = {name: [max(row[name] for row in part) for part in (seen[:SETTLED], seen[SETTLED:])] for name in seen[0]}
    grown = {name: values for name, values in highest.items() if values[1] > values[0] + WITH_ONE_JOB * SIDE_BY_SIDE}
    assert not grown, f"highest values of the first {SETTLED} jobs and of the others"
    assert highest["launcher: children"][1] == 1  # the server
    assert highest["server: children"][1] <= 2 * SIDE_BY_SIDE + 1  # agents, workers, one that is to be waited for
    assert os.listdir(tmp_path / "tmp") == []
