"""What follows the death of a real worker: a restart, or not, and why."""

from __future__ import annotations

import logging
import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import SignalException

from elastic_hydra.config.retry import RetryConfig
from tests.helpers.groups import Launched, misbehave, no_wait, rank, restarts, wait

pytestmark = pytest.mark.system


@pytest.fixture
def launched(tmp_path: Path) -> Launched:
    return Launched(tmp_path)


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["value", "connection", "memory", "exit 75", "SIGKILL", "SIGSEGV"])
def test_what_may_go_away_is_tried_again(how: str, launched: Launched) -> None:
    assert launched.run(misbehave, how, retry=no_wait()) == {0: 1, 1: 1}
    (verdict,) = launched.verdicts
    assert verdict.decision.again
    assert verdict.decision.reason == "restart 1 of 3"
    assert verdict.failure.rank == 0


@pytest.mark.smoke
@pytest.mark.parametrize(("how", "name"), [("import", "ModuleNotFoundError"), ("exit 2", "exit code 2")])
def test_a_mistake_is_not_tried_again(how: str, name: str, launched: Launched) -> None:
    error = launched.fail(misbehave, how, retry=no_wait())
    assert [verdict.decision.again for verdict in launched.verdicts] == [False]
    assert error.verdict is launched.verdicts[0]
    assert f"never_on has deterministic: {name} would happen again" in error.verdict.decision.reason


def test_without_a_policy_torchs_rule_holds(launched: Launched) -> None:
    launched.fail(misbehave, "import", 9, max_restarts=2)
    assert [verdict.decision.again for verdict in launched.verdicts] == [True, True, False]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("how", "settings", "again"),
    [
        ("value", {"only_on": ["transient"]}, False),
        ("SIGKILL", {"only_on": ["transient"]}, True),
        ("connection", {"only_on": ["OSError"]}, True),
        ("instantiated connection", {"only_on": ["transient"]}, True),
        ("exit 75", {"only_on": [75]}, True),
        ("exit 76", {"only_on": [75]}, False),
        ("SIGSEGV", {"never_on": ["SIGSEGV"]}, False),
        ("memory", {"never_on": ["oom"]}, False),
        ("value", {"min_uptime": 60}, False),
    ],
)
def test_rules_decide_about_real_deaths(how: str, settings: dict[str, Any], again: bool, launched: Launched) -> None:
    if again:
        launched.run(misbehave, how, retry=no_wait(**settings))
    else:
        launched.fail(misbehave, how, retry=no_wait(**settings))
    assert [verdict.decision.again for verdict in launched.verdicts] == [again]


def test_the_budget_ends(launched: Launched) -> None:
    launched.fail(misbehave, "value", 9, retry=no_wait(max_restarts=2))
    assert [verdict.decision.reason for verdict in launched.verdicts] == [
        "restart 1 of 2",
        "restart 2 of 2",
        "all 2 restarts are used up",
    ]


def test_restarts_of_an_earlier_agent_count(launched: Launched) -> None:
    launched.fail(misbehave, "value", 9, retry=no_wait(max_restarts=3), history=(time.monotonic(), time.monotonic()))
    assert [verdict.decision.reason for verdict in launched.verdicts] == [
        "restart 3 of 3",
        "all 3 restarts are used up",
    ]


def test_only_restarts_within_the_window_count(launched: Launched) -> None:
    earlier = (time.monotonic() - 1000,) * 5
    assert launched.run(misbehave, "value", 6, retry=no_wait(max_restarts=1, window=900), history=earlier) == {
        0: 6,
        1: 6,
    }


def test_backoff_grows_between_restarts(launched: Launched) -> None:
    start = time.monotonic()
    launched.run(misbehave, "value", 2, retry=no_wait(backoff=wait(0.3)))
    assert [verdict.decision.after for verdict in launched.verdicts] == [0.3, 0.6]
    assert time.monotonic() - start > 0.9


