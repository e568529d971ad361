"""Launches from processes that must not be forked work as well, only slower."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elastic_hydra.supervisor.open_server import open_server
from tests.helpers.launching import end_at_once, launch, launch_failing, script, wait_until_gone

pytestmark = pytest.mark.system


def rank() -> int:
    return int(os.environ["RANK"])


def in_a_thread(function: Callable[[], Any]) -> Any:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


@pytest.fixture
def busy_thread() -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="feeder")
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_quiet_process_is_forked() -> None:
    with open_server("warm", {}, 1.0) as server:
        assert server.reason == "forked from this process"


def test_a_launch_from_another_thread_works() -> None:
    assert in_a_thread(lambda: launch(rank)) == {0: 0, 1: 1}


def test_a_failure_in_another_thread_is_reported() -> None:
    assert in_a_thread(lambda: launch_failing(end_at_once, 3, workers=1).failures[0].exitcode) == 3


def test_launches_side_by_side_do_not_meet() -> None:
    results: dict[int, dict[int, Any]] = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: launch(pow, 2, i, workers=1)})) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: {0: 1}, 1: {0: 2}}


def test_a_process_with_threads_is_not_forked(busy_thread: None) -> None:
    with open_server("warm", {}, 1.0) as server:
        assert "from a fresh interpreter" in server.reason
        assert "feeder" in server.reason


def test_a_process_with_threads_launches(busy_thread: None) -> None:
    offset = 10
    assert launch(lambda: offset + rank()) == {0: 10, 1: 11}


def test_fork_forks_whatever_runs(busy_thread: None) -> None:
    with open_server("fork", {}, 1.0) as server:
        assert server.reason == "forked from this process"


PARALLEL = """
    import os, sys, torch
    from elastic_hydra import LaunchConfig, elastic_launch

    def work():
        return float(torch.ones(1 << 22).sum()), torch.get_num_threads()

    if __name__ == "__main__":
        torch.set_num_threads(2)
        total, threads = work()
        results = elastic_launch(LaunchConfig(1, 1, 2, start_method="warm", max_restarts=0), work)()
        assert {value for value, _ in results.values()} == {total}
        print(threads, *(number for _, number in results.values()))
"""


def test_workers_compute_after_the_launcher_has_computed(tmp_path: Path) -> None:
    with script(tmp_path, PARALLEL, OMP_NUM_THREADS="2") as started:
        assert started.output() == "2 2 2\n", started.stderr


NATIVE_THREAD = """
    import ctypes
    library = ctypes.CDLL(None)
    library.pthread_create(ctypes.byref(ctypes.c_ulong()), None, library.pause, None)

    def work():
        return "done"
"""

LAUNCH_WITH_IT = """
    import native_thread
    from elastic_hydra import LaunchConfig, elastic_launch

    if __name__ == "__main__":
        config = LaunchConfig(1, 1, 2, start_method="warm", max_restarts=0)
        print(elastic_launch(config, native_thread.work)())
"""


def test_functions_of_a_module_whose_import_leaves_a_thread_behind_are_launched(tmp_path: Path) -> None:
    (tmp_path / "native_thread.py").write_text(textwrap.dedent(NATIVE_THREAD))
    with script(tmp_path, LAUNCH_WITH_IT) as started:
        assert started.output() == "{0: 'done', 1: 'done'}\n", started.stderr


NAMED_THREAD = """
    import os, sys
    from pathlib import Path
    import native_thread
    from elastic_hydra.supervisor.fork_safety import fork_hazard

    (task,) = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
    Path(f"/proc/self/task/{task}/comm").write_text(sys.argv[1])
    print(fork_hazard())
