"""What is decided about a place where hosts come and go, without any host."""

from __future__ import annotations

from typing import Any, cast

import pytest

from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.resources.host import Host
from elastic_hydra.sweeps.place import Place, pause, wanted_hosts

A_HOST = cast(Host, object())


class Connection:
    """One that has ended."""

    state = State.ended
    lost = True
    fate = "it is gone"
    closings = 0

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses

    def begin_closing(self) -> None:
        self.closings += 1


def opened(place: Place, *, refuses: bool = False, fit: bool = False) -> Place:
    place.connection = cast(HostConnection, Connection(refuses=refuses))
    if fit:
        place.host, place.was_fit = A_HOST, True
    return place


def test_a_host_that_is_let_go_may_come_again_at_once() -> None:
    place = opened(Place("n1"), fit=True)
    place.leaving = "it had nothing to do"
    place.closed(10.0, orderly=True)
    assert (place.left_alone, place.not_before, place.leaving, place.is_open) == ("", 0.0, "", False)
    assert place.last_fate == "it had nothing to do"


def test_a_host_that_is_lost_is_asked_for_again_after_a_pause_that_grows() -> None:
    place, pauses = Place("n1"), []
    for _ in range(9):
        opened(place, fit=True).closed(100.0, orderly=False)
        pauses.append(place.not_before - 100.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert place.left_alone == ""


def test_the_pause_is_short_again_once_an_agent_has_ended_well() -> None:
    place = Place("n1")
    for _ in range(4):
        opened(place, fit=True).closed(0.0, orderly=False)
    place.agent_ended(died=False)
    opened(place, fit=True).closed(0.0, orderly=False)
    assert place.not_before == pause(1)


def test_a_place_that_never_has_a_host_is_given_up_after_three_tries() -> None:
    place, left = Place("n1"), []
    for _ in range(3):
        opened(place).closed(0.0, orderly=False)
        left.append(place.left_alone)
    assert left == ["", "", "it is gone"]


def test_a_place_that_had_a_host_is_not_given_up_while_it_is_started_again() -> None:
    place = opened(Place("n1"), fit=True)
    place.closed(0.0, orderly=False)
    for _ in range(5):
        opened(place).closed(0.0, orderly=False)
    assert place.left_alone == ""


def test_a_host_that_refuses_is_left_alone_at_once() -> None:
    place = opened(Place("n1"), refuses=True)
    place.closed(0.0, orderly=False)
    assert place.left_alone == "it is gone"


def test_a_host_where_three_agents_in_a_row_die_is_left_alone() -> None:
    place = Place("n1")
    said = [place.agent_ended(died=died) for died in (True, True, False, True, True, True)]
    assert said == ["", "", "", "", "", "3 agents in a row have died there"]


def test_a_host_is_told_once_that_it_is_over() -> None:
    place = opened(Place("n1"))
    place.close()
    place.close()
    connection: Any = place.connection
    assert connection.closings == 1


@pytest.mark.parametrize(
    ("jobs", "jobs_per_host", "most", "wanted"),
    [(0, 1, 4, 0), (1, 1, 4, 1), (3, 1, 4, 3), (9, 1, 4, 4), (9, 4, 4, 3), (8, 4, 4, 2), (5, 0, 4, 4), (5, 2, 0, 0)],
)
def test_as_many_hosts_are_wanted_as_the_jobs_need_at_once(
    jobs: int, jobs_per_host: int, most: int, wanted: int
) -> None:
    assert wanted_hosts(jobs, jobs_per_host, most) == wanted


def test_as_many_hosts_are_wanted_as_the_largest_job_has_nodes() -> None:
    assert wanted_hosts(2, 4, 8, most_nodes=2) == 2
    assert wanted_hosts(9, 4, 8, most_nodes=2) == 3
    assert wanted_hosts(3, 1, 2, most_nodes=3) == 2
    assert wanted_hosts(0, 1, 2, most_nodes=3) == 0
