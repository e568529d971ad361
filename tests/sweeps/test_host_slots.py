"""Slots of several hosts: which host a job gets, and what happens when hosts come and go."""

from __future__ import annotations

import pytest

from elastic_hydra.config.resources import Demand
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.scheduler import OVERTAKING_LIMIT
from elastic_hydra.sweeps.steps import Done, Wait
from tests.sweeps.test_scheduler import attempt, host, scheduler, started

ONE, TWO, FOUR = Demand(cpus=1), Demand(cpus=2), Demand(cpus=4)
LISTED = Demand(listed=("7",))
"""CPU 7, which hosts of four CPUs do not have: they raise NumaError."""


def names(hosts: HostSlots, *demands: Demand) -> list[str]:
    taken = [hosts.take(demand) for demand in demands]
    return ["-" if slots is None else "+".join(slot.host for slot in slots) for slots in taken]


def test_small_jobs_fill_the_host_with_the_least_room_and_leave_the_others_whole() -> None:
    hosts = HostSlots({"a": host(4, name="a"), "b": host(2, name="b"), "c": host(4, name="c")})
    assert names(hosts, ONE, ONE, ONE, ONE) == ["b", "b", "a", "a"]
    assert names(hosts, FOUR, TWO, ONE) == ["c", "a", "-"]


def test_a_job_without_gpus_goes_where_gpus_are_not_wasted() -> None:
    hosts = HostSlots({"g": host(4, gpus=2, name="g"), "c": host(4, name="c")})
    assert names(hosts, ONE, Demand(gpus=1, cpus=1), Demand(gpus=1, cpus=1)) == ["c", "g", "g"]


def test_what_one_host_can_never_give_another_one_gives() -> None:
    hosts = HostSlots({"small": host(4, name="small"), "large": host(8, name="large")})
    assert names(hosts, LISTED, LISTED) == ["large", "-"]


def test_what_no_host_can_ever_give_is_an_error() -> None:
    with pytest.raises(NumaError):
        HostSlots({"a": host(4, name="a"), "b": host(2, name="b")}).take(LISTED)


def test_nothing_starts_on_a_drained_host_and_what_it_gets_back_is_kept() -> None:
    hosts = HostSlots({"a": host(2, name="a"), "b": host(4, name="b")})
    slots = hosts.take(ONE)
    assert slots is not None
    assert [slot.host for slot in slots] == ["a"]
    hosts.drain("a")
    assert names(hosts, ONE) == ["b"]
    hosts.give_back(slots)
    hosts.remove("a")
    assert "a" not in hosts
    assert names(hosts, ONE) == ["b"]


def test_the_nodes_of_a_job_are_different_hosts_the_fullest_that_have_room() -> None:
    hosts = HostSlots({"a": host(4, name="a"), "b": host(2, name="b"), "c": host(1, name="c")})
    pair, three = Demand(cpus=1, nodes=2), Demand(cpus=2, nodes=3)
    assert names(hosts, three, pair, pair, pair) == ["-", "c+b", "b+a", "-"]
    assert names(hosts, Demand(cpus=3)) == ["a"], "what did not suffice for a job was given back"
    assert not hosts.can_serve(Demand(cpus=1, nodes=4))


def test_a_slot_of_a_host_that_is_gone_is_nobodys() -> None:
    hosts = HostSlots({"a": host(2, name="a")})
    slots = hosts.take(TWO)
    assert slots is not None
    hosts.remove("a")
    hosts.give_back(slots)
    assert names(hosts, ONE) == ["-"]
    hosts.add("a", host(2, name="a"))
    assert names(hosts, TWO, ONE) == ["a", "-"]


def test_a_slot_of_a_host_that_was_lost_is_not_given_back_to_the_one_that_has_come_in_its_place() -> None:
    hosts = HostSlots({"a": host(2, name="a", parallel=1)})
    lost = hosts.take(Demand())
    assert lost is not None
    assert hosts.holds(lost[0])
    hosts.remove("a")
    hosts.add("a", host(2, name="a", parallel=1))
    held = hosts.take(Demand())
    assert held == lost
    assert held is not None
    assert hosts.holds(held[0])
    assert not hosts.holds(lost[0])
    hosts.give_back(lost)
    assert names(hosts, Demand()) == ["-"], "two jobs would run there at once"
    hosts.give_back(held)
    assert names(hosts, Demand(), Demand()) == ["a", "-"]


def test_one_name_is_one_host() -> None:
    hosts = HostSlots({"a": host(2, name="a")})
    with pytest.raises(ValueError, match="host a is there already"):
        hosts.add("a", host(2, name="a"))


def test_what_can_be_served_changes_with_the_hosts() -> None:
    hosts = HostSlots()
    assert not hosts.can_serve(ONE)
    hosts.add("a", host(2, name="a"), lambda demand: demand != FOUR)
    assert hosts.can_serve(ONE)
    assert not hosts.can_serve(FOUR)
    hosts.add("b", host(4, name="b"))
    assert hosts.can_serve(FOUR)
    hosts.drain("b")
    assert not hosts.can_serve(FOUR)


def test_a_job_that_no_host_can_serve_keeps_nobody_waiting_and_starts_when_its_host_has_come() -> None:
    jobs = scheduler(attempt(0, FOUR), *(attempt(num) for num in range(1, 2 * OVERTAKING_LIMIT + 1)), slots={})
    assert jobs.next(0.0) == Wait(None)
    jobs.hosts.add("small", host(1, name="small"), lambda demand: demand == ONE)
    for num in range(1, 2 * OVERTAKING_LIMIT + 1):
        assert started(jobs.next(0.0)) == num
        jobs.ended(num)
    assert jobs.next(0.0) == Wait(None)
    jobs.hosts.add("large", host(4, name="large"))
    assert started(jobs.next(0.0)) == 0
    jobs.ended(0)
    assert jobs.next(0.0) == Done()


def test_a_large_job_is_not_starved_by_small_ones_on_several_hosts() -> None:
    large = 5
    demands = [FOUR if num == large else ONE for num in range(40)]
    jobs = scheduler(*map(attempt, range(40), demands), slots={name: host(4, name=name) for name in "ab"})
    order: list[int] = []
    while not isinstance(step := jobs.next(0.0), Done):
        if isinstance(step, Wait):
            jobs.ended(next(iter(jobs.running)))
        else:
            order.append(started(step))
    assert sorted(order) == list(range(40))
    assert order.index(large) == large + OVERTAKING_LIMIT
