"""However a worker ends, its launch ends within seconds, and says what happened."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import torch.distributed as dist

from elastic_hydra.supervisor.packed_error import WorkerError, pack, unpack
from tests.helpers.launching import end_at_once, launch, launch_failing, wait_until_gone

pytestmark = pytest.mark.system


def wait_for_ever() -> None:
    while True:
        signal.pause()


def rank() -> int:
    return int(os.environ["RANK"])


def rank_1_ends_by(action: Callable[..., Any], *args: Any) -> None:
    if rank() == 1:
        action(*args)
    else:
        wait_for_ever()


def kill_oneself(number: int) -> None:
    os.kill(os.getpid(), number)
    wait_for_ever()


@pytest.mark.parametrize(
    ("action", "argument", "code", "words", "start_method"),
    [
        (end_at_once, 0, 0, "without a result", "warm"),
        (end_at_once, 3, 3, "exit code 3", "warm"),
        (sys.exit, 3, 3, "exit code 3", "warm"),
        (sys.exit, "no data", 1, "exit code 1", "warm"),
        (kill_oneself, signal.SIGKILL, -9, "Signal 9 (SIGKILL)", "warm"),
        (kill_oneself, signal.SIGSEGV, -11, "Signal 11 (SIGSEGV)", "warm"),
        (kill_oneself, signal.SIGINT, 1, "KeyboardInterrupt", "warm"),
        (end_at_once, 0, 0, "without a result", "spawn"),
        (kill_oneself, signal.SIGKILL, -9, "Signal 9 (SIGKILL)", "spawn"),
        (kill_oneself, signal.SIGINT, 1, "KeyboardInterrupt", "spawn"),
    ],
)
def test_a_worker_that_ends_ends_the_job(
    action: Callable[..., Any], argument: Any, code: int, words: str, start_method: str
) -> None:
    # Nobody waits for the healthy rank longer than it takes to end: the test itself has less time than this.
    error = launch_failing(rank_1_ends_by, action, argument, start_method=start_method, shutdown_timeout=3600)
    assert list(error.failures) == [1]
    assert error.failures[1].exitcode == code
    assert words in str(error.failures[1].message)


def test_leaving_with_success_is_success() -> None:
    assert launch(sys.exit, 0) == launch(sys.exit) == {0: None, 1: None}


def test_the_last_words_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    launch_failing(sys.exit, "no data", workers=1)
    assert capfd.readouterr().err.startswith("no data\n")


def test_a_signal_ends_a_program() -> None:
    # Arguments are templates, as for torch: two dollars are one.
    error = launch_failing("/bin/sh", "-c", "kill -9 $$$$", workers=1)
    assert error.failures[0].exitcode == -9


# --- results -----------------------------------------------------------------------------------------------------


class EndsTheProcess:
    """Does so while it is being pickled, after much has been written."""

    def __init__(self, action: Callable[..., Any], argument: int) -> None:
        self.content = os.urandom(20 << 20)
        self.action, self.argument = action, argument

    def __reduce__(self) -> Any:
        self.action(self.argument)
        return list, ()


class Unreadable:
    def __reduce__(self) -> Any:
        return refuse, ("cannot be read",)


def refuse(text: str) -> NoReturn:
    raise LookupError(text)


def content_then(action: Callable[..., Any], argument: int) -> list[Any]:
    return [os.urandom(20 << 20), EndsTheProcess(action, argument)]


@pytest.mark.parametrize(
    ("action", "argument", "code"), [(kill_oneself, signal.SIGKILL, -9), (end_at_once, 0, 0), (end_at_once, 3, 3)]
)
def test_a_worker_that_dies_while_it_hands_over_has_failed(
    action: Callable[..., Any], argument: int, code: int
) -> None:
    error = launch_failing(content_then, action, argument)
    assert {failure.exitcode for failure in error.failures.values()} == {code}


def lock_on_rank_1() -> Any:
    return {"loss": 0.5, "held": threading.Lock()} if rank() == 1 else None


@pytest.mark.parametrize("start_method", ["warm", "spawn"])
def test_a_result_that_does_not_pickle_is_named_with_its_rank(start_method: str) -> None:
    error = launch_failing(lock_on_rank_1, start_method=start_method)
    assert list(error.failures) == [1]
    assert isinstance(error.__cause__, WorkerError)
    assert str(error.__cause__).startswith(
        "rank 1 returned a value of type dict with a value of type _thread.lock in ['held'], which cannot be handed"
    )
    assert "rank 1 returned a value of type" in str(error)
    assert error.verdict is not None
    reason = error.verdict.failure.reason
    assert re.match(r"rank 1 returned a value of type dict with .* and return its path$", reason)


def test_a_result_that_cannot_be_read_is_a_failure() -> None:
    error = launch_failing(Unreadable)
    assert sorted(error.failures) == [0, 1]
    assert error.failures[1].message == "returned a value that cannot be read by its agent: LookupError: cannot be read"


def a_thread_that_goes_on() -> str:
    threading.Thread(target=wait_for_ever, daemon=True).start()
    return "done"


def test_a_daemon_thread_does_not_keep_a_finished_worker() -> None:
    assert launch(a_thread_that_goes_on) == {0: "done", 1: "done"}


# --- exceptions --------------------------------------------------------------------------------------------------


class OddError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class LockedError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text, threading.Lock())


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class TouchyError(Exception):
    """Breaks under whoever looks at it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __str__(self) -> str:
        raise KeyError("text")


