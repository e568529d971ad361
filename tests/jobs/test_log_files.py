"""The job logging of a job with several processes: who writes which file, and what stays as the user has it."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.jobs.log_files import check_log_files, for_rank
from tests.helpers.apps import App

BODY = """
    for number in range(20):
        log.warning("line %s of rank %s", number, os.environ["RANK"])
"""


def of_rank_1(handler: dict[str, Any], output_dir: Path, level: str = "OFF") -> dict[str, Any]:
    config = OmegaConf.create({"version": 1, "handlers": {"one": handler}})
    made: Any = OmegaConf.to_container(for_rank(config, 1, level, str(output_dir)))
    return dict(made["handlers"]["one"])


@pytest.mark.parametrize("key", ["filename", "path", "log_file", "file_path", "logfile"])
def test_whatever_a_handler_calls_its_file_no_two_ranks_share_it(key: str, tmp_path: Path) -> None:
    made = of_rank_1({"class": "theirs.Handler", key: str(tmp_path / "app.log")}, tmp_path)
    assert made[key] == str(tmp_path / "app.rank1.log")
    assert "level" not in made


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("/dev/null", "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2", str(tmp_path / "pipe"), str(tmp_path)):
        assert of_rank_1({"class": "logging.FileHandler", "filename": name}, tmp_path)["filename"] == name


def test_a_file_whose_folder_takes_no_other_has_those_of_the_ranks_in_the_job_s_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "var").mkdir()
    name = tmp_path / "var" / "app.log"
    name.touch()
    real = os.access  # permission bits do not bind root
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "var" and real(path, mode))
    made = of_rank_1({"class": "logging.FileHandler", "filename": str(name)}, tmp_path / "0")
    assert made["filename"] == str(tmp_path / "0" / "app.rank1.log")


@pytest.mark.parametrize("name", ["logging.StreamHandler", "rich.logging.RichHandler", "theirs.Console"])
@pytest.mark.parametrize(
    ("own", "level", "made"),
    [
        (None, "OFF", logging.CRITICAL + 1),
        (None, "WARNING", logging.WARNING),
        ("ERROR", "WARNING", logging.ERROR),
        ("DEBUG", "WARNING", logging.WARNING),
    ],
)
def test_a_handler_without_a_file_is_silent_below_the_level_whatever_its_class(
    name: str, own: str | None, level: str, made: int, tmp_path: Path
) -> None:
    handler = {"class": name} if own is None else {"class": name, "level": own}
    assert of_rank_1(handler, tmp_path, level)["level"] == made


@pytest.mark.parametrize(
    ("name", "words"),
    [("/nowhere/app.log", "there is no folder /nowhere"), ("/proc/app.log", "nothing can be written")],
)
def test_a_file_that_cannot_be_opened_is_refused_with_its_key(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check_log_files({"handlers": {"file": {"filename": name}}}, tmp_path / "0", "hydra.job_logging")
    assert f"hydra.job_logging.handlers.file.filename={name}: " in str(caught.value)
    for fine in ("/dev/null", str(tmp_path / "0" / "app.log"), "app.log"):
        check_log_files({"handlers": {"file": {"filename": fine}}}, tmp_path / "0", "hydra.job_logging")


@pytest.mark.system
def test_jobs_that_log_into_devices_run_and_the_device_stays_one(tmp_path: Path) -> None:
    app = App(tmp_path, BODY)
    finished = app.run("hydra.launcher.nproc_per_node=2", "hydra.job_logging.handlers.file.filename=/dev/null")
    assert finished.returncode == 0, finished.output
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert not Path("/dev/null.rank1").exists()


@pytest.mark.system
def test_a_file_that_is_to_be_truncated_is_so_once_and_then_has_the_lines_of_all(tmp_path: Path) -> None:
    fails_once = """
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        Path(f"wrote.{os.environ['RANK']}").touch()
        while not (Path("wrote.0").exists() and Path("wrote.1").exists()):
            time.sleep(0.01)  # the first to fail has the other stopped
        raise OSError("again")
    """
    app = App(tmp_path, BODY + fails_once, before="import time\nfrom pathlib import Path")
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    for name in ("app.log", "app.rank1.log"):
        (tmp_path / "sweep" / "0" / name).write_text("of an earlier sweep\n")
    words = ["hydra.launcher.nproc_per_node=2", "hydra.launcher.retry.max_restarts=1"]
    finished = app.run(*words, "+hydra.job_logging.handlers.file.mode=w")
    assert finished.returncode == 0, finished.output
    for rank, name in ((0, "app.log"), (1, "app.rank1.log")):
        text = (tmp_path / "sweep" / "0" / name).read_text()
        assert "earlier" not in text
        assert "\0" not in text
        assert text.count(f"line 0 of rank {rank}") == 2  # of both starts of the group
        assert text.count(f"line 19 of rank {rank}") == 2
    assert "again" in (tmp_path / "sweep" / "0" / "app.log").read_text()  # the agent's line about the failure
