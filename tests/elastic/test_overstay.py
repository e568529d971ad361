"""A rank that has failed, but whose process does not end, ends the group all the same."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from elastic_hydra.config.watch import WatchConfig
from elastic_hydra.config.words import Kind
from tests.helpers.launching import launch, launch_failing

pytestmark = pytest.mark.system


def fail_but_stay(how: str) -> None:
    if os.environ["RANK"] == "1":
        if how == "process":
            multiprocessing.get_context("fork").Process(target=threading.Event().wait).start()
        elif how == "thread":
            threading.Thread(target=threading.Event().wait).start()
        else:
            atexit.register(threading.Event().wait)
        raise ValueError("rank 1 has failed")
    threading.Event().wait()


@pytest.mark.parametrize("how", ["process", "thread", "exit function"])
@pytest.mark.parametrize("watched", [False, True])
def test_a_failed_rank_that_stays_ends_the_group_with_its_own_exception(how: str, watched: bool) -> None:
    watch = WatchConfig(progress_limit=0.5, progress=["output"]) if watched else WatchConfig()
    error = launch_failing(fail_but_stay, how, shutdown_timeout=2, watch=watch)
    assert str(error.__cause__) == "rank 1 has failed"
    assert error.verdict is not None
    assert (error.verdict.failure.rank, error.verdict.failure.kind) == (1, Kind.exception)


def upload(path: str) -> None:
    time.sleep(1.0)
    Path(path).touch()


def fail_and_upload(path: str) -> None:
    atexit.register(upload, path)
    raise ValueError


def test_exit_functions_of_a_failed_rank_have_their_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("uploads") / "uploaded"
    launch_failing(fail_and_upload, str(path), workers=1, shutdown_timeout=20)
    assert path.exists()


def stay_long() -> str:
    threading.Thread(target=time.sleep, args=(3.0,)).start()
    return "done"


def test_a_rank_that_has_returned_is_waited_for() -> None:
    assert launch(stay_long, workers=1, shutdown_timeout=1) == {0: "done"}