class LoopError(Exception):
    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def fail_with(kind: str) -> NoReturn:
    if kind == "odd":
        raise OddError(7, "so")
    if kind == "locked":
        raise LockedError("held")
    if kind == "speechless":
        raise SpeechlessError
    try:
        raise KeyError("inner")
    except KeyError as inner:
        raise ValueError("outer") from inner


@pytest.mark.smoke
@pytest.mark.parametrize("start_method", ["warm", "spawn"])
def test_the_workers_exception_comes_with_frames_and_chain(
    start_method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    error = launch_failing(fail_with, "chained", workers=1, start_method=start_method)
    cause = error.__cause__
    assert isinstance(cause, ValueError)
    assert isinstance(cause.__cause__, KeyError)
    assert cause.__traceback__ is not None
    assert cause.__traceback__.tb_frame.f_code.co_name == "fail_with", "the launcher's own frames are left out"
    for text in (str(error), capfd.readouterr().err):
        assert "KeyError: 'inner'" in text
        assert "ValueError: outer" in text
        assert "fail_with" in text


def test_an_exception_with_a_constructor_of_its_own_is_the_cause() -> None:
    cause = launch_failing(fail_with, "odd", workers=1).__cause__
    assert isinstance(cause, OddError)
    assert (str(cause), cause.code) == ("7: so", 7)


def test_an_exception_that_does_not_pickle_is_named_with_its_rank() -> None:
    error = launch_failing(fail_with, "locked", workers=1)
    assert isinstance(error.__cause__, WorkerError)
    for text in (str(error), str(error.__cause__)):
        assert "LockedError" in text
    assert "rank      : 0" in str(error)


def fail_awkwardly(kind: str) -> NoReturn:
    if kind == "touchy":
        raise TouchyError(1)
    if kind == "loop":
        raise LoopError("round and round")
    if kind == "deep":
        fail_awkwardly(kind)
    error = ValueError("0")
    for number in range(1, 5000):
        outer = ValueError(str(number))
        error, outer.__cause__ = outer, error
    raise error


@pytest.mark.parametrize("start_method", ["warm", "spawn"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("touchy", "TouchyError: <KeyError in __str__>"),
        ("loop", "LoopError: round and round"),
        ("chain", "4999"),
        ("deep", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_an_exception_that_is_hard_to_look_at_is_told_all_the_same(kind: str, words: str, start_method: str) -> None:
    error = launch_failing(fail_awkwardly, kind, workers=1, start_method=start_method)
    assert error.verdict is not None
    assert words in error.verdict.failure.reason


def test_a_long_chain_is_packed_as_far_as_somebody_will_read_it() -> None:
    with pytest.raises(ValueError, match="4999") as caught:
        fail_awkwardly("chain")
    restored: BaseException | None = unpack(pack(caught.value))
    numbers = []
    while restored is not None:
        numbers.append(str(restored.args[0]))
        restored = restored.__cause__ or restored.__context__
    assert numbers == [str(number) for number in range(4999, 4899, -1)]


@pytest.mark.parametrize("end", ["itself", "a circle"])
def test_a_chain_with_a_circle_is_packed_once(end: str) -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first if end == "a circle" else second
    restored = unpack(pack(first))
    assert isinstance(restored.__cause__, KeyError)
    assert restored.__cause__.__cause__ is None


def broken_hook(*_: object) -> None:
    raise SpeechlessError


def fail_with_a_broken_hook() -> NoReturn:
    sys.excepthook = broken_hook
    raise ValueError("mine")


def test_a_broken_exception_hook_hides_nothing() -> None:
    assert str(launch_failing(fail_with_a_broken_hook, workers=1).__cause__) == "mine"


def test_an_exception_without_words_is_reported() -> None:
    assert isinstance(launch_failing(fail_with, "speechless", workers=1).__cause__, SpeechlessError)


if sys.version_info >= (3, 11):  # it brought groups and notes

    def fail_in_a_group_with_a_note() -> NoReturn:
        group = ExceptionGroup("two", [ValueError("a"), OddError(1, "b")])  # noqa: F821
        group.add_note("a note")
        raise group

    def test_groups_and_notes_are_reported() -> None:
        group = launch_failing(fail_in_a_group_with_a_note, workers=1).__cause__
        assert isinstance(group, ExceptionGroup)  # noqa: F821
        assert [type(error) for error in group.exceptions] == [ValueError, OddError]
        assert group.__notes__ == ["a note"]


# --- who failed first --------------------------------------------------------------------------------------------


def rank_1_breaks_the_group(how: str) -> None:
    dist.init_process_group("gloo")
    number = torch.ones(1)
    dist.all_reduce(number)
    if rank() == 1:
        if how == "raises":
            raise OddError(1, "the root cause")
        kill_oneself(signal.SIGKILL)
    dist.all_reduce(number)


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["raises", "is killed"])
def test_the_root_cause_is_the_rank_that_broke_the_connection(how: str) -> None:
    for _ in range(5):
        error = launch_failing(rank_1_breaks_the_group, how)
        root, failure = error.get_first_failure()
        assert root == 1, str(error)
        assert failure.exitcode == (1 if how == "raises" else -9)
        assert isinstance(error.__cause__, OddError) == (how == "raises")


# --- what a worker leaves behind -----------------------------------------------------------------------------------


def start_others(folder: str) -> None:
    for own_session in (False, True):
        child = subprocess.Popen(["sleep", "1000"], start_new_session=own_session)
        Path(folder, str(child.pid)).touch()


def start_others_and(folder: str, action: Callable[..., Any] | None, *args: Any) -> None:
    start_others(folder)
    if action is not None:
        action(*args)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("end", "start_method"),
    [((None,), "warm"), ((refuse, "no"), "warm"), ((kill_oneself, signal.SIGKILL), "warm"), ((refuse, "no"), "spawn")],
    ids=["it ends well", "it fails", "it is killed", "it is spawned and fails"],
)
def test_processes_of_a_worker_end_with_it(end: tuple[Any, ...], start_method: str, tmp_path: Path) -> None:
    if end[0] is None:
        launch(start_others_and, str(tmp_path), *end, workers=1, start_method=start_method)
    else:
        launch_failing(start_others_and, str(tmp_path), *end, workers=1, start_method=start_method)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    assert wait_until_gone(pids, 0.0) == []


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -9 $$$$"])
def test_processes_of_a_program_end_with_it(end: str, tmp_path: Path) -> None:
    source = f"cd {tmp_path}; sleep 1000 & touch $!; setsid sleep 1000 & touch $!; {end}"
    if end == "exit 0":
        launch("/bin/sh", "-c", source, workers=1)
    else:
        launch_failing("/bin/sh", "-c", source, workers=1)
    assert wait_until_gone([int(path.name) for path in tmp_path.iterdir()], 0.0) == []