def test_a_signal_ends_the_wait_at_once(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_first_verdict(verdict: Any) -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()

    monkeypatch.setattr(launched, "verdicts", type("", (), {"append": staticmethod(at_first_verdict)}))
    with pytest.raises(SignalException):  # long before the wait is over: a test has less time than that
        launched.run(misbehave, "value", retry=no_wait(backoff=wait(3600.0)))


@pytest.mark.smoke
def test_a_decision_is_logged_once_with_its_reason(launched: Launched, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        launched.fail(misbehave, "value", 9, retry=no_wait(max_restarts=1))
    said = [record.getMessage() for record in caplog.records if "raised ValueError: nan" in record.getMessage()]
    assert len(said) == 2
    assert "; restarting the workers at once: restart 1 of 1" in said[0]
    assert "; not restarted: all 1 restarts are used up" in said[1]


# --- the root cause ----------------------------------------------------------------------------------------------


def in_a_collective(how: str) -> None:
    dist.init_process_group("gloo")
    dist.barrier()
    if rank() == 1:
        if how == "raises":
            raise KeyError("the cause")
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


@pytest.mark.smoke
@pytest.mark.parametrize(("how", "kind"), [("raises", "exception"), ("is killed", "signal")])
def test_ranks_that_lost_their_peer_are_told_from_the_cause(how: str, kind: str, tmp_path: Path) -> None:
    launched = Launched(tmp_path, workers=3)
    error = launched.fail(in_a_collective, how, retry=RetryConfig())
    assert error.verdict is not None
    assert (error.verdict.failure.kind.value, error.verdict.failure.rank) == (kind, 1)
    assert set(error.verdict.failure.echoes) <= {0, 2}
    assert error.get_first_failure()[0] == 1
    if how == "raises":
        assert type(error.__cause__) is KeyError


def leaves_the_others(how: str) -> None:
    dist.init_process_group("gloo")
    dist.barrier()
    if rank() == 1 and how == "returns":
        return
    if rank() == 1:
        sys.exit(None if how == "exits" else 0)
    dist.barrier()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("returns", "returned while other ranks still worked with it"),
        ("exits", "called sys.exit(0) at test_restarts.py:"),
        ("exits with 0", "called sys.exit(0) at test_restarts.py:"),
    ],
)
def test_a_rank_that_leaves_in_the_middle_is_the_cause_of_broken_connections(
    how: str, words: str, tmp_path: Path
) -> None:
    launched = Launched(tmp_path, workers=3)
    error = launched.fail(leaves_the_others, how, retry=RetryConfig(), keep_finished=False)
    assert error.verdict is not None
    failure = error.verdict.failure
    assert (failure.kind.value, failure.rank, failure.exitcode) == ("exit", 1, 0)
    assert words in failure.reason
    assert "died because of it" in failure.reason
    assert error.get_first_failure()[0] == 1


def log_and_exit(code: Any) -> None:
    try:
        raise ValueError("handled")
    except ValueError:
        logging.getLogger("app").exception("this epoch is lost")
    sys.exit(code)


@pytest.mark.parametrize("start_method", ["warm", "spawn"])
@pytest.mark.parametrize("code", [1, 75, "gave up"])
def test_an_exit_code_is_not_judged_by_an_exception_that_was_handled(
    code: Any, start_method: str, launched: Launched
) -> None:
    expected = 1 if isinstance(code, str) else code
    rules = no_wait(only_on=[expected], max_restarts=1)
    launched.fail(log_and_exit, code, retry=rules, redirects=3, start_method=start_method)
    assert [verdict.decision.again for verdict in launched.verdicts] == [True, False]
    assert launched.kinds == ["exit", "exit"]
    assert f"ended with exit code {expected}" in launched.verdicts[0].failure.reason


# --- programs ----------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("interpreter_options", [[], ["-B"]], ids=["in a warm worker", "in an interpreter of its own"])
@pytest.mark.parametrize(("line", "again"), [("import no_such_module", False), ("raise ValueError('x\\ny')", True)])
def test_a_scripts_exception_is_known(
    line: str, again: bool, interpreter_options: list[str], launched: Launched, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            {line}
        """)
    )
    arguments = [*interpreter_options, "-u", str(script)]
    if again:
        launched.run(sys.executable, *arguments, retry=no_wait(), redirects=3)
    else:
        launched.fail(sys.executable, *arguments, retry=no_wait(), redirects=3)
    (verdict,) = launched.verdicts
    assert verdict.decision.again is again
    assert verdict.failure.kind.value == "exception"
    assert verdict.failure.type_name == ("ValueError" if again else "ModuleNotFoundError")


@pytest.mark.parametrize("interpreter_options", [[], ["-B"]], ids=["in a warm worker", "in an interpreter of its own"])
def test_a_scripts_exit_code_is_not_judged_by_an_exception_that_was_handled(
    interpreter_options: list[str], launched: Launched, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, traceback\ntry:\n    raise ValueError('handled')\nexcept ValueError:\n    traceback.print_exc()\n"
        "sys.exit(75)\n"
    )
    rules = no_wait(only_on=[75], max_restarts=1)
    launched.fail(sys.executable, *interpreter_options, "-u", str(script), retry=rules, redirects=3)
    assert [verdict.decision.again for verdict in launched.verdicts] == [True, False]


def test_the_cause_behind_a_scripts_exception_is_known(launched: Launched, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from hydra.errors import InstantiationException as E\nraise E('x:\\ny') from ConnectionError('z')\n"
    )
    launched.fail(sys.executable, "-B", "-u", str(script), retry=no_wait(max_restarts=1), redirects=3)
    assert [verdict.decision.again for verdict in launched.verdicts] == [True, False]
    assert "raised ConnectionError: z (hydra.errors.InstantiationException: x)" in launched.verdicts[0].failure.reason


def test_a_program_that_is_not_there_is_not_tried_again(launched: Launched) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        launched.run("no-such-program", retry=no_wait())
    assert launched.kinds == []


def test_the_restart_count_of_workers_is_torchs(launched: Launched) -> None:
    assert launched.run(misbehave, "value", 3, retry=no_wait()) == {0: 3, 1: 3}
    assert restarts.__name__ == "restarts"
