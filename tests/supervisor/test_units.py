"""The parts that need no processes: outcomes, folders, and the question whether a fork is sound."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std

from elastic_hydra.elastic.logs import JobLogs, TemporaryLogs, for_one_launch, std
from elastic_hydra.elastic.worker_failure import WorkerFailure, WorkersFailedError
from elastic_hydra.supervisor import fork_safety, outcome, pickles
from elastic_hydra.supervisor.anonymous_files import anonymous_file
from elastic_hydra.supervisor.channel import send
from elastic_hydra.supervisor.client import Client
from elastic_hydra.supervisor.outcome import Outcome
from elastic_hydra.supervisor.packed_error import WorkerError, pack, unpack
from elastic_hydra.supervisor.process_state import environment
from elastic_hydra.supervisor.protocol import Ready
from tests.helpers.launching import in_a_fork

# --- outcomes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def file() -> Iterator[int]:
    fd = anonymous_file("test")
    yield fd
    os.close(fd)


def test_a_value_is_read_as_it_was_written(file: int) -> None:
    outcome.write(file, Outcome(value={"accuracy": 0.5}))
    assert outcome.read(file) == Outcome(value={"accuracy": 0.5})
    assert outcome.read(file, errors_only=True) is None


def test_an_empty_file_holds_no_outcome(file: int) -> None:
    assert outcome.read(file) is None


def test_the_last_outcome_counts(file: int) -> None:
    outcome.write(file, Outcome(value="x" * 100_000))
    outcome.write(file, Outcome(error=pack(ValueError("late"))))
    read = outcome.read(file)
    assert read is not None
    assert read.error is not None
    assert read.error.message == "late"


def test_a_value_that_does_not_pickle_leaves_no_outcome(file: int) -> None:
    with pytest.raises(TypeError):
        outcome.write(file, Outcome(value=[b"x" * 100_000, threading.Lock()]))
    assert outcome.read(file) is None


def test_shared_objects_travel_as_names() -> None:
    shared = {"lock": threading.Lock()}
    assert pickles.loads(pickles.dumps([shared["lock"]], shared), shared)[0] is shared["lock"]


class Odd(Exception):
    """Takes other arguments than it hands to its base."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code} because {reason}")
        self.code, self.reason = code, reason


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Holder(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Translated(Exception):
    """Comes out of pickle as something else."""

    def __reduce__(self) -> Any:
        return ValueError, ("translated",)


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as raised:
        return raised


def travelled(error: BaseException) -> BaseException:
    return unpack(pickle.loads(pickle.dumps(pack(error))))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("key"),
        OSError(2, "gone", "path"),
        KeyboardInterrupt(),
        SystemExit(3),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_come_back_as_they_were(error: BaseException) -> None:
    restored = travelled(caught(error))
    assert type(restored) is type(error)
    assert restored.args == error.args
    assert str(restored) == str(error)


def test_an_exception_with_a_constructor_of_its_own_comes_back() -> None:
    restored = travelled(caught(Odd(7, reason="so")))
    assert isinstance(restored, Odd)
    assert (str(restored), restored.code, restored.reason) == ("7 because so", 7, "so")


def test_an_exception_without_words_comes_back() -> None:
    assert isinstance(travelled(caught(Mute())), Mute)


def test_an_exception_that_pickle_would_turn_into_another_comes_back() -> None:
    assert isinstance(travelled(caught(Translated())), Translated)


def test_an_exception_that_does_not_pickle_is_named() -> None:
    restored = travelled(caught(Holder("held")))
    assert isinstance(restored, WorkerError)
    assert str(restored) == f"{__name__}.Holder: held"


def test_frames_cause_and_context_come_back() -> None:
    restored = travelled(caught(Odd(1, reason="outer"), cause=caught(KeyError("inner"), cause=Holder("innermost"))))
    assert restored.__traceback__ is not None
    assert restored.__traceback__.tb_frame.f_code.co_name == "caught"
    assert isinstance(restored.__cause__, KeyError)
    assert isinstance(restored.__cause__.__cause__, WorkerError)
    assert restored.__suppress_context__


def without_end(number: int) -> None:
    if number == 0:
        without_end(0)
    try:
        without_end(number - 1)
    except RecursionError:
        without_end(0)


@pytest.mark.parametrize("chained", [0, 5])
def test_a_recursion_without_end_comes_back_with_the_begin_and_the_end_of_its_traceback(chained: int) -> None:
    with pytest.raises(RecursionError) as caught:
        without_end(chained)
    restored = travelled(caught.value)
    assert isinstance(restored, RecursionError)
    raised, frames = (traceback.extract_tb(error.__traceback__) for error in (caught.value, restored))
    assert [frames[0].line, frames[-1].line] == [raised[0].line, raised[-1].line]
    assert len(frames) <= 100


def test_a_chain_that_bites_its_tail_comes_back() -> None:
    first, second = caught(ValueError("first")), caught(ValueError("second"))
    first.__context__, second.__context__ = second, first
    restored = travelled(first)
    assert str(restored.__context__) == "second"


if sys.version_info >= (3, 11):  # it brought notes and groups

    def test_notes_come_back() -> None:
        error = caught(Odd(1, reason="x"))
        error.add_note("on rank 1")
        assert travelled(error).__notes__ == ["on rank 1"]

    def test_groups_come_back() -> None:
        group = ExceptionGroup("both", [ValueError("x"), Odd(1, reason="y")])  # noqa: F821
        restored = travelled(caught(group))
        assert isinstance(restored, ExceptionGroup)  # noqa: F821
        assert [str(error) for error in restored.exceptions] == ["x", "1 because y"]


def test_the_launchers_own_error_comes_back() -> None:
    error = WorkersFailedError("main", {1: WorkerFailure.of(1, 4711, -9, "", what="lost")})
    restored = travelled(caught(error))
    assert isinstance(restored, WorkersFailedError)
    assert restored.get_first_failure()[0] == 1


# --- failures ----------------------------------------------------------------------------------------------------


def test_a_half_written_error_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "error.json"
    path.write_text('{"message": {"mess')
    failure = WorkerFailure.of(0, 4711, -9, str(path))
    assert failure.message == "Signal 9 (SIGKILL) received by PID 4711"


def test_the_first_failure_is_found_within_a_second(tmp_path: Path) -> None:
    def failure(rank: int, at: float) -> WorkerFailure:
        return WorkerFailure.of(rank, 1, 1, str(tmp_path / f"{rank}.json"), at=at)

    assert WorkersFailedError("main", {0: failure(0, 100.2), 1: failure(1, 100.1)}).get_first_failure()[0] == 1


# --- logs --------------------------------------------------------------------------------------------------------


def environments(*ranks: int) -> dict[int, dict[str, str]]:
    return {
        local_rank: {"RANK": str(rank), "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_RUN_ID": "run"}
        for local_rank, rank in enumerate(ranks)
    }


def test_folders_are_named_by_global_rank(tmp_path: Path) -> None:
    envs = environments(4, 12)
    destination = JobLogs(tmp_path, {0: Std.OUT, 1: Std.NONE}, {0: Std.ERR, 1: Std.NONE}).reify(envs)
    assert destination.stdouts == {0: str(tmp_path / "restart_0" / "rank_4" / "stdout.log"), 1: ""}
    assert destination.stderrs == {0: str(tmp_path / "restart_0" / "rank_4" / "stderr.log"), 1: ""}
    assert destination.tee_stdouts == {}
    assert destination.tee_stderrs == {0: destination.stderrs[0]}
    assert envs[1]["TORCHELASTIC_ERROR_FILE"] == str(tmp_path / "restart_0" / "rank_12" / "error.json")


def test_every_start_has_a_folder_of_its_own(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path)
    for _ in range(2):
        logs.reify(environments(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["restart_0", "restart_1"]


def test_temporary_logs_make_and_remove_their_folder() -> None:
    logs = TemporaryLogs()
    file = Path(logs.reify(environments(0)).error_files[0])
    assert file.parent.is_dir()
    logs.remove()
    assert not file.parent.exists()


def test_logs_for_a_launch_forget_the_last_one(tmp_path: Path) -> None:
    specs = DefaultLogsSpecs(str(tmp_path))
    files = [for_one_launch(specs).reify(environments(0)).error_files[0] for _ in range(2)]
    assert files[0] != files[1]
    assert all(os.path.isdir(os.path.dirname(file)) for file in files)


def test_streams_are_numbers_in_the_configuration() -> None:
    assert std(3) is Std.ALL
    assert std({0: 1, 1: 0}) == {0: Std.OUT, 1: Std.NONE}


# --- hazards -----------------------------------------------------------------------------------------------------


@pytest.mark.system
def test_a_process_that_has_only_imported_torch_can_be_forked() -> None:
    assert in_a_fork(fork_safety.fork_hazard) is None


@pytest.mark.parametrize(
    ("thread", "is_nvmls"),
    [
        ("cuda00001800007", True),  # driver 580 on an H200
        ("cuda00005c00018", True),
        ("cuda-EvtHandlr", False),  # of CUDA itself, in earlier drivers
        ("cuda0000180000z", False),
        ("cuda0000180000", False),
        ("python3", False),
    ],
)
def test_a_thread_of_nvmls_is_known_by_its_name(thread: str, is_nvmls: bool) -> None:
    assert fork_safety.is_harmless(thread) == is_nvmls


def test_another_thread_makes_a_fork_unsafe() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="feeder")
    thread.start()
    assert fork_safety.fork_hazard() == "it runs other threads (feeder)"
    stop.set()
    thread.join()


def _hazard_in_a_thread() -> str | None:
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(fork_safety.fork_hazard()))
    thread.start()
    thread.join()
    return answers[0]


def test_a_fork_is_for_the_main_thread_only() -> None:
    assert _hazard_in_a_thread() is not None


def _hazard_after_a_parallel_operation() -> str | None:
    import torch

    torch.set_num_threads(2)
    torch.ones(1 << 20).sum()
    return fork_safety.fork_hazard()


@pytest.mark.system
def test_a_parallel_operation_makes_a_fork_unsafe() -> None:
    reason = in_a_fork(_hazard_after_a_parallel_operation)
    assert reason is not None
    assert "parallel operation" in reason


def test_asking_does_not_change_the_environment() -> None:
    before = dict(os.environ)
    fork_safety.fork_hazard()
    assert dict(os.environ) == before


def test_a_variable_is_set_for_a_while() -> None:
    with environment("ELASTIC_HYDRA_TEST", "1"):
        assert os.environ["ELASTIC_HYDRA_TEST"] == "1"
    assert "ELASTIC_HYDRA_TEST" not in os.environ


# --- a server that starts ----------------------------------------------------------------------------------------


class Requests:
    """A listener that has something to do three times before a server says its first word."""

    has_requests = False

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._ours, self._theirs = socket.socketpair()
        self._theirs.send(b"...")
        self.served = 0

    def fileno(self) -> int:
        return self._ours.fileno()

    def serve(self) -> None:
        self._ours.recv(1)
        self.served += 1
        if self.served == 3:
            send(self._server, Ready())

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def test_whoever_waits_for_a_server_that_starts_serves_others_again_and_again() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(Requests(theirs)) as requests:
        Client(ours, {}, "a test", listener=requests).await_ready()
        assert requests.served == 3
