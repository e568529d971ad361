"""The apps of the README and the cookbook run by the commands below them; a preempted sbatch script is resumed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "guides"
PACKAGES = {
    "app": (),
    "accelerate_app": ("accelerate",),
    "trainer_app": ("transformers", "accelerate"),
    "wandb_app": ("wandb",),
    "mlflow_app": ("mlflow",),
}
"""The apps that are run, and what they need."""


def recipes() -> dict[str, tuple[str, str]]:
    """Return code and command of each app of the README and the cookbook, by the name of its file."""
    text = (ROOT / "README.md").read_text() + (GUIDES / "cookbook.md").read_text()
    pattern = r"`(\w+)\.py`:\n\n```python\n(.*?)```\n\n```bash\n(.*?)```"
    return {name: (code, command) for name, code, command in re.findall(pattern, text, flags=re.DOTALL)}


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which `python` is this one."""
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SCRATCH": str(folder), "SLURM_JOB_ID": "1"}


def test_all_recipes_but_that_for_a_debugger_are_run() -> None:
    assert set(recipes()) == {*PACKAGES, "debug_app"}


@pytest.mark.parametrize("name", PACKAGES)
def test_recipe(name: str, tmp_path: Path) -> None:
    for package in PACKAGES[name]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    code, command = recipes()[name]
    (tmp_path / f"{name}.py").write_text(code)
    ran = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 finished" in ran.stdout


@contextlib.contextmanager
def ended(script: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a script, with what it has started, should a test not get so far."""
    try:
        yield script
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGTERM)
        script.wait()


APP = """
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    told_to_stop = False

    def stop(number, frame):
        nonlocal told_to_stop
        told_to_stop = True

    signal.signal(signal.SIGUSR1, stop)
    checkpoint = Path(HydraConfig.get().runtime.output_dir) / "checkpoint"
    if checkpoint.exists():
        return float(checkpoint.read_text())
    Path(os.environ["SCRATCH"], "running").touch()
    while not told_to_stop:
        time.sleep(0.01)
    checkpoint.write_text(str(cfg.lr))


main()
"""


def test_the_sbatch_script_goes_back_into_the_queue_and_resumes(tmp_path: Path) -> None:
    text = (GUIDES / "preemption.md").read_text()
    (script,) = [block for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) if "#SBATCH" in block]
    # One job at a time, on any machine, and a key that the app here takes from the command line.
    script = script.replace("hydra.launcher.parallel=4", "hydra.launcher.parallel=1")
    (tmp_path / "batch.sh").write_text(script.replace(" lr=0.1,0.03,0.01,0.003,0.001", " +lr=0.1"))
    (tmp_path / "train.py").write_text(APP)
    requeue = tmp_path / "scontrol"
    requeue.write_text('#!/bin/sh\necho "$@" >"$SCRATCH/requeued"\n')
    requeue.chmod(0o755)

    def batch() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "batch.sh"],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    with ended(batch()) as first:
        while not (tmp_path / "running").exists():
            assert first.poll() is None
            time.sleep(0.05)
        first.send_signal(signal.SIGUSR1)
        assert first.wait() == 128 + signal.SIGUSR1
    assert (tmp_path / "requeued").read_text() == "requeue 1\n"
    with ended(batch()) as again:
        output, _ = again.communicate()
    assert again.returncode == 0, output
    assert "#0 finished: 0.1" in output
