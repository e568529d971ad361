"""Everything that is looked at, in the order in which a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from elastic_hydra.doctor import cpus, gpus, leftovers, limits, memory, network, packages
from elastic_hydra.doctor.finding import Finding
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.resources.facts import facts_of_this_host

__all__ = ["examine"]


def examine() -> Iterator[Finding]:
    """Look at this host; findings come as soon as they are known."""
    yield from packages.look()
    facts = facts_of_this_host()
    yield from gpus.look(facts)
    yield from cpus.look(read_machine(), facts, cpus.profiles())
    yield from memory.look(facts)
    yield from network.look()
    yield from limits.look(facts)
    yield from leftovers.look()
