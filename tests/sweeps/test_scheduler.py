"""What the scheduler says: no processes, no files, and a clock that the tests move."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from elastic_hydra import timeouts
from elastic_hydra.config.resources import Demand
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.cpus import Cpu
from elastic_hydra.numa.nodes import Node
from elastic_hydra.numa.topology import Topology
from elastic_hydra.resources.gpu_memory import INTERVAL, Leaving
from elastic_hydra.resources.slots import Slot, Slots
from elastic_hydra.sweeps.failure_limit import FailureLimit
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.plan import planned_slots
from elastic_hydra.sweeps.scheduler import OVERTAKING_LIMIT, Scheduler, next_to_start
from elastic_hydra.sweeps.steps import Blocked, ComposeJob, Done, KillAgent, LeaveOut, StartJob, Step, StopAgent, Wait
from elastic_hydra.sweeps.stop import Order
from tests.config.settings import launch

LAUNCH = launch()
ONE_CPU = Demand(cpus=1)


def host(cpus: int = 4, *, gpus: int = 0, parallel: int | None = None, name: str = "here") -> Slots:
    """A host of one NUMA node."""
    every = frozenset(range(cpus))
    known = {cpu: Cpu(cpu, cpu, package=0, node=0, llc=0) for cpu in every}
    topology = Topology(known, {0: Node(0, every, 1 << 30, {0: 10})}, ())
    return Slots(topology, Allowance(every, frozenset([0])), [], gpus, 100, 1, parallel, name)


def attempt(num: int, demand: Demand = ONE_CPU, time_limit: float | None = None, not_before: float = 0.0) -> Attempt:
    keys = replace(LAUNCH.keys, watch=replace(LAUNCH.keys.watch, time_limit=time_limit), shutdown_timeout=30)
    job_launch = replace(LAUNCH, demand=demand, keys=keys)
    return Attempt(Job(num, [f"+x={num}"], OmegaConf.create(), job_launch, Path(str(num)), f"run-{num}"), 0, not_before)


def scheduler(
    *attempts: Attempt,
    slots: Slots | Mapping[str, Slots] | None = None,
    later: int = 0,
    stagger: float = 0.0,
    failures: FailureLimit | None = None,
) -> Scheduler:
    """A scheduler of some composed jobs, and of some that are not composed yet."""
    hosts = slots if isinstance(slots, Mapping) else {"here": slots or host()}
    planned = [(num, [f"+x={num}"]) for num in range(len(attempts) + later)]
    made = Scheduler(planned, HostSlots(hosts), stagger=stagger, failures=failures)
    for first in attempts:
        made.composed(first)
    return made


def started(step: Step) -> int:
    assert isinstance(step, StartJob), step
    return step.attempt.job.num


def names(step: StartJob) -> str:
    """Return the hosts on which a job starts."""
    return "+".join(slot.host for slot in step.slots)


def left_out(step: Step) -> list[int]:
    assert isinstance(step, LeaveOut), step
    return [attempt.job.num for attempt in step.attempts]


# --- room ---------------------------------------------------------------------------------------------------------


def test_as_many_jobs_start_as_there_is_room_for_and_the_next_when_one_has_ended() -> None:
    jobs = scheduler(*map(attempt, range(3)), slots=host(2))
    assert [started(jobs.next(0.0)) for _ in range(2)] == [0, 1]
    assert jobs.next(0.0) == Wait(None)
    jobs.ended(1)
    assert started(jobs.next(5.0)) == 2
    assert list(jobs.running) == [0, 2]
    assert jobs.starts == 3
    jobs.ended(0)
    jobs.ended(2)
    assert jobs.next(6.0) == Done()


def test_jobs_that_run_at_once_hold_different_parts_of_the_host() -> None:
    jobs = scheduler(*map(attempt, range(4)))
    slots = [slot for step in (jobs.next(0.0) for _ in range(4)) if isinstance(step, StartJob) for slot in step.slots]
    cpus = [cpu for slot in slots if slot.allowance is not None for cpu in slot.allowance.cpus]
    assert sorted(cpus) == [0, 1, 2, 3]


def test_the_first_in_the_queue_goes_first() -> None:
    chosen = next_to_start([Demand(cpus=2), Demand(cpus=1)], host(8).take, overtaken=0)
    assert chosen is not None
    assert chosen[0] == 0


def test_room_is_not_looked_for_again_for_what_the_first_in_the_queue_wants_too() -> None:
    asked: list[Demand] = []
    large, small = Demand(cpus=8), Demand(cpus=2)
    assert next_to_start([large, large, small, large], asked.append, overtaken=0) is None
    assert asked == [large, small]


def test_a_small_job_may_overtake_a_large_one_but_not_for_ever() -> None:
    slots = host(8)
    running = [slots.take(Demand(cpus=2))]
    queue = [Demand(cpus=8), Demand(cpus=1)]
    for overtaken in range(OVERTAKING_LIMIT):
        chosen = next_to_start(queue, slots.take, overtaken)
        assert chosen is not None
        assert chosen[0] == 1
        slots.give_back(chosen[1])
    assert next_to_start(queue, slots.take, OVERTAKING_LIMIT) is None
    assert running[0] is not None
    slots.give_back(running[0])
    chosen = next_to_start(queue, slots.take, OVERTAKING_LIMIT)
    assert chosen is not None
    assert chosen[0] == 0


def test_small_jobs_overtake_a_large_one_but_not_for_ever() -> None:
    small = [attempt(num) for num in range(2, 30)]
    jobs = scheduler(attempt(0), attempt(1, Demand(cpus=4)), *small)
    assert started(jobs.next(0.0)) == 0
    overtakers = []
    while isinstance(step := jobs.next(0.0), StartJob) or jobs.running.keys() - {0}:
        if isinstance(step, StartJob):
            overtakers.append(started(step))
        else:
            jobs.ended(next(num for num in jobs.running if num))
    assert overtakers == list(range(2, 2 + OVERTAKING_LIMIT))
    jobs.ended(0)
    assert started(jobs.next(0.0)) == 1


def test_slots_of_all_hosts_are_used_and_go_back_to_their_own() -> None:
    jobs = scheduler(*map(attempt, range(3)), slots={"a": host(1, name="a"), "b": host(1, name="b")})
    first, second = jobs.next(0.0), jobs.next(0.0)
    assert isinstance(first, StartJob)
    assert isinstance(second, StartJob)
    assert (names(first), names(second)) == ("a", "b")
    assert jobs.next(0.0) == Wait(None)
    jobs.ended(1)
    third = jobs.next(0.0)
    assert isinstance(third, StartJob)
    assert names(third) == "b"


# --- jobs of several nodes ----------------------------------------------------------------------------------------


def pair(num: int, nodes: int = 2) -> Attempt:
    return attempt(num, Demand(cpus=1, nodes=nodes))


def single_hosts(letters: str) -> dict[str, Slots]:
    """Hosts on each of which one job has room."""
    return {name: host(1, name=name) for name in letters}


def test_a_job_of_several_nodes_gets_a_slot_on_as_many_hosts_at_once_and_gives_them_back_together() -> None:
    jobs = scheduler(attempt(0), pair(1), attempt(2), slots=single_hosts("abc"))
    first, gang = jobs.next(0.0), jobs.next(0.0)
    assert isinstance(first, StartJob)
    assert isinstance(gang, StartJob)
    assert (names(first), names(gang)) == ("a", "b+c")
    assert jobs.next(0.0) == Wait(None)
    jobs.ended(1)
    last = jobs.next(1.0)
    assert isinstance(last, StartJob)
    assert names(last) == "b"


def test_a_job_of_several_nodes_holds_nothing_while_too_few_hosts_have_room() -> None:
    jobs = scheduler(attempt(0), pair(1), attempt(2), slots=single_hosts("ab"))
    assert [started(jobs.next(0.0)) for _ in range(2)] == [0, 2], "the host that it cannot use alone is used by others"
    jobs.ended(0)
    assert jobs.next(1.0) == Wait(None)
    jobs.ended(2)
    assert started(jobs.next(1.0)) == 1


def test_a_job_of_several_nodes_is_not_starved_by_small_ones() -> None:
    jobs = scheduler(attempt(0), pair(1, 3), *map(attempt, range(2, 40)), slots=single_hosts("abc"))
    order: list[int] = []
    for _ in range(100):
        step = jobs.next(0.0)
        if isinstance(step, StartJob):
            order.append(started(step))
        elif 1 in jobs.running:
            break
        else:
            jobs.ended(next(iter(jobs.running)))  # one host after the other becomes free, and never all at once
    assert order == [0, *range(2, 2 + OVERTAKING_LIMIT), 1]


def test_a_job_of_one_node_is_not_starved_by_jobs_of_several_nodes() -> None:
    whole_host = attempt(1, Demand(cpus=2))
    jobs = scheduler(pair(0), whole_host, *map(pair, range(2, 40)), slots={name: host(2, name=name) for name in "ab"})
    order: list[int] = []
    while 1 not in order:
        step = jobs.next(0.0)
        if isinstance(step, StartJob):
            order.append(started(step))
        else:
            jobs.ended(next(iter(jobs.running)))  # one pair after the other ends, and never both at once
    assert order == [0, *range(2, 2 + OVERTAKING_LIMIT), 1]


def test_a_batch_is_stuck_when_nothing_runs_and_no_host_could_serve_what_waits() -> None:
    jobs = scheduler(attempt(0), pair(1), later=1, slots=single_hosts("a"))
    assert started(jobs.next(0.0)) == 0
    assert not jobs.is_stuck(0.0), "a job runs"
    jobs.ended(0)
    assert not jobs.is_stuck(0.0), "one is not composed yet"
    jobs.composed(attempt(2))
    assert not jobs.is_stuck(0.0), "one fits"
    assert started(jobs.next(0.0)) == 2
    jobs.ended(2)
    assert jobs.is_stuck(0.0)
    jobs.hosts.add("b", host(1, name="b"))
    assert not jobs.is_stuck(0.0)


def test_a_job_with_more_nodes_than_hosts_waits_for_hosts_and_keeps_nobody_waiting() -> None:
    jobs = scheduler(pair(0, 3), *map(attempt, range(1, 30)), slots=single_hosts("ab"))
    for num in range(1, 30):
        assert started(jobs.next(0.0)) == num
        jobs.ended(num)
    assert jobs.next(0.0) == Wait(None)
    assert jobs.slots_wanted() == 3
    jobs.hosts.add("c", host(1, name="c"))
    assert started(jobs.next(1.0)) == 0


def test_the_nodes_of_a_job_that_are_left_when_one_has_failed_must_end_in_time() -> None:
    jobs = scheduler(pair(0), slots=single_hosts("ab"))
    assert started(jobs.next(0.0)) == 0
    jobs.node_failed(0, 100.0)
    deadline = 100.0 + timeouts.end_of_agent(30)
    assert jobs.next(100.0) == Wait(deadline)
    jobs.node_failed(0, 101.0)
    assert jobs.next(deadline) == KillAgent(0)
    assert jobs.next(deadline) == Wait(None)


# --- time ---------------------------------------------------------------------------------------------------------


def test_starts_are_staggered() -> None:
    jobs = scheduler(*map(attempt, range(2)), stagger=10.0)
    assert started(jobs.next(100.0)) == 0
    assert jobs.next(100.0) == Wait(110.0)
    assert jobs.pause(104.0) == 6.0
    assert jobs.next(109.9) == Wait(110.0)
    assert started(jobs.next(110.0)) == 1


def test_a_further_attempt_waits_for_its_time_and_then_goes_first() -> None:
    jobs = scheduler(*map(attempt, range(3)), slots=host(parallel=1))
    first = jobs.next(0.0)
    assert isinstance(first, StartJob)
    jobs.ended(0)
    jobs.try_again(first.attempt.following((1.0,), not_before=5.0))
    assert started(jobs.next(1.0)) == 1, "others need not wait for it"
    jobs.ended(1)
    again = jobs.next(5.0)
    assert isinstance(again, StartJob)
    assert (again.attempt.job.num, again.attempt.number, again.attempt.restarts) == (0, 1, (1.0,))
    assert again.attempt.began == 0.0, "the time of a job begins with its first attempt"
    assert started_after(jobs, 0, 6.0) == 2


def started_after(jobs: Scheduler, ended: int, now: float) -> int:
    jobs.ended(ended)
    return started(jobs.next(now))


def test_when_all_that_wait_are_not_to_start_yet_the_earliest_is_waited_for() -> None:
    jobs = scheduler(attempt(0, not_before=9.0), attempt(1, not_before=7.0))
    assert jobs.pause(2.0) == 5.0
    assert jobs.next(2.0) == Wait(7.0)
    assert started(jobs.next(7.0)) == 1
    assert jobs.next(7.0) == Wait(9.0)
    assert started(jobs.next(9.5)) == 0


def test_an_agent_that_does_not_see_to_the_time_limit_is_killed_once() -> None:
    jobs = scheduler(attempt(0, time_limit=60.0))
    assert started(jobs.next(1000.0)) == 0
    deadline = 1000.0 + 60.0 + 30 + timeouts.HANG_MARGIN  # its own limit, the end of its workers, and a margin
    assert jobs.next(1000.0) == Wait(deadline)
    assert jobs.next(deadline) == KillAgent(0)
    assert jobs.running[0].overdue
    assert jobs.next(deadline) == Wait(None)


# --- jobs that are composed late ----------------------------------------------------------------------------------


def test_jobs_are_composed_while_others_run_and_start_when_there_is_room() -> None:
    jobs = scheduler(attempt(0), slots=host(parallel=1), later=2)
    assert started(jobs.next(0.0)) == 0
    assert jobs.next(0.0) == ComposeJob(1, ["+x=1"])
    jobs.composed(attempt(1))
    assert jobs.next(0.0) == ComposeJob(2, ["+x=2"])
    jobs.ended(0)
    assert started(jobs.next(0.0)) == 1, "a start goes first"
    assert jobs.next(0.0) == ComposeJob(2, ["+x=2"]), "it is not forgotten"
    jobs.composed(attempt(2))
    assert jobs.next(0.0) == Wait(None)


def test_jobs_whose_recorded_end_counts_are_passed_over() -> None:
    jobs = scheduler(later=3)
    for _ in range(2):
        assert isinstance(jobs.next(0.0), ComposeJob)
        jobs.composed(None)
    jobs.composed(attempt(2))
    assert started(jobs.next(0.0)) == 2
    jobs.ended(2)
    assert jobs.next(0.0) == Done()
    assert jobs.size == 3


def test_when_a_job_is_refused_the_others_are_left_out_and_those_that_run_may_end() -> None:
    jobs = scheduler(*map(attempt, range(2)), slots=host(parallel=1), later=3)
    assert started(jobs.next(0.0)) == 0
    assert jobs.next(0.0) == ComposeJob(2, ["+x=2"])
    jobs.give_up("a job cannot be launched", forget_planned=True)
    step = jobs.next(0.0)
    assert left_out(step) == [1]
    assert isinstance(step, LeaveOut)
    assert step.reason == "a job cannot be launched"
    assert jobs.next(0.0) == Wait(None)
    jobs.ended(0)
    assert jobs.next(0.0) == Done()


# --- failures -----------------------------------------------------------------------------------------------------


def test_after_too_many_failures_the_rest_is_composed_and_left_out() -> None:
    failures = FailureLimit(max_failures="1")
    jobs = scheduler(*map(attempt, range(3)), slots=host(parallel=1), later=1, failures=failures)
    for num in (0, 1):
        assert started(jobs.next(0.0)) == num
        failures.count += 1
        jobs.ended(num)
    assert jobs.next(0.0) == ComposeJob(3, ["+x=3"])
    jobs.composed(attempt(3))
    assert left_out(jobs.next(0.0)) == [2, 3]
    assert jobs.given_up == "2 jobs have failed, and hydra.launcher.max_failures=1"
    assert jobs.next(0.0) == Done()


@pytest.mark.parametrize(
    ("on_failure", "max_failures", "size", "most"),
    [
        ("continue", None, 10, None),
        ("stop", None, 10, 0),
        ("stop", "5", 10, 0),
        ("continue", "0", 10, 0),
        ("continue", "3", 10, 3),
        ("continue", "0.25", 8, 2),
        ("continue", "0.25", 11, 2),
        ("continue", "0.1", 5, 0),
    ],
)
def test_so_many_jobs_may_fail(on_failure: str, max_failures: str | None, size: int, most: int | None) -> None:
    limit = FailureLimit(on_failure, max_failures)
    for count in range(size + 1):
        limit.count = count
        assert bool(limit.exceeded(size)) == (most is not None and count > most), count


def test_the_reason_names_the_key() -> None:
    assert FailureLimit("stop", count=1).exceeded(3) == "a job has failed, and hydra.launcher.on_failure=stop"
    assert FailureLimit(max_failures="0.5", count=2).exceeded(3).endswith("hydra.launcher.max_failures=0.5")


# --- what is in the way -------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_empty_yet_is_not_given_to_the_next_job() -> None:
    jobs = scheduler(*(attempt(num, Demand(gpus=1)) for num in range(2)), slots=host(gpus=1))
    first = jobs.next(0.0)
    assert isinstance(first, StartJob)
    leaving = Leaving(first.slots[0], {0: 0}, deadline=60.0)
    jobs.running[0].leaving.append(leaving)
    jobs.ended(0)
    assert jobs.next(1.0) == Wait(1.0 + INTERVAL)
    jobs.has_left(leaving)
    assert started(jobs.next(2.0)) == 1


def test_nothing_starts_while_something_is_in_the_way() -> None:
    jobs = scheduler(attempt(0), attempt(1), slots=host(parallel=1))
    full = Blocked("the disk is full")
    step = jobs.next(0.0, full)
    assert isinstance(step, Wait)
    assert step.until is not None
    assert 0.0 < step.until < 1.0
    assert started(jobs.next(1.0)) == 0
    lasting = Blocked("the disk is full", lasting=True)
    assert isinstance(jobs.next(1.0, lasting), Wait), "what runs may make room"
    jobs.ended(0)
    assert left_out(jobs.next(1.0, lasting)) == [1]
    assert jobs.next(1.0) == Done()


def test_a_job_that_could_not_be_started_is_where_it_was() -> None:
    jobs = scheduler(*map(attempt, range(3)), slots=host(parallel=1))
    assert started(jobs.next(3.0)) == 0
    jobs.not_started(0)
    assert [attempt.job.num for attempt in jobs.waiting] == [0, 1, 2]
    assert (jobs.running, jobs.starts) == ({}, 0)
    again = jobs.next(8.0)
    assert isinstance(again, StartJob)
    assert (again.attempt.job.num, again.attempt.number, again.attempt.began) == (0, 0, 3.0)


def test_an_interrupted_batch_knows_what_runs_and_what_waits() -> None:
    jobs = scheduler(*map(attempt, range(3)), slots=host(parallel=2), later=1)
    assert [started(jobs.next(0.0)) for _ in range(2)] == [0, 1]
    for num in list(jobs.running):  # all agents are stopped
        jobs.ended(num)
    assert [attempt.job.num for attempt in jobs.waiting] == [2]
    assert list(jobs.planned) == [(3, ["+x=3"])]


# --- whatever comes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(150))
def test_every_job_ends_once_nothing_is_held_twice_and_nothing_hangs(seed: int) -> None:
    Trial(random.Random(seed)).run()


class Trial:
    """A batch of random jobs on random hosts, which end, fail, come again or stay too long as the dice say."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.cpus = {name: dice.randint(1, 4) for name in dice.sample("abc", dice.randint(1, 3))}
        gpus = {name: dice.randint(0, 2) for name in self.cpus}
        hosts = HostSlots()
        for name, cpus in self.cpus.items():
            hosts.add(name, host(cpus, gpus=gpus[name], name=name), has_room(gpus[name], cpus))
        name = max(self.cpus, key=lambda name: (gpus[name], self.cpus[name]))
        self.largest = Demand(gpus=gpus[name], cpus=self.cpus[name])
        self.count = dice.randint(1, 12)
        self.failures = FailureLimit(dice.choice(["continue", "stop"]), dice.choice([None, "0", "2", "0.5"]))
        planned = [(num, [f"+x={num}"]) for num in range(self.count)]
        self.scheduler = Scheduler(planned, hosts, stagger=dice.choice([0.0, 3.0]), failures=self.failures)
        self.now = 0.0
        self.keeper = name
        """The host that stays, and that has room for each node of each job."""
        self.joined = 0
        self.drained: set[str] = set()
        self.held: dict[int, tuple[Slot, ...]] = {}
        self.over: list[int] = []

    def run(self) -> None:
        for _ in range(2000):
            assert len(self.held) == len(self.scheduler.running)
            self.change_hosts()
            blocked = Blocked("now and then", self.dice.random() < 0.1) if self.dice.random() < 0.1 else None
            step = self.scheduler.next(self.now, blocked)
            if step == Done():
                assert sorted(self.over) == list(range(self.count))
                return
            self.react(step)
        raise AssertionError("it has no end")

    def change_hosts(self) -> None:
        """Have a host come, drained, or lost with its jobs, which then are nobody's to give back."""
        if self.dice.random() < 0.05:
            self.join(0, self.dice.randint(1, 4))
        others = [name for name in self.cpus if name != self.keeper and name in self.scheduler.hosts]
        if others and self.dice.random() < 0.1:
            name = self.dice.choice(others)
            self.drained.add(name)
            self.scheduler.hosts.drain(name)
            if self.dice.random() < 0.5:
                for num in [num for num in self.held if self.scheduler.running[num].is_on(name)]:
                    self.end(num)
                self.scheduler.hosts.remove(name)

    def join(self, gpus: int, cpus: int) -> None:
        self.joined += 1
        name = f"n{self.joined}"
        self.cpus[name] = cpus
        self.scheduler.hosts.add(name, host(cpus, gpus=gpus, name=name), has_room(gpus, cpus))

    def react(self, step: Step) -> None:
        if isinstance(step, ComposeJob):
            self.compose(step.num)
        elif isinstance(step, StartJob):
            self.start(step)
        elif isinstance(step, LeaveOut):
            self.over += left_out(step)
        elif isinstance(step, KillAgent):
            self.end(step.num)
        elif isinstance(step, Wait):
            self.wait(step.until)

    def compose(self, num: int) -> None:
        if self.dice.random() < 0.1:
            self.scheduler.composed(None)
            self.over.append(num)
            return
        gpus, cpus = self.dice.randint(0, self.largest.gpus), self.dice.randint(1, self.largest.cpus or 1)
        limit, nodes = self.dice.choice([None, 5.0]), self.dice.choice([1, 1, 1, 2, 3])
        demand = Demand(gpus=gpus, cpus=cpus, nodes=nodes)
        self.scheduler.composed(attempt(num, demand, limit, self.now + self.dice.choice([0, 4])))

    def start(self, step: StartJob) -> None:
        num, slots = step.attempt.job.num, step.slots
        assert num not in self.held
        assert num not in self.over
        assert step.attempt.not_before <= self.now
        assert len(slots) == step.attempt.job.launch.demand.nodes == len({slot.host for slot in slots})
        assert not self.drained & {slot.host for slot in slots}
        for slot, other in itertools.product(slots, itertools.chain(*self.held.values())):
            if other.host == slot.host:
                assert not set(other.gpus) & set(slot.gpus)
                assert not self.cpus_of(other) & self.cpus_of(slot)
        if self.dice.random() < 0.1:
            self.scheduler.not_started(num)
        else:
            self.held[num] = slots

    def can_serve(self, waiting: Attempt) -> bool:
        return self.scheduler.hosts.can_serve(waiting.job.launch.demand)

    @staticmethod
    def cpus_of(slot: Slot) -> frozenset[int]:
        assert slot.allowance is not None
        return frozenset(slot.allowance.cpus)

    def wait(self, until: float | None) -> None:
        if until is None and not self.held:
            able = [attempt for attempt in self.scheduler.waiting if self.can_serve(attempt)]
            assert not able, "it would wait for ever"
            self.join(self.largest.gpus, self.largest.cpus or 1)
        if self.held and (until is None or self.dice.random() < 0.5):
            self.end(self.dice.choice(list(self.held)))
        elif until is not None:
            assert until > self.now, "it would not wait at all"
            self.now = until
        for leaving in list(self.scheduler.leaving):
            if self.dice.random() < 0.5:
                self.scheduler.has_left(leaving)

    def end(self, num: int) -> None:
        running = self.scheduler.running[num]
        last = running.attempt
        running.leaving += [Leaving(slot, {}, 0.0) for slot in self.held.pop(num) if self.dice.random() < 0.2]
        self.scheduler.ended(num)
        if self.dice.random() < 0.2:
            self.scheduler.try_again(last.following((), self.now + self.dice.choice([0.0, 2.5])))
            return
        self.over.append(num)
        self.failures.count += self.dice.random() < 0.2


