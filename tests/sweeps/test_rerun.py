"""What a sweep that has not finished says about how to go on: it works, whatever the directory is called."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.sweeps.rerun import how_to_go_on, rerunning_command, resuming_command
from tests.helpers.apps import App

NAMES = [
    *"=,([{'\";&!#~)]}|<>?*^%@:+-\\`$",
    *(
        "a b",
        " a",
        "a ",
        "a\tb",
        "a\nb",
        "é",
        "日本",
        "\\'",
        "a\\\\'b",
        "a\\",
        "'a'",
        '"a"',
        "null",
        "1",
        "x=1,2",
        "~/a",
        "a/b",
    ),
]


@pytest.mark.parametrize(
    ("argv", "orig_argv", "command"),
    [
        (["app.py", "-m", "x=1,2"], ["python", "app.py", "-m", "x=1,2"], "python app.py -m x=1,2"),
        (["app.py", "x=1", "--multirun"], ["python", "app.py", "x=1", "--multirun"], "python app.py --multirun x=1"),
        (["/p/app.py", "-m", "x=a b"], ["python", "-m", "p.app", "-m", "x=a b"], "python -m p.app -m 'x=a b'"),
        (["app.py", "x=1"], ["python", "app.py", "x=1"], "python app.py -m x=1"),
        (["-c", "-m", "x=1"], ["python", "-c", "main()", "-m", "x=1"], "python -c 'main()' -m x=1"),
        (
            ["elastic-hydra", "run", "-m", "numa=a,b", "--", "t.py", "-m", "x"],
            ["python", "elastic-hydra", "run", "-m", "numa=a,b", "--", "t.py", "-m", "x"],
            "python elastic-hydra run -m numa=a,b -- t.py -m x",
        ),
        (
            ["app.py", "-cn", "b", "-m", "x=1"],
            ["python", "app.py", "-cn", "b", "-m", "x=1"],
            "python app.py -m -cn b x=1",
        ),
        (
            ["app.py", "-m", "++hydra.sweep.dir=a", "+hydra.launcher.resume=all", "x=1"],
            ["python", "app.py", "-m", "++hydra.sweep.dir=a", "+hydra.launcher.resume=all", "x=1"],
            "python app.py -m x=1",
        ),
    ],
)
def test_the_command_that_runs_the_rest(argv: list[str], orig_argv: list[str], command: str) -> None:
    overrides = [word for word in argv[1:] if "=" in word]
    said = how_to_go_on(Path("/out"), [*overrides, "hydra.mode=MULTIRUN"], argv, orig_argv)
    rest = " hydra.sweep.dir=/out hydra.launcher.resume=true"
    whole = command.replace(" --", f"{rest} --") if " -- " in command else command + rest
    assert said == f"To run what has not finished:\n{whole}"


def test_what_is_added_takes_the_place_of_what_was_given() -> None:
    given = ["-m", "x=1,2", "hydra.launcher.parallel=2"]
    added = ["hydra.launcher.parallel=4", "hydra.launcher.resume=failed"]
    command = resuming_command(["python", "app.py"], given, Path("/out"), added)
    assert shlex.join(command) == f"python app.py -m x=1,2 {' '.join(added)} hydra.sweep.dir=/out"


BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


@pytest.mark.parametrize(
    ("sweeper", "resume", "rest"),
    [
        ("", True, "hydra.sweeper.params=null hydra.sweep.dir=/out hydra.launcher.resume=true"),
        (BASIC, False, "hydra.sweeper.params=null hydra.sweep.dir=/out"),
        (
            OPTUNA,
            False,
            "hydra.sweeper.n_trials=1 hydra.sweeper.n_jobs=1 hydra.sweeper.storage=null hydra.sweep.dir=/out",
        ),
    ],
)
def test_the_command_that_runs_one_job_again(sweeper: str, resume: bool, rest: str) -> None:
    given = [
        "-cn", "b", "-m", "x=1,2", "hydra/launcher=elastic", "+hydra.sweep.dir=old", "hydra.sweeper.n_trials=9", "~y",
        "hydra.launcher.resume=all",
    ]  # fmt: skip
    began = SweepBegan(command=["python", "app.py", *given], program=["python", "app.py"], sweeper=sweeper)
    command = rerunning_command(began, ["x=1", "~y"], Path("/out"), resume=resume)
    trials = "" if sweeper == OPTUNA else " hydra.sweeper.n_trials=9"
    assert shlex.join(command) == f"python app.py -m -cn b hydra/launcher=elastic{trials} x=1 '~y' {rest}"


def test_a_sweeper_that_hands_over_no_single_job_is_named() -> None:
    with pytest.raises(ConfigError, match=r"its sweeper is ax\.Sweeper, .*: x=1"):
        rerunning_command(SweepBegan(sweeper="ax.Sweeper"), ["x=1"], Path("/out"), resume=False)


def test_a_single_run_is_run_again_without_a_sweeper() -> None:
    command = ["python", "app.py", "x=1", "hydra/launcher=elastic", "hydra.run.dir=old"]
    began = SweepBegan(command=command, program=command[:2], sweeper="ax.Sweeper", single=True)
    again = rerunning_command(began, ["x=1"], Path("/out"), resume=True)
    assert shlex.join(again) == "python app.py hydra/launcher=elastic x=1 hydra.run.dir=/out hydra.launcher.resume=true"


@pytest.mark.parametrize(
    ("argv", "orig_argv", "overrides"),
    [
        (["app.py"], ["python", "app.py"], ["x=1"]),
        (["app.py", "-m", "x=1"], ["python", "other.py"], ["x=1"]),
        (["kernel.py", "-f", "k.json"], ["python", "-m", "kernel", "-f", "k.json"], []),
        ([""], ["python"], []),
        (["-"], ["python", "-"], []),
        (["pytest", "tests"], ["python", "-m", "pytest", "tests"], ["x=1"]),
    ],
)
def test_without_a_command_line_of_its_own_a_sweep_names_the_overrides(
    argv: list[str], orig_argv: list[str], overrides: list[str]
) -> None:
    said = how_to_go_on(Path("/a b"), overrides, argv, orig_argv)
    assert said.splitlines()[1:] == ["hydra.sweep.dir=/a b", "hydra.launcher.resume=true"]
    assert "with these two overrides" in said


@pytest.mark.parametrize(
    ("on_path", "said"), [("/env/bin", "elastic-hydra"), ("/other", "/env/bin/python /env/bin/elastic-hydra")]
)
def test_an_installed_command_is_named_as_it_is_typed(on_path: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"{on_path}/{name}")
    argv = ["/env/bin/elastic-hydra", "run", "numa=node", "--", "train.py"]
    _, command = how_to_go_on(Path("/out"), [], argv, ["/env/bin/python", *argv], single=True).splitlines()
    assert command == f"{said} run numa=node hydra.run.dir=/out hydra.launcher.resume=true -- train.py"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("argv", [["app.py", "-m"], ["notebook", "-f"]])
def test_hydra_reads_the_directory_as_it_is(name: str, argv: list[str]) -> None:
    _, _, said = how_to_go_on(Path("/x") / name, [], argv, ["python", *argv]).partition("\n")
    words = shlex.split(said)[-2:] if "app.py" in said else said.rsplit("\n", 1)
    directory, resume = OverridesParser.create().parse_overrides(words)
    assert resume.input_line == "hydra.launcher.resume=true"
    assert directory.key_or_group == "hydra.sweep.dir"
    assert OmegaConf.create({"dir": directory.value()}).dir == f"/x/{name}"


@pytest.mark.smoke
@pytest.mark.system
def test_the_printed_command_goes_on_with_the_sweep(tmp_path: Path) -> None:
    app = App(tmp_path, 'if not Path("mended").exists():\n    raise ValueError\n')
    name = "=,([{'\";&!#~ é \\ "
    quoted = name.replace("'", "\\'")
    failed = app.run(f"hydra.sweep.dir='{quoted}'", "+x=1,2", "hydra.sweep.subdir='${x}'")
    assert failed.returncode == 1, failed.output
    assert (tmp_path / name / "journal.jsonl").exists(), failed.output
    (tmp_path / "mended").touch()
    _, _, rest = failed.output.partition("To run what has not finished:\n")
    command = rest[: rest.index("hydra.launcher.resume=true")] + "hydra.launcher.resume=true"
    again = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=app.environment(), check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 finished" in again.stdout
