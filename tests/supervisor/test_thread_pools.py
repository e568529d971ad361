"""The threads of OpenBLAS in processes that were forked: no more than asked for, and not before they are needed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from elastic_hydra.supervisor import thread_pools
from tests.helpers.launching import in_a_fork, launch

pytestmark = pytest.mark.system


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def threads_before_and_after_a_product() -> tuple[int, int]:
    before = threads()
    matrix = np.ones((512, 512))
    assert (matrix @ matrix).max() == 512.0
    return before, threads()


def in_a_fork_of_a_pool(size: int, count: int) -> tuple[int, int]:
    """Let OpenBLAS have `size` threads here, and `count` in a fork of this process."""

    def set_and_compute() -> tuple[int, int]:
        thread_pools.set_threads(count)
        assert thread_pools.openblas_threads() == count - 1
        return threads_before_and_after_a_product()

    def enlarge_and_fork() -> tuple[int, int]:
        thread_pools.set_threads(size)
        assert threads_before_and_after_a_product()[1] == size
        result: tuple[int, int] = in_a_fork(set_and_compute)
        return result

    pair: tuple[int, int] = in_a_fork(enlarge_and_fork)
    return pair


def in_a_new_interpreter(size: int, count: int) -> tuple[int, ...]:
    """Do so where nothing has used a pool yet, and no test has set its size."""
    call = f"print(*test_thread_pools.in_a_fork_of_a_pool({size}, {count}))"
    code = f"import sys; sys.path[:] = {sys.path!r}; from tests.supervisor import test_thread_pools; {call}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_forked_process_starts_the_threads_that_it_needs_and_when_it_needs_them(count: int) -> None:
    assert in_a_new_interpreter(4, count) == (1, count)


def test_a_forked_process_may_have_more_threads_than_its_parent() -> None:
    assert in_a_new_interpreter(2, 3)[1] == 3


def test_a_worker_with_one_thread_has_started_no_other() -> None:
    both = launch(threads_before_and_after_a_product, worker_env={"OMP_NUM_THREADS": "1"})
    assert both == {0: (1, 1), 1: (1, 1)}