def has_room(gpus: int, cpus: int) -> Callable[[Demand], bool]:
    return lambda demand: demand.gpus <= gpus and (demand.cpus or 0) <= cpus


# --- the dry run --------------------------------------------------------------------------------------------------


def test_a_dry_run_holds_what_a_run_holds_whose_jobs_end_in_the_order_of_their_starts() -> None:
    demands = [Demand(cpus=cpus) for cpus in (2, 3, 1, 4, 1)]
    run = scheduler(*map(attempt, range(5), demands), stagger=2.0)
    held, now = {}, 0.0
    while not isinstance(step := run.next(now), Done):
        if isinstance(step, StartJob):
            held[started(step)] = step.slots
        elif isinstance(step, Wait) and step.until is not None:
            now = step.until
        else:
            run.ended(next(iter(run.running)))
    planned = planned_slots(scheduler(*map(attempt, range(5), demands), stagger=2.0))
    assert planned == held
    assert list(planned) == list(held) == [0, 2, 4, 1, 3]


def test_a_dry_run_passes_over_time_limits_and_jobs_that_are_not_run_again() -> None:
    jobs = scheduler(*(attempt(num, time_limit=1.0) for num in range(3)), slots=host(2), stagger=500.0, later=1)
    jobs.composed(None)
    assert list(planned_slots(jobs)) == [0, 1, 2]


