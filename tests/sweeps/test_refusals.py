"""What is refused before a sweep starts, and what is said when the launcher is selected in vain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hydra
import pytest

pytestmark = pytest.mark.system

APP = """
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    print("RAN", cfg.x)

if __name__ == "__main__":
    main()
"""
RUNS_OF_THE_APP = '''
"""Run the app once for each override, in forks of one interpreter, and print the exit codes."""
import os, runpy, sys
import hydra, elastic_hydra.sweeps.sweep

for number, override in enumerate(sys.argv[1:]):
    if not (pid := os.fork()):
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = ["app.py", "-m", override]
        runpy.run_path("app.py", run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
'''
CONFIG = "defaults:\n  - _self_\n  - optional experiment: null\n  - override hydra/launcher: elastic\nx: 1\nn: 1\n"
EXPERIMENT = "# @package _global_\nhydra:\n  launcher:\n    {}\n"
OWN_LAUNCHER = "_target_: hydra_plugins.elastic_hydra_launcher.launcher.ElasticLauncher\nnproc_per_node: 2\n"
RANKS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return made(tmp_path)


def made(folder: Path) -> Path:
    """Make an app in a folder."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "hydra" / "launcher").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / "conf" / "config.yaml").write_text(CONFIG)
    return folder


def write(app: Path, name: str, text: str) -> None:
    (app / "conf" / f"{name}.yaml").write_text(text)


