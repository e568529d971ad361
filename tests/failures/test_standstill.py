"""Whose standstill it is, told from the stacks of all ranks: no processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_hydra.failures import standstill
from elastic_hydra.failures.standstill import Place, explain, place_in

TORCH = "/env/lib/python3.11/site-packages/torch"
REDUCE = f'''Thread 0x00007fdc (most recent call first):
  File "/env/lib/python3.11/threading.py", line 331 in wait

Current thread 0x00007fdc607c3b80 (most recent call first):
  File "{TORCH}/distributed/distributed_c10d.py", line 3252 in all_reduce
  File "{TORCH}/distributed/c10d_logger.py", line 83 in wrapper
  File "/home/me/train.py", line 10 in step
  File "/home/me/train.py", line 99 in main
'''
BACKWARD = f'''Current thread 0x00007fdc607c3b80 (most recent call first):
  File "{TORCH}/autograd/graph.py", line 979 in _engine_run_backward
  File "{TORCH}/autograd/__init__.py", line 395 in backward
  File "{TORCH}/_tensor.py", line 623 in backward
  File "/home/me/train.py", line 11 in step
'''
LOADING = """Current thread 0x00007fdc607c3b80 (most recent call first):
  File "/env/lib/python3.11/queue.py", line 171 in get
  File "/home/me/data.py", line 14 in load
  File "/home/me/train.py", line 9 in main
