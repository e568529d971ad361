"""`elastic-hydra list`, and what a shell completes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from elastic_hydra.cli.main import cli, main
from elastic_hydra.journal.events import JobEnded, SweepBegan
from tests.cli.recorded import composed, record


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two sweeps and one whose journal is of a newer version."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("old", "new")):
        place = tmp_path / "multirun" / name
        began = SweepBegan(time=2000.0 + number, command=["python", "train.py", "-m", f"lr={name}"], dir=str(place))
        finished = JobEnded(num=0, state="finished", reason="")
        record(place, began, composed(place, 0, "lr=1"), composed(place, 11, "lr=2"), finished, begin=False)
        os.utime(place / "journal.jsonl", (2000 + number, 2000 + number))
    (tmp_path / "multirun" / "newer").mkdir()
    (tmp_path / "multirun" / "newer" / "journal.jsonl").write_text('{"event": "sweep", "version": "99.0"}\n')
    os.utime(tmp_path / "multirun" / "newer" / "journal.jsonl", (1000, 1000))
    return tmp_path


def test_all_sweeps_are_listed_the_newest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    heads, *rows = capsys.readouterr().out.splitlines()
    assert heads.split() == ["began", "directory", "state", "jobs", "command"]
    assert [row.split()[2] for row in rows[:2]] == ["multirun/new", "multirun/old"]
    assert "died" in rows[0]
    assert "1 not started, 1 finished" in rows[0]
    assert "python train.py -m lr=new" in rows[0]
    assert "unreadable" in rows[2]
    assert main(["list", "multirun", "-n", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"), [(["gone"], "gone: there is no such directory"), (["empty"], "no sweep below empty")]
)
def test_where_there_is_none_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (folder / "empty").mkdir()
    assert main(["list", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        ([], "l", ["list", "logs"]),
        (["logs"], "", ["multirun/new", "multirun/old", "multirun/newer"]),
        (["logs"], "multirun/o", ["multirun/old"]),
        (["report"], "multirun/o", ["multirun/old"]),
        (["export"], "multirun/o", ["multirun/old"]),
        (["explain", "multirun/old"], "", ["0", "11"]),
        (["stop", "multirun/old", "0"], "1", ["11"]),
        (["logs", "multirun/newer"], "", []),
        (["logs", "gone"], "", []),
    ],
)
def test_verbs_sweeps_and_jobs_are_completed(
    folder: Path, words: list[str], incomplete: str, offered: list[str]
) -> None:
    items = ShellComplete(cli, {}, "elastic-hydra", "_X").get_completions(words, incomplete)
    assert [item.value for item in items] == offered


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "explain" in said
    assert "..." not in said.partition("Commands:")[2], "each verb is told in a whole line"
