"""`elastic-hydra plan`, as a user calls it: a dry run here, or text for elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from elastic_hydra.cli.main import main
from elastic_hydra.journal import reader

COMMAND = [sys.executable, "-c", "import sys; from elastic_hydra.cli.main import main; sys.exit(main())", "plan"]
SBATCH = ("--render", "sbatch", "--gpus-per-node", "0", "--cpus-per-task", "4")
JOBSET = ("--render", "jobset", "--gpus-per-node", "8", "--image", "train:1", "--pvc", "data")
APP = """
    import sys
    import hydra

    print("an app may say something before Hydra does")

    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        print(cfg.text, flush=True)
        return cfg.lr

    if __name__ == "__main__":
        main()
"""
CONFIG = """
    defaults: [{override hydra/launcher: elastic}, _self_]
    lr: 0.1
    text: plain
    devices: 2
    hydra:
      launcher: {nproc_per_node: "${devices}"}
      sweep: {dir: "sweeps/${now:%Y}"}
"""


class Project:
    """A folder with an app, in which a user works."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "conf").mkdir()
        (folder / "conf" / "config.yaml").write_text(textwrap.dedent(CONFIG))
        (folder / "app.py").write_text(textwrap.dedent(APP))

    def plan(self, *words: str) -> str:
        """Return what the verb prints."""
        done = subprocess.run([*COMMAND, *words], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str) -> str:
        """Return why the verb does not do what it is told."""
        done = subprocess.run([*COMMAND, *words], cwd=self.folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr.removeprefix("elastic-hydra: ").removesuffix("\n")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def words_of(script: str) -> list[str]:
    """Return the arguments of the app in a batch script."""
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    return words[words.index("app.py") + 1 :]


@pytest.mark.system
@pytest.mark.smoke
def test_a_batch_script_runs_the_sweep_and_runs_it_once_only(project: Project) -> None:
    script = project.plan(*SBATCH, "app.py", "-m", "lr=0.1,0.2", "text='it\\'s $HOME'", "devices=1")
    folder = project.folder / "sweeps"
    ran = [subprocess.run(["bash", "-c", script], cwd="/", capture_output=True, text=True) for _ in range(2)]
    assert [done.returncode for done in ran] == [0, 0], ran[0].stderr
    assert [done.stdout.splitlines().count("it's $HOME") for done in ran] == [2, 0]
    (journal,) = folder.glob("*/journal.jsonl")
    record = reader.read(journal)
    assert [record[num].state for num in (0, 1)] == ["finished", "finished"]


@pytest.mark.system
def test_without_render_it_is_a_dry_run(project: Project) -> None:
    said = project.plan("app.py", "lr=0.1,0.2", "-m")
    assert "#1" in said
    assert "hydra.launcher.dry_run=true" not in said
    assert not list(project.folder.glob("sweeps/*/0"))


@pytest.mark.system
def test_what_the_settings_say_of_a_node_need_not_be_said_again(project: Project) -> None:
    each = ("hydra.launcher.resources.gpus_per_worker=2", "hydra.launcher.resources.cpus_per_worker=3")
    more = ("hydra.launcher.parallel=2", "hydra.launcher.resources.memory_per_job=1GB")
    script = project.plan("--render", "sbatch", "app.py", "-m", *each, *more, "lr=1,2")
    assert {"#SBATCH --gpus-per-node=8", "#SBATCH --cpus-per-task=12", "#SBATCH --mem=1908M"} <= set(
        script.splitlines()
    )
    assert words_of(script)[:4] == ["-m", *each, more[0]]
    assert re.fullmatch(r"hydra\.sweep\.dir=sweeps/\d{4}", words_of(script)[-2])


@pytest.mark.system
def test_what_differs_from_job_to_job_must_be_said(project: Project) -> None:
    launch = ("-m", "devices=1,2", "hydra.launcher.resources.gpus_per_worker=1")
    needs = ("--render", "sbatch", "--cpus-per-task", "4")
    assert project.refused(*needs, "app.py", *launch) == (
        "--render sbatch needs to know what no setting says: add --gpus-per-node (N, or 0: none)"
    )
    assert project.refused(*SBATCH, "app.py", *launch, "+n=1,2", "hydra.launcher.nodes=${n}") == (
        "hydra.launcher.nodes: is 1 for the first job and 2 for the last, and a text is for one number of nodes: write "
        "one for each, with only its jobs swept"
    )


@pytest.mark.system
def test_elastic_hydra_run_in_pods(project: Project) -> None:
    run = ("elastic-hydra", "run", "-m", "nodes=2", "numa=none,node", "nproc_per_node=8", "--", "app.py", "--lr", "1")
    manifest = yaml.safe_load(project.plan(*JOBSET, "--name", "lr", *run))
    (container,) = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    command = container["command"]
    assert command[:6] == ["elastic-hydra", "run", "-m", "nodes=2", "numa=none,node", "nproc_per_node=8"]
    assert command[6:10] == [
        "rendezvous=static",
        "rendezvous.endpoint=lr-node-0-0.lr:29500",
        "rendezvous.node_rank=${oc.env:JOB_COMPLETION_INDEX}",
        "rendezvous.id=lr",
    ]
    assert re.fullmatch(r"hydra\.sweep\.dir=/sweeps/multirun/[0-9-]+/[0-9-]+", command[10])
    assert command[11:] == ["hydra.launcher.resume=true", "--", "app.py", "--lr", "1"]


@pytest.mark.system
def test_an_app_that_cannot_say_its_configuration_is_refused_in_one_line(project: Project) -> None:
    refused = project.refused(*SBATCH, "app.py", "nix=1")
    assert refused.startswith("app does not say its configuration: Could not override 'nix'")
    assert refused.endswith("mend that first; `--cfg all` asks it")
    assert project.refused(*SBATCH, "elastic-hydra", "run", "nix=1", "--", "app.py") == (
        "nix: there is no such key; `elastic-hydra run --cfg` shows all keys"
    )
    (project.folder / "plain.py").write_text(
        textwrap.dedent(APP).replace('config_path="conf", config_name="config"', "")
    )
    assert project.refused(*SBATCH, "plain.py", "-m") == (
        "plain: its launcher is not the elastic one: add hydra/launcher=elastic"
    )
    (project.folder / "broken.py").write_text("import nixda\n")
    assert project.refused(*SBATCH, "broken.py", "-m") == (
        "broken does not say its configuration: ModuleNotFoundError: No module named 'nixda'; mend that first; "
        "`--cfg all` asks it"
    )


MISTAKES = {
    "": "COMMAND is missing: put the command that launches behind the options: elastic-hydra plan train.py -m …",
    "--render pbs app.py": "invalid value for '--render': 'pbs' is not one of 'sbatch', 'jobset', 'trainjob'; "
    "`elastic-hydra plan --help` shows the usage",
    "--time 1:00 app.py -m": "--time does not go with plan without --render: leave it out",
    "--render jobset --partition p app.py": "--partition does not go with --render jobset: leave it out",
    "--render sbatch --image p app.py": "--image does not go with --render sbatch: leave it out",
    "--render sbatch --mem 64GB app.py": "--mem 64GB: must be a number and a unit, K, M, G or T, as 64G",
    "--render sbatch --name it's app.py": '--name "it\'s": must be one word, without spaces and quotes',
    "--render sbatch nix.py": "nix.py: there is no such script in {here}: correct its path",
    "--render sbatch torchrun app.py": "torchrun: give a command of this package; `elastic-hydra from-torchrun` "
    "translates it",
    "--render sbatch srun python app.py": "srun: the text that is written says how to start the command: leave it out",
    "--render sbatch elastic-hydra status": "elastic-hydra status: only elastic-hydra run SETTINGS -- PROGRAM launches "
    "something: give that",
    "--render sbatch python": "python: there is no app behind it: add a script, or -m and a module",
    "--render sbatch python -c x": "-c: there is no app in a command of Python's: put it into a file",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_said_in_one_line(
    words: str, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert main(["plan", *words.split()]) == 2
    assert capsys.readouterr().err == f"elastic-hydra: {MISTAKES[words].format(here=project.folder)}\n"


def test_an_argument_that_is_no_text_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SBATCH, "app.py", os.fsdecode(b"text=\xff")]) == 2
    assert (
        capsys.readouterr().err
        == "elastic-hydra: 'text=\\udcff': is not UTF-8, and cannot stand in a text: rename it\n"
    )
