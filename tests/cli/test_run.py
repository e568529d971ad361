"""`elastic-hydra run`, as a user starts it: scripts, modules and programs in workers."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal import reader
from elastic_hydra.journal.events import WorkersStarted
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import Running

COMMAND = [sys.executable, "-c", "import sys; from elastic_hydra.cli.main import main; sys.exit(main())", "run"]

SCRIPT = r"""
    import json, logging, os, sys
    before = [name for name in ("torch", "json.tool") if name in sys.modules]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("log of rank %s", os.environ["RANK"])
    here = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    line = input() if here["RANK"] == "0" else ""
    said = json.dumps([here, sys.argv, __name__, before, line])
    os.write(1, f"{said}\n".encode())  # at once: all ranks write into one pipe
"""


class Project:
    """A folder in which a user works."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def run(self, *words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        return self.execute([*COMMAND, *words], stdin, **environ)

    def execute(self, command: Sequence[str], stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")} | environ
        return subprocess.run(
            command, cwd=self.folder, env=env, input=stdin, capture_output=True, text=True, check=False
        )

    def record(self) -> reader.Record:
        """Return what is recorded of the only run, or sweep."""
        (path,) = self.folder.glob("*/*/*/journal.jsonl")
        return reader.read(path)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.system
@pytest.mark.smoke
def test_a_script_runs_as_under_torchrun_and_starts_warm(project: Project) -> None:
    project.write("train.py", SCRIPT)
    words = ["preload=[json.tool]", "--", "train.py", "--lr", "0.1", "a b"]
    done = project.run(*words, stdin="typed\n", PET_NPROC_PER_NODE="2")
    assert done.returncode == 0, done.stderr
    argv, warm = ["train.py", "--lr", "0.1", "a b"], ["torch", "json.tool"]
    assert sorted(map(json.loads, done.stdout.splitlines()), key=lambda said: said[0]["RANK"]) == [
        [{"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, argv, "__main__", warm, "typed"],
        [{"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, argv, "__main__", warm, ""],
    ]
    assert {"log of rank 0", "log of rank 1"} <= set(done.stderr.splitlines())  # as the script's own logging says it
    record = project.record()
    assert (record.task, record[0].state) == ("train", "finished")
    assert [event.num for _, event in Lines(record.path) if isinstance(event, WorkersStarted)] == [0]


@pytest.mark.system
def test_a_failed_script_ends_the_command_with_1_and_goes_on_by_the_command_that_it_prints(project: Project) -> None:
    project.write(
        "train.py", "import os\nif not os.path.exists('data'): raise ValueError('no data')\nprint('trained')\n"
    )
    project.write("team/big.yaml", "defaults: [elastic, override retry: restart, _self_]\nretry: {max_restarts: 1}\n")
    failed = project.run("--config-dir", "team", "--config-name", "big", "logs=console", "--", "train.py", "resume=x")
    assert failed.returncode == 1
    assert failed.stderr.count("ValueError: no data\n") == 2  # it was started twice
    assert "Error executing job" not in failed.stderr
    command = failed.stderr.splitlines()[-1]
    assert command.endswith(" resume=true -- train.py resume=x")
    project.write("data", "")
    again = project.execute(shlex.split(command))
    assert (again.returncode, again.stdout) == (0, "trained\n"), again.stderr
    assert project.record()[0].state == "finished"


@pytest.mark.system
def test_launch_settings_are_swept_and_the_fastest_is_told(project: Project) -> None:
    project.write("pkg/__init__.py", "")
    project.write("pkg/train.py", "")
    done = project.run("-m", "nproc_per_node=2,1", "--", "-m", "pkg.train")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert re.search(r"^elastic-hydra: fastest: nproc_per_node=[12] \(", done.stderr, re.MULTILINE)
    assert [project.record()[num].state for num in (0, 1)] == ["finished", "finished"]


@pytest.mark.system
def test_any_program_may_run_and_its_exit_code_counts(project: Project) -> None:
    # The rank that fails has the other one stopped, so it waits until that one has spoken.
    says = "echo $RANK; touch said$RANK; until [ -e said0 ]; do sleep 0.01; done; exit $RANK"
    done = project.run("nproc_per_node=2", "--", "bash", "-c", says)
    assert done.returncode == 1
    assert sorted(done.stdout.split()) == ["0", "1"]
    assert "rank 1 ended with exit code 1" in done.stderr


@pytest.mark.system
def test_an_app_of_hydra_s_runs_in_workers_that_are_forks_of_one(project: Project) -> None:
    project.write(
        "app.py",
        """
        import hydra

        @hydra.main(version_base=None, config_path=None)
        def main(cfg):
            print(cfg.x)

        main()
        """,
    )
    done = project.run("--", "app.py", "+x=3", "hydra.run.dir=out")
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert (project.folder / "out" / "app.log").exists()


@pytest.mark.system
def test_a_signal_reaches_the_program_and_is_the_exit_code(project: Project) -> None:
    program = "trap 'echo told; exit 1' TERM; echo there; while :; do sleep 0.1; done"
    command = [*COMMAND, "hydra.run.dir=out", "--", "bash", "-c", program]
    running = Running(command, project.folder, project.folder / "out", {})
    try:
        running.wait_for("there")
        running.signal(15)
        running.wait_for("told")
        assert running.finish().returncode == 143
        assert running.survivors() == []
    finally:
        running.kill()


@pytest.mark.system
def test_keys_are_named_as_they_are_written_here(project: Project) -> None:
    project.write("train.py", "")
    wrong = ["nproc_per_node=0", "retry.max_restarts=-1", "resources.jobs_per_gpu=0", "hosts.max=0"]
    refused = project.run(*wrong, "--", "train.py")
    assert refused.returncode == 2
    assert sorted(refused.stderr.splitlines()) == [
        "elastic-hydra: hosts.max=0: must be 1 or more",
        "elastic-hydra: nproc_per_node=0: must be 1 or more, or one of auto, cpu, gpu",
        "elastic-hydra: resources.jobs_per_gpu=0: must be 1 or more",
        "elastic-hydra: retry.max_restarts=-1: must be 0 or more",
    ]
    assert list(project.folder.iterdir()) == [project.folder / "train.py"]


MISTAKES = {
    "nodes=1 train.py": "-- is missing between the settings and the program: elastic-hydra run nodes=1 -- train.py",
    "nodes=1": "-- is missing between the settings and the program: elastic-hydra run nodes=1 -- train.py",
    "--nproc_per_node=2 -- train.py": "--nproc-per-node=2: torchrun's flags are KEY=VALUE here; `elastic-hydra "
    "from-torchrun` translates them",
    "-m nproc_per_node=1,2 --cfg": "--cfg prints the settings of one run: leave -m out, and give each key one value",
    "=2 -- train.py": "=2: the key is missing: write KEY=VALUE",
    "--": "there is no program behind --: add a script, -m and a module, or another program",
    "-- -m": "-m: the module is missing behind it: -m package.module",
    "-- nix.py": "nix.py: there is no such script in {here}: correct its path",
    "-- nixda": "nixda: there is no such program: correct its name or path",
    "nodes=1 train.py --lr 0.1": "--lr: run has no such flag; a program and its flags stand behind --: elastic-hydra "
    "run nproc_per_node=2 -- train.py --lr 0.1",
    "-- ./text": "./text: may not be executed: chmod +x, or put python before a script",
    "-- program": "program: is not on PATH: write ./program for the one in this directory",
    "-- -m nixda.x": "-m nixda.x: there is no module nixda here or installed: start in its folder",
    "--config-dir nix -- script.py": "--config-dir nix: there is no such folder: correct its path",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_said_in_one_line(
    words: str, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("script.py", "")
    project.write("text", "")
    project.write("program", "")
    (project.folder / "program").chmod(0o700)
    monkeypatch.chdir(project.folder)
    assert main(["run", *words.split()]) == 2
    assert capsys.readouterr().err == f"elastic-hydra: {MISTAKES[words].format(here=project.folder)}\n"
