"""Evidence in words: figures for people."""

from __future__ import annotations

import pytest

from elastic_hydra.failures.evidence import ExceptionFacts, MemoryFacts

GB = 10**9


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (MemoryFacts(), ""),
        (MemoryFacts(known=True, kills=3, scope="host", rss={1: GB}), ""),
        (MemoryFacts(peak=GB), "the cgroup's peak was 1.0 GB"),
        (MemoryFacts(limit=2 * GB), "its limit is 2.0 GB"),
        (MemoryFacts(peak=0, limit=0), "the cgroup's peak was 0 B, its limit is 0 B"),
        (MemoryFacts(host_total=8 * GB), ""),
        (MemoryFacts(host_available=8 * GB), ""),
        (MemoryFacts(host_total=8 * GB, host_available=GB), "the host has 1.0 GB of 8.0 GB free now"),
        (
            MemoryFacts(peak=GB, limit=2 * GB, host_total=8 * GB, host_available=3 * GB),
            "the cgroup's peak was 1.0 GB, its limit is 2.0 GB, the host has 3.0 GB of 8.0 GB free now",
        ),
    ],
)
def test_memory_is_told_by_the_figures_that_are_known(facts: MemoryFacts, words: str) -> None:
    assert facts.in_words() == words


def test_a_name_that_two_classes_have_is_said_once() -> None:
    facts = ExceptionFacts("a.Error", ("b.Error", "builtins.Exception", "Exception"))
    assert facts.names == ("a.Error", "Error", "b.Error", "builtins.Exception", "Exception")
