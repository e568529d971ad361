"""The example app: how good it gets, and that it goes on from its checkpoint when a worker is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.packages import needs

pytestmark = [pytest.mark.system, needs("sklearn", extra="examples")]

APP = Path(__file__).parents[2] / "examples" / "digits" / "train.py"

RECORD = """
import json
from pathlib import Path
from hydra.experimental.callback import Callback

class Record(Callback):
    def on_job_end(self, config, job_return, **kwargs):
        path = Path(config.hydra.runtime.output_dir) / "returned.json"
        path.write_text(json.dumps([job_return.status.name, job_return.return_value]))
"""


def start(folder: Path, *overrides: str) -> "subprocess.Popen[str]":
    (folder / "record.py").write_text(RECORD)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, str(APP), *overrides]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    # From outside there is no event to wait for: the file is all that the app shows.
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def epochs(log: str) -> list[int]:
    return [int(number) for number in re.findall(r"epoch (\d+): test accuracy", log)]


@pytest.mark.smoke
def test_goes_on_after_a_death_and_returns_its_accuracy(tmp_path: Path) -> None:
    job = tmp_path / "sweep" / "0"
    overrides = ["launch=two_workers", "lr=0.01", "epochs=8", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    process = start(tmp_path, "-m", *overrides, "+hydra.callbacks.record._target_=record.Record")
    wait_for(job / "checkpoint.pt", process)
    victim = re.search(r"rank 1 of 2 on \w+, pid (\d+)", (job / "train.rank1.log").read_text())
    assert victim is not None
    os.kill(int(victim[1]), signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output

    before, after = re.split(r"going on after epoch \d+", (job / "train.log").read_text())
    assert epochs(before)[0] == 1
    done = re.search(r"going on after epoch (\d+)", output)
    assert done is not None
    assert epochs(after) == list(range(int(done[1]) + 1, 9))
    status, accuracy = json.loads((job / "returned.json").read_text())
    assert (status, type(accuracy)) == ("COMPLETED", float)
    assert accuracy >= 0.95


def test_needs_no_launcher(tmp_path: Path) -> None:
    output = start(tmp_path, "epochs=1", f"hydra.run.dir={tmp_path / 'run'}").communicate(timeout=120)[0]
    assert "rank 0 of 1" in output
    assert epochs(output) == [1], output
    assert "elastic_hydra" not in APP.read_text()