# --- told to stop -------------------------------------------------------------------------------------------------

WHY = Order(by="ann", reason="it diverges")


def test_a_running_job_is_told_to_stop_once_and_killed_if_it_does_not() -> None:
    jobs = scheduler(attempt(0), attempt(1))
    assert [started(jobs.next(0.0)) for _ in range(2)] == [0, 1]
    jobs.stop(0, WHY)
    jobs.stop(0, Order(by="bob"))
    assert jobs.next(3.0) == StopAgent(0, WHY)
    deadline = 3.0 + timeouts.end_of_agent(30)
    assert jobs.next(3.0) == Wait(deadline)
    assert jobs.next(deadline) == KillAgent(0)
    assert jobs.next(deadline) == Wait(None)
    assert jobs.running[0].order == WHY
    assert jobs.running[1].order is None


def test_a_waiting_job_that_is_told_to_stop_is_left_out_and_the_others_start() -> None:
    jobs = scheduler(*map(attempt, range(3)), slots=host(1))
    assert started(jobs.next(0.0)) == 0
    jobs.stop(1, WHY)
    step = jobs.next(0.0)
    assert left_out(step) == [1]
    assert isinstance(step, LeaveOut)
    assert step.reason == "stopped by ann (elastic-hydra stop: it diverges)"
    jobs.ended(0)
    assert started(jobs.next(1.0)) == 2


def test_a_job_that_is_not_composed_yet_is_composed_only_to_be_left_out() -> None:
    jobs = scheduler(later=1)
    jobs.stop(0, WHY)
    assert jobs.next(0.0) == ComposeJob(0, ["+x=0"])
    jobs.composed(attempt(0))
    assert left_out(jobs.next(0.0)) == [0]
    assert jobs.next(0.0) == Done()


def test_only_jobs_that_run_or_wait_can_be_told() -> None:
    jobs = scheduler(attempt(0), attempt(1), later=1, slots=host(1))
    assert started(jobs.next(0.0)) == 0
    assert jobs.known() == {0, 1, 2}
    jobs.ended(0)
    assert jobs.known() == {1, 2}
