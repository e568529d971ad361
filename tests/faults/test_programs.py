"""The fault matrix for workers that are programs: Python scripts, in warm workers or not, and others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.test_matrix import WORKER
from tests.helpers.groups import Launched

pytestmark = pytest.mark.system

PROGRAM = str(Path(__file__).with_name("program.py"))
WARM, OWN = [sys.executable, PROGRAM], [sys.executable, "-B", PROGRAM]  # an option asks for a new interpreter
WAYS = pytest.mark.parametrize("command", [WARM, OWN], ids=["in a warm worker", "in an interpreter of its own"])
WATCHED = {"progress_limit": 1, "progress": ["cpu"], "action": "fail"}


def check(folder: Path, command: list[str], fault: str, kind: str, words: str) -> None:
    launched = Launched(folder)
    error = launched.fail(*command, f"rank1-running-{fault}", watch=WATCHED, redirects=3)
    (verdict,) = launched.verdicts
    assert (verdict.failure.kind.value, verdict.failure.rank) == (kind, 1), verdict
    assert words in verdict.failure.reason
    assert error.get_first_failure()[0] == 1


@pytest.mark.parametrize("fault", [fault for fault in WORKER if fault != "exit0"])
@WAYS
def test_what_a_script_dies_of_is_what_the_user_reads(command: list[str], fault: str, tmp_path: Path) -> None:
    check(tmp_path, command, fault, *WORKER[fault][1:])


@pytest.mark.parametrize(("fault", "code"), [("exit3", 3), ("SIGKILL", 137)])
def test_a_shell_s_words_about_what_it_runs_are_no_exception(fault: str, code: int, tmp_path: Path) -> None:
    below_a_shell = ["/bin/sh", "-c", f'{sys.executable} {PROGRAM} "$0"; exit $?']
    check(tmp_path, below_a_shell, fault, "exit", f"ended with exit code {code}")


@WAYS
def test_a_script_that_ends_with_exit_code_0_has_finished(command: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os\nos._exit(0)\n")
    assert Launched(tmp_path).run(*command[:-1], str(script)) == {0: None, 1: None}
