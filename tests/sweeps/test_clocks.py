"""Times of another host: there and back they are the same, whatever its clocks say."""

from __future__ import annotations

import pytest
from hydra.core.utils import JobReturn

from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import WorkersFailed, WorkersStarted
from elastic_hydra.sweeps.clocks import HERE, Clocks
from tests.sweeps.test_scheduler import attempt

CLOCKS = Clocks(monotonic=1000.0, wall=-3.0)


def test_an_attempt_goes_there_with_the_hosts_times_and_its_restarts_come_back() -> None:
    here = attempt(0)
    here.began, here.restarts = 5.0, (6.0, 7.5)
    there = CLOCKS.of_host(here)
    assert (there.began, there.restarts) == (1005.0, (1006.0, 1007.5))
    assert (here.began, here.restarts) == (5.0, (6.0, 7.5))
    end = CLOCKS.here(AttemptEnd(JobReturn(), restarts=(*there.restarts, 1009.0)))
    assert end.restarts == (6.0, 7.5, 9.0)


def test_what_is_not_known_stays_so() -> None:
    assert CLOCKS.of_host(attempt(0)).began is None
    assert CLOCKS.here(AttemptEnd(JobReturn())).restarts is None
    end = AttemptEnd(JobReturn(), restarts=(1.0,))
    assert HERE.here(end) is end


def test_lines_of_a_host_become_events_of_the_launchers_clocks(caplog: pytest.LogCaptureFixture) -> None:
    lines = encode(WorkersStarted(time=100.0, num=3)) + encode(WorkersFailed(time=101.0, num=3, monotonic=1008.25))
    first, second = CLOCKS.events(lines)
    assert first == WorkersStarted(time=103.0, num=3)
    assert second == WorkersFailed(time=104.0, num=3, monotonic=8.25)
    assert caplog.messages == []


def test_a_line_that_cannot_be_read_is_told_of_and_the_others_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    (event,) = CLOCKS.events(b'{"event": "wor\n' + encode(WorkersStarted(time=100.0, num=3)))
    assert event == WorkersStarted(time=103.0, num=3)
    assert "a line of a host's journal cannot be used" in caplog.text