def run(app: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "app.py", *words]
    return subprocess.run(
        command, cwd=app, env={**os.environ, **environ}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


REFUSED = {
    "hydra.launcher.parallel=many": ["hydra.launcher.parallel=many: ", "1 or more, or auto"],
    "hydra.launcher.parallel=${nope}": ["hydra.launcher.parallel=${nope}: ", "'nope' not found"],
    "hydra.launcher.nproc_per_node=${nope}": ["hydra.launcher.nproc_per_node=${nope}: ", "'nope' not found"],
    "hydra.launcher.watch.time_limit=${nope}": ["hydra.launcher.watch.time_limit=${nope}: ", "'nope' not found"],
    "hydra.sweep.dir=${nope}": ["hydra.sweep.dir=${nope}: ", "'nope' not found"],
    "hydra.sweep.subdir=${nope}": ["hydra.sweep.subdir=${nope}: ", "'nope' not found"],
    "hydra.job_logging.handlers.file.filename=${nope}": ["hydra.job_logging.handlers.file.filename: "],
    "hydra.sweep.dir=/proc/here": ["hydra.sweep.dir=/proc/here: ", "nothing can be written in /proc"],
    "hydra.sweep.dir=app.py/here": ["hydra.sweep.dir=app.py/here: ", "in the way"],
    "hydra.sweep.subdir=/proc/here": ["hydra.sweep.subdir=/proc/here: ", "nothing can be written in /proc"],
    f"hydra.sweep.subdir=a/{'b' * 300}": ["hydra.sweep.subdir=a/bbb", "File name too long"],
    "hydra.launcher.logs.dir=/proc/here": ["hydra.launcher.logs.dir=/proc/here: ", "nothing can be written"],
    "hydra.launcher.retry.only_on=[RuntimeEror]": ["only_on=RuntimeEror: ", "did you mean RuntimeError?"],
    "hydra.launcher.resources.gpus_per_worker=99": ["resources.gpus_per_worker=99: ", "can never run"],
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Exit code, standard output and standard error of the app with each override."""
    folder = made(tmp_path_factory.mktemp("app"))
    (folder / "runs.py").write_text(RUNS_OF_THE_APP)
    command = [sys.executable, "-W", "ignore", "runs.py", *REFUSED]
    codes = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return {
        override: (int(code), (folder / f"{number}.out").read_text(), (folder / f"{number}.err").read_text())
        for number, (override, code) in enumerate(zip(REFUSED, codes, strict=True))
    }


@pytest.mark.timeout(900)  # the first of these runs the app for all of them
@pytest.mark.parametrize("override", REFUSED)
def test_bad_input_is_refused_with_its_key_and_without_a_traceback(
    refusals: dict[str, tuple[int, str, str]], override: str
) -> None:
    code, output, errors = refusals[override]
    assert code == 2, errors
    assert all(word in errors for word in REFUSED[override]), errors
    assert "Traceback" not in errors
    assert "RAN" not in output


@pytest.mark.smoke
def test_what_is_wrong_with_keys_of_the_sweep_and_of_its_jobs_is_said_at_once(app: Path) -> None:
    done = run(
        app, "-m", *(f"hydra.launcher.{key}" for key in ("start_method=worm", "nodes=4:2", "retry.max_restarts=-1"))
    )
    assert done.returncode == 2, done.stderr
    keys = [line.removeprefix("hydra.launcher.").partition(":")[0] for line in done.stderr.splitlines()]
    assert sorted(keys) == ["nodes=4", "retry.max_restarts=-1", "start_method=worm"]


@pytest.mark.parametrize("key", ["parallel", "max_failures", "stagger", "numa.reserve_cores"])
def test_experiments_that_differ_in_what_holds_for_the_whole_sweep_are_refused_with_all_values(
    app: Path, key: str
) -> None:
    group, _, name = key.rpartition(".")
    for experiment, value in (("a", 2), ("b", 3)):
        text = f"{group}: {{{name}: {value}}}" if group else f"{name}: {value}"
        write(app, f"experiment/{experiment}", EXPERIMENT.format(text))
    done = run(app, "-m", "experiment=a,b")
    assert done.returncode != 0
    assert "RAN" not in done.stdout
    if hydra.__version__.startswith("1.3."):  # later ones refuse it themselves
        assert f"hydra.launcher.{key}=" in done.stderr
        assert all(word in done.stderr for word in ("2.0" if key == "stagger" else "2", "experiment=a", "experiment=b"))


def test_what_holds_for_the_whole_sweep_cannot_follow_a_swept_key(app: Path) -> None:
    done = run(app, "-m", "n=1,4", "hydra.launcher.parallel=${n}")
    assert done.returncode == 2
    assert "hydra.launcher.parallel=1: holds for the whole sweep, but is 4 in job #1 (n=4)" in done.stderr


@pytest.mark.parametrize(("written", "refused"), [("1:2", True), ('"1:2"', False), ("62", False)])
def test_a_range_of_nodes_that_yaml_has_made_a_number_of_is_refused_with_its_file(
    app: Path, written: str, refused: bool
) -> None:
    groups = "rendezvous: {backend: c10d, endpoint: 'localhost:0'}"
    write(app, "config", CONFIG + f"hydra:\n  launcher:\n    nodes: {written}\n    {groups}\n")
    done = run(app, "-m")
    assert done.returncode == 2  # the port is refused anyway
    assert ("an unquoted 1:2 as 62" in done.stderr and "config.yaml" in done.stderr) is refused, done.stderr


# --- launcher files of one's own ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine", "elastic"])
def test_a_launcher_file_of_the_app_s_own_works_and_may_hide_ours(app: Path, name: str) -> None:
    write(app, f"hydra/launcher/{name}", OWN_LAUNCHER)
    done = run(app, "-m", f"hydra/launcher={name}")
    assert done.returncode == 0, done.stderr
    assert "each with 2 workers" in done.stdout
    assert "RAN 1" in done.stdout


def test_a_launcher_file_that_extends_ours_can_choose_profiles_and_be_overridden(app: Path) -> None:
    defaults = "defaults:\n  - elastic\n  - override retry: transient\n  - _self_\n"
    write(app, "hydra/launcher/mine", defaults + "nproc_per_node: 2\n")
    shown = run(app, "hydra/launcher=mine", "hydra.launcher.parallel=3", "--cfg", "hydra", "-p", "hydra.launcher")
    assert shown.returncode == 0, shown.stderr
    for line in ("nproc_per_node: 2", "parallel: 3", "  - transient"):
        assert line in shown.stdout


def test_an_unknown_key_of_such_a_file_is_refused_with_the_nearest(app: Path) -> None:
    write(app, "hydra/launcher/mine", OWN_LAUNCHER + "max_restart: 2\nparalel: 2\n")
    done = run(app, "-m", "hydra/launcher=mine")
    assert done.returncode == 2
    assert "hydra.launcher.paralel=2: there is no such key (did you mean parallel?)" in done.stderr
    assert "hydra.launcher.max_restart=2" in done.stderr


# --- selected in vain --------------------------------------------------------------------------------------------


def test_without_multirun_it_says_once_that_the_launcher_is_not_used(app: Path) -> None:
    done = run(app)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hydra/launcher=elastic is not used") == 1
    assert "@elastic_hydra.main" in done.stdout
    assert "add -m" in done.stdout
    assert "is not used" not in run(app, "hydra/launcher=basic").stdout


@pytest.mark.smoke
def test_under_torchrun_it_says_to_start_without_it(app: Path) -> None:
    single, sweep = run(app, **RANKS), run(app, "-m", **RANKS)
    assert "RANK is set" in single.stdout
    assert "RAN 1" in single.stdout  # what torchrun was started for
    assert sweep.returncode == 2
    assert "RANK is set (0)" in sweep.stderr
    assert "without torchrun" in sweep.stderr
    assert "is not used" not in run(app, **{**RANKS, "RANK": "1"}).stdout  # once, not once per rank


def test_the_schema_is_in_no_help_text(app: Path) -> None:
    write(app, "config", "x: 1\n")
    for option in ("--help", "--hydra-help"):
        assert "elastic_hydra" not in run(app, option).stdout
