"""The batch script, executed by bash with stand-ins for Slurm's programs: tests/slurm has the real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from elastic_hydra.config.nodes import Nodes
from elastic_hydra.render.sbatch import sbatch
from tests.render.plans import NASTY, SITE, plan, recorded, words_by_chance

pytestmark = pytest.mark.system

SRUN = """
    # Starts the command once for each node, as srun does, and writes down its own options and what it finds set.
    import itertools, os, subprocess, sys
    options = list(itertools.takewhile(lambda word: word.startswith("--"), sys.argv[1:]))
    command = sys.argv[1 + len(options):]
    left = sorted(name for name in os.environ if name.startswith(("SLURM_", "SRUN_")))
    open("srun", "w").write("\\n".join([*options, *left]))
    tasks = [subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(task)}) for task in range(2)]
    sys.exit(max([task.wait() for task in tasks]))
"""


class Slurm:
    """Executes batch scripts, with a stand-in for srun.

    Args:
        folder: where the launch is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        srun = folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f"#!{sys.executable}\n{textwrap.dedent(SRUN)}")
        srun.chmod(0o755)

    def run(self, script: str, **variables: str) -> int:
        """Execute a batch script from another directory than that of the launch, and return its exit code."""
        environ = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "1", **variables}
        done = subprocess.run(
            ["bash", "-c", script], cwd="/", env=environ, stderr=subprocess.PIPE, text=True, check=False
        )
        assert done.stderr == ""
        return done.returncode

    def heard(self) -> list[str]:
        """Return the options of srun and the variables that it has found; none: it was not called."""
        path = self.folder / "srun"
        return path.read_text().splitlines() if path.exists() else []


@pytest.mark.smoke
@pytest.mark.parametrize("nodes", [Nodes(), Nodes(2, 2)], ids=["one node", "two nodes"])
def test_every_argument_arrives_as_it_is(tmp_path: Path, nodes: Nodes) -> None:
    slurm = Slurm(tmp_path)
    for words in ([*NASTY], *words_by_chance()):
        assert slurm.run(sbatch(plan(tmp_path, words, nodes), SITE)) == 0
        for task in range(nodes.most):
            given = recorded(tmp_path, task)
            assert given[given.index("--") :] == ["--", "train.py", *words]


def test_the_launcher_takes_the_place_of_the_script_and_so_do_its_exit_codes(tmp_path: Path) -> None:
    launch = plan(tmp_path)
    Path(launch.command.executable).write_text("#!/bin/bash\nexit 138\n")
    assert Slurm(tmp_path).run(sbatch(launch, SITE)) == 138
    assert sbatch(launch, SITE).split("\n\n")[-1].startswith("exec ")


def test_a_directory_with_any_name_is_where_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "it's $HOME\n#2"
    folder.mkdir()
    assert Slurm(tmp_path).run(sbatch(plan(folder, ["x"]), SITE)) == 0
    assert recorded(folder)[-1] == "x"


def test_one_node_runs_without_srun_and_goes_on_in_its_directory(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    assert slurm.run(sbatch(plan(tmp_path), SITE)) == 0
    settings = ["run", "nodes=2", "requeue=auto", "hydra.run.dir=outputs/now", "hydra.launcher.resume=true"]
    assert recorded(tmp_path) == [*settings, "--", "train.py"]
    assert slurm.heard() == []


def test_two_nodes_meet_at_the_first_one_and_nothing_left_behind_spoils_the_step(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    spoiling = {"SLURM_LABELIO": "1", "SLURM_EXPORT_ENV": "NONE", "SLURM_GPUS": "1", "SRUN_CPUS_PER_TASK": "1"}
    assert slurm.run(sbatch(plan(tmp_path, nodes=Nodes(2, 2)), SITE), **spoiling) == 0
    assert "rendezvous=environment" in recorded(tmp_path)
    said = slurm.heard()
    assert {"--ntasks-per-node=1", "--overlap", "--gpus-per-node=2", "--export=ALL", "--wait=0"} <= set(said)
    assert [word for word in said if word.startswith("S")] == ["SLURM_JOB_ID"]


def test_an_endpoint_that_is_set_is_left_alone(tmp_path: Path) -> None:
    assert "rendezvous" not in sbatch(replace(plan(tmp_path, nodes=Nodes(2, 2)), has_endpoint=True), SITE)


def test_a_job_that_grows_asks_for_a_range_and_survives_a_node(tmp_path: Path) -> None:
    script = sbatch(plan(tmp_path, nodes=Nodes(2, 4)), SITE)
    assert {"#SBATCH --nodes=2-4", "#SBATCH --no-kill", "    --no-kill \\"} <= set(script.splitlines())


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    site = replace(SITE, mem="64G", time="04:00:00", partition="gpu,long", account="a", qos="q", constraint="a100&ib")
    site = replace(site, setup=("module load x",))
    lines = sbatch(plan(tmp_path), site).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "not tried on your cluster" in lines[1]
    assert {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")} == {
        "mem=64G",
        "time=04:00:00",
        "partition=gpu,long",
        "account=a",
        "qos=q",
        "job-name=train",
        "constraint=a100&ib",
        "nodes=1",
        "ntasks-per-node=1",
        "cpus-per-task=8",
        "gpus-per-node=2",
        "signal=B:USR1@78",
        "open-mode=append",
        "requeue",
    }
    assert "module load x" in lines
    assert "gpus" not in sbatch(plan(tmp_path), replace(SITE, gpus_per_node=0))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("nodes", [Nodes(), Nodes(2, 2)], ids=["one node", "two nodes"])
def test_shellcheck_finds_nothing(tmp_path: Path, nodes: Nodes) -> None:
    script = sbatch(plan(tmp_path, [*NASTY], nodes), SITE)
    # What looks like a variable in single quotes is for Hydra, or for the program.
    checked = ["shellcheck", "--shell=bash", "--exclude=SC2016", "-"]
    done = subprocess.run(checked, input=script, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_a_launcher_that_shall_not_go_back_into_the_queue_does_not(tmp_path: Path) -> None:
    launch = plan(tmp_path)
    never = replace(launch, command=replace(launch.command, arguments=("requeue=never", *launch.command.arguments)))
    assert "requeue=auto" not in sbatch(never, SITE)
    assert "#SBATCH --no-requeue" in sbatch(never, SITE).splitlines()
    assert "#SBATCH --requeue" in sbatch(replace(never, requeue="auto"), SITE).splitlines()