"""


@pytest.mark.parametrize(
    ("name", "hazard"),
    [
        ("jemalloc_bg_thd", "None"),
        ("cuda00001800007", "None"),  # NVML's, with driver 580
        (
            "polars-ooc-clean",
            "it runs 1 native thread (polars-ooc-clea), so it has run a parallel operation or holds a",
        ),
    ],
)
def test_only_threads_that_are_known_to_be_harmless_allow_a_fork(name: str, hazard: str, tmp_path: Path) -> None:
    (tmp_path / "native_thread.py").write_text(textwrap.dedent(NATIVE_THREAD))
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with script(tmp_path, NAMED_THREAD, name, **one_thread) as started:
        assert started.output().startswith(hazard), started.stderr


ALLOCATOR = """
    import threading
    import pyarrow
    from elastic_hydra.supervisor.fork_safety import fork_hazard
    from elastic_hydra import LaunchConfig, elastic_launch

    pool = pyarrow.jemalloc_memory_pool()
    kept = [pyarrow.array(range(10_000), memory_pool=pool) for _ in range(10)]

    def allocate():
        for _ in range(100):
            pyarrow.array(range(1_000), memory_pool=pool)

    def work():
        threads = [threading.Thread(target=allocate) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return pool.bytes_allocated() > 0

    if __name__ == "__main__":
        print(fork_hazard(), elastic_launch(LaunchConfig(1, 1, 2, start_method="warm", max_restarts=0), work)())
"""


def test_workers_allocate_from_an_allocator_whose_thread_stayed_behind(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with script(tmp_path, ALLOCATOR) as started:
        assert started.output() == "None {0: True, 1: True}\n", started.stderr


def threads() -> int:
    return torch.get_num_threads()


@pytest.mark.parametrize("start_method", ["warm", "forkserver", "spawn"])
def test_workers_have_the_threads_that_the_environment_says(start_method: str) -> None:
    assert launch(threads, workers=1, start_method=start_method, worker_env={"OMP_NUM_THREADS": "1"}) == {0: 1}


def test_workers_of_a_fresh_interpreter_have_as_many_threads_as_spawned_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    expected = launch(threads, workers=1, start_method="spawn")
    assert launch(threads, workers=1, start_method="forkserver") == expected


def random_numbers() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_unseeded_workers_draw_different_numbers() -> None:
    draws = [*launch(random_numbers).values(), *launch(random_numbers).values()]
    for numbers in zip(*draws, strict=True):
        assert len(set(numbers)) == 4


def own_state() -> dict[str, Any]:
    return {
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)},
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "cwd": os.getcwd(),
        "threads": threading.active_count(),
        "group": os.getpid() == os.getpgrp(),
    }


@pytest.mark.parametrize("start_method", ["warm", "spawn"])
def test_a_worker_is_like_a_new_process(start_method: str) -> None:
    assert launch(own_state, workers=1, start_method=start_method)[0] == {
        "signals": {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: signal.SIG_DFL,
            signal.SIGCHLD: signal.SIG_DFL,
        },
        "blocked": set(),
        "cwd": os.getcwd(),
        "threads": 1,
        "group": True,
    }


def open_files() -> list[str]:
    return open_files_of("self")


def open_files_of(pid: int | str | None) -> list[str]:
    names = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the others
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return names


def test_a_worker_holds_no_connection_of_the_launcher() -> None:
    here = set(open_files())
    there = launch(open_files, workers=1)[0]
    assert [name for name in there if name.startswith("socket:") and name not in here] == []
    assert len([name for name in there if "elastic-hydra" in name]) == 1, "its own result"


def test_no_other_process_keeps_a_connection_to_a_server() -> None:
    with open_server("fork", {}, 1.0) as first:
        mine = os.readlink(f"/proc/self/fd/{first.sock.fileno()}")
        with open_server("fork", {}, 1.0) as second:
            assert second.process is not None
            assert mine not in open_files_of(second.process.pid)
            process = multiprocessing.get_context("fork").Process(target=end_if_open, args=[mine])
            process.start()
            process.join()
            assert process.exitcode == 0


def end_if_open(name: str) -> None:
    if name in open_files():
        os._exit(1)


def ignore_the_end() -> None:
    import atexit

    atexit.register(os._exit, 0)


def test_a_worker_that_leaves_early_after_its_result_has_finished() -> None:
    assert launch(ignore_the_end) == {0: None, 1: None}


def test_the_server_and_the_launch_end_together() -> None:
    with open_server("warm", {}, 1.0) as server:
        assert server.process is not None
        pid = server.process.pid
    assert wait_until_gone([pid], 0.0) == []
