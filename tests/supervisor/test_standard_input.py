"""Rank 0 has the launcher's standard input: pipes and terminals reach it, as with one process of torchrun."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

APP = """
    import os, sys
    from elastic_hydra import LaunchConfig, elastic_launch

    def ask():
        return (input("name? "), sys.stdin.isatty()) if os.environ["RANK"] == "0" else (sys.stdin.read(), False)

    if __name__ == "__main__":
        if "RANK" in os.environ:
            ask()
        else:
            print(elastic_launch(LaunchConfig(1, 1, 2, start_method=sys.argv[1], max_restarts=0), ask)(), flush=True)
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    return [sys.executable, str(tmp_path / "app.py")]


@pytest.mark.parametrize("start_method", ["warm", "forkserver", "spawn"])
def test_a_pipe_reaches_rank_0(start_method: str, command: list[str]) -> None:
    ended = subprocess.run([*command, start_method], input="Ada\n", capture_output=True, text=True, check=False)
    assert ended.stdout.endswith("{0: ('Ada', False), 1: ('', False)}\n"), ended.stderr


def test_a_terminal_reaches_rank_0_although_that_is_in_a_session_of_its_own(command: list[str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], [*command, "warm"])
    try:
        said = b""
        while b"name? " not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, b"Ada\n")
        while b"}" not in said:
            said += os.read(terminal, 1000)
        assert b"{0: ('Ada', True), 1: ('', False)}" in said
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
