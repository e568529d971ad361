"""Where there is a view: on terminals that a person looks at, and that can be drawn on."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from elastic_hydra.live.terminal import is_watched
from elastic_hydra.live.view import View, view_of


def be_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have standard output be a terminal, and sys.stdout write to it; called by tests, since pytest sets it anew."""
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 1)
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(fileno=lambda: 1))


@pytest.mark.parametrize(
    ("environ", "watched"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "CI": ""}, True),
        ({"TERM": "xterm", "CI": "false"}, True),
        ({"TERM": "xterm", "CI": "true"}, False),
        ({"TERM": "xterm", "CI": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_the_environment_says_whether_anybody_looks(
    environ: dict[str, str], watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_terminal(monkeypatch)
    assert is_watched(environ) is watched


@pytest.mark.parametrize("other", [None, io.StringIO(), SimpleNamespace(fileno=lambda: 7)])
def test_a_terminal_that_is_not_the_apps_output_is_left_alone(other: object, monkeypatch: pytest.MonkeyPatch) -> None:
    be_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", other)
    assert not is_watched({"TERM": "xterm"})


def test_only_the_main_thread_has_a_view_since_it_alone_handles_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("CI", "")
    made: list[View] = []

    def make() -> None:
        made.append(view_of(tmp_path / "journal.jsonl", lambda: (2, ""), live=True))

    make()
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert [type(view) is View for view in made] == [False, True]


def test_a_pipe_and_a_terminal_without_size_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    be_terminal(monkeypatch)
    assert is_watched({"TERM": "xterm"})
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((0, 0)))
    assert not is_watched({"TERM": "xterm"})
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    assert not is_watched({"TERM": "xterm"})
