"""Whose standstill it is, told from the stacks of all ranks: no processes."""

from __future__ import annotations

import pytest

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