"""
SETUP = f'''Current thread 0x00007fdc607c3b80 (most recent call first):
  File "/home/me/data.py", line 14 in load
  File "{TORCH}/distributed/fsdp/api.py", line 9 in wrap
  File "/home/me/train.py", line 9 in main
'''


@pytest.mark.parametrize(
    ("stacks", "place"),
    [
        (REDUCE, Place("train.py:10 in step", "all_reduce")),
        (BACKWARD, Place("train.py:11 in step", "backward")),
        (LOADING, Place("data.py:14 in load", "")),
        (SETUP, Place("data.py:14 in load", "")),
        ("It did not answer: it is stopped, or stuck in the kernel.\n", None),
    ],
)
def test_a_place_is_the_users_line_and_the_operation_that_it_waits_in(stacks: str, place: Place | None) -> None:
    assert place_in(stacks) == place


@pytest.mark.parametrize(
    ("stacks", "ended", "rank", "words"),
    [
        (
            [REDUCE, LOADING, REDUCE],
            {},
            1,
            "rank 1 is in no collective operation but at data.py:14 in load, and ranks 0, 2 wait in all_reduce (train",
        ),
        ([BACKWARD, LOADING], {}, 1, "rank 1 is in no collective operation but at data.py:14 in load"),
        (
            [REDUCE],
            {1: "called sys.exit(0) at train.py:3 in main"},
            1,
            "rank 1 called sys.exit(0) at train.py:3 in main",
        ),
        ([REDUCE, BACKWARD], {}, None, "the ranks wait for each other at different places: rank 0 in all_reduce"),
        ([REDUCE, REDUCE], {}, None, "rank 1 is at train.py:10 in step, in all_reduce"),
        ([LOADING, LOADING], {}, None, "rank 1 is at data.py:14 in load"),
        ([], {}, None, ""),
    ],
)
def test_who_is_not_where_the_others_wait_is_named(
    stacks: list[str], ended: dict[int, str], rank: int | None, words: str
) -> None:
    places = {number: place for number, text in enumerate(stacks) if (place := place_in(text)) is not None}
    culprit, said = explain(places, ended, 1)
    assert culprit == rank
    assert said.startswith(words)
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("places", "ended", "late", "expected"),
    [
        # Who has ended is named before those that run elsewhere; of several, the lowest rank.
        (
            {0: Place("a.py:1 in f", "all_reduce"), 1: Place("b.py:2 in g", "")},
            {3: "has returned", 2: "has returned"},
            None,
            (2, "rank 2 has returned, and rank 0 waits in all_reduce (a.py:1 in f)"),
        ),
        ({0: Place("b.py:2 in g", "")}, {1: "has returned"}, 0, (None, "rank 0 is at b.py:2 in g")),
        (
            {0: Place("", "all_reduce"), 2: Place("b.py:2 in g", ""), 1: Place("", "")},
            {},
            None,
            (1, "rank 1 is in no collective operation, and rank 0 waits in all_reduce"),
        ),
        (
            {0: Place("a.py:1 in f", "all_reduce"), 1: Place("a.py:1 in f", "barrier")},
            {},
            None,
            (
                None,
                (
                    "the ranks wait for each other at different places: "
                    "rank 0 in all_reduce (a.py:1 in f); rank 1 in barrier (a.py:1 in f)"
                ),
            ),
        ),
        (
            {0: Place("a.py:1 in f", "barrier"), 1: Place("a.py:2 in f", "barrier")},
            {},
            None,
            (
                None,
                (
                    "the ranks wait for each other at different places: "
                    "rank 0 in barrier (a.py:1 in f); rank 1 in barrier (a.py:2 in f)"
                ),
            ),
        ),
        ({4: Place("a.py:1 in f", ""), 2: Place("b.py:1 in f", "")}, {}, None, (None, "rank 2 is at b.py:1 in f")),
        ({4: Place("a.py:1 in f", ""), 2: Place("b.py:1 in f", "")}, {}, 4, (None, "rank 4 is at a.py:1 in f")),
        ({4: Place("a.py:1 in f", ""), 2: Place("b.py:1 in f", "")}, {}, 9, (None, "rank 2 is at b.py:1 in f")),
        ({1: Place("a.py:1 in f", "wait")}, {}, 1, (None, "rank 1 is at a.py:1 in f, in wait")),
        ({1: Place("", "wait")}, {}, 1, (None, "")),
        ({}, {1: "has returned"}, 1, (None, "")),
    ],
)
def test_the_whole_explanation(
    places: dict[int, Place], ended: dict[int, str], late: int | None, expected: tuple[int | None, str]
) -> None:
    assert explain(places, ended, late) == expected


def test_a_stack_without_the_users_code_has_a_place_nonetheless() -> None:
    stacks = f'Thread 0x01 (most recent call first):\n  File "{TORCH}/distributed/c10d.py", line 3 in barrier\n'
    assert place_in(stacks) == Place("", "barrier")


def test_the_main_thread_is_the_last_one() -> None:
    other = 'Thread 0x02 (most recent call first):\n  File "/home/me/other.py", line 1 in run\n\n'
    assert place_in(other + LOADING) == Place("data.py:14 in load", "")
    assert place_in(LOADING + "\n" + other) == Place("other.py:1 in run", "")


def test_lines_that_are_no_frames_are_passed_over() -> None:
    assert place_in('Current thread 0x01:\n  ...\n  File "/home/me/train.py", line 7 in f\n') == Place(
        "train.py:7 in f", ""
    )
    assert place_in("Current thread 0x01:\n  <no Python frame>\n") is None


@pytest.mark.parametrize(
    "path",
    [
        "/env/lib/python3.11/site-packages/numpy/core.py",
        "/usr/lib/python3/dist-packages/yaml/__init__.py",
        "/usr/lib64/python3.14/queue.py",
        "<frozen runpy>",
        standstill.__file__,
        str(Path(standstill.__file__).parents[1] / "supervisor" / "entry.py"),
    ],
)
def test_frames_of_libraries_are_not_the_users(path: str) -> None:
    stacks = f'Current thread 0x01:\n  File "{path}", line 1 in inner\n  File "/home/me/a.py", line 2 in f\n'
    assert place_in(stacks) == Place("a.py:2 in f", "")


@pytest.mark.parametrize(
    "part", ["torch/distributed", "torch/_C/_distributed", "torch/autograd", "torch/cuda", "deepspeed", "horovod"]
)
def test_a_rank_may_wait_for_others_in_these(part: str) -> None:
    stacks = (
        "Current thread 0x01:\n"
        f'  File "/env/lib/python3.11/site-packages/{part}/inner.py", line 1 in inner\n'
        f'  File "/env/lib/python3.11/site-packages/{part}/outer.py", line 1 in outer\n'
        '  File "/home/me/a.py", line 2 in f\n'
    )
    assert place_in(stacks) == Place("a.py:2 in f", "outer")
