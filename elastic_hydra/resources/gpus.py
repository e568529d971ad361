"""The GPUs of this host: which are free, and which a job gets together with its CPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.assignment import assign, nearest
from elastic_hydra.numa.carve import slot_of
from elastic_hydra.numa.nearness import remoteness
from elastic_hydra.numa.topology import Topology
from elastic_hydra.numa.tree import union

__all__ = ["Gpus"]

_LOAD, _DISTANCE = 10**12, 10**3
"""What counts how much: one more job on a GPU before any distance, any distance before the order of equal choices."""


class Gpus:
    """Hands out GPUs, the idlest first, and of those the nearest.

    Args:
        topology: of the host.
        nodes: the NUMA node of each GPU; None where it is unknown.
        jobs_per_gpu: how many jobs may share a GPU.
    """

    def __init__(self, topology: Topology, nodes: Sequence[int | None], jobs_per_gpu: int) -> None:
        self._topology = topology
        self._nodes = nodes
        self._jobs_per_gpu = jobs_per_gpu
        self._jobs = [0] * len(nodes)
        self._parts: list[list[frozenset[int]]] = []

    @property
    def dealt(self) -> bool:
        """Whether the GPUs have CPUs of their own."""
        return bool(self._parts)

    @property
    def free(self) -> int:
        """How many GPUs have room for a job."""
        return len(self.idle())

    def idle(self) -> list[int]:
        """Return the GPUs that have room for a job."""
        return [gpu for gpu, jobs in enumerate(self._jobs) if jobs < self._jobs_per_gpu]

    def nodes_of(self, gpus: Sequence[int]) -> list[int | None]:
        """Return the node of each."""
        return [self._nodes[gpu] for gpu in gpus]

    def take(self, gpus: Sequence[int]) -> None:
        """Count a job more on each."""
        for gpu in gpus:
            self._jobs[gpu] += 1

    def give_back(self, gpus: Sequence[int]) -> None:
        """Count a job less on each."""
        for gpu in gpus:
            self._jobs[gpu] -= 1

    def deal(self, parts: Sequence[Allowance]) -> None:
        """Give each GPU CPUs of its own, the nearest that there are for all.

        Args:
            parts: one for each job that a GPU has room for.
        """
        owners = [gpu for gpu in range(len(self._nodes)) for _ in range(self._jobs_per_gpu)]
        far = {node: [remoteness(self._topology, part.cpus, node) for part in parts] for node in set(self._nodes)}
        order = assign([far[self._nodes[gpu]] for gpu in owners])
        self._parts = [[] for _ in self._nodes]
        for gpu, part in zip(owners, order, strict=True):
            self._parts[gpu].append(parts[part].cpus)

    def choose_near(self, count: int, places: Sequence[frozenset[int]], apart: bool) -> tuple[int, tuple[int, ...]]:
        """Choose one of several places for a job's CPUs, and its GPUs.

        Args:
            count: how many GPUs; there are as many free.
            places: the CPUs that the job could have, one place or more; the first of equally near ones is taken.
            apart: whether the others stay free for jobs like this one: then all those together are to be near.
        """
        far = {node: [remoteness(self._topology, place, node) for place in places] for node in set(self._nodes)}
        rows = [[far[node][place] for node in self._nodes] for place in range(len(places))]
        return self._choose(count, rows, apart, dict.fromkeys(self.idle(), 0))

    def choose_together(self, count: int, lacking: Mapping[int, int] | None = None) -> tuple[int, ...]:
        """Choose GPUs that are near each other.

        Args:
            count: how many; there are as many free.
            lacking: among which GPUs, and how many of its CPUs other jobs hold: of equally near ones those that lack
                fewer are taken. None: among all that are free.
        """
        among = lacking or dict.fromkeys(self.idle(), 0)
        nodes = [node for node in dict.fromkeys(self.nodes_of(list(among))) if node in self._topology.nodes]
        row = {node: [self._apart(node, other) for other in self._nodes] for node in nodes}
        centers = [row[node] for node in nodes for _ in range(max(1, len(among) // max(1, count)))]
        return self._choose(count, centers or [[0] * len(self._nodes)], bool(centers), among)[1]

    def choose_with_cpus(self, count: int, cores: int, free: Allowance) -> tuple[tuple[int, ...], Allowance] | None:
        """Choose GPUs that are near each other, and take the CPUs that were dealt to them.

        Other jobs may hold some of these: CPU-only ones, and those with a number of CPUs.

        Args:
            count: how many GPUs; there are as many free.
            cores: how many the job cannot do without, where its GPUs have more.
            free: what no other job holds.

        Returns:
            the GPUs and the CPUs; None while too few of these are free.
        """
        best = {gpu: max(self._parts[gpu], key=lambda part: len(part & free.cpus)) for gpu in self.idle()}
        each, count_cores = -(-max(1, cores) // count), self._topology.cores
        enough = {
            gpu: len(part - free.cpus)
            for gpu, part in best.items()
            if count_cores(part & free.cpus) >= min(each, count_cores(part))
        }
        if len(enough) < count:
            return None
        gpus = self.choose_together(count, enough)
        return gpus, slot_of(self._topology, free, union(best[gpu] for gpu in gpus) & free.cpus)

    def _apart(self, node: int | None, other: int | None) -> int:
        return 0 if node is None or other is None else 1000 * self._topology.distance(node, other)

    def _choose(
        self, count: int, far: Sequence[Sequence[int]], apart: bool, among: Mapping[int, int]
    ) -> tuple[int, tuple[int, ...]]:
        """The place and the GPUs; `far` tells how far each GPU is from each place, `among` what CPUs it lacks."""
        if not count:
            return 0, ()
        most = sorted(self._jobs[gpu] for gpu in among)[count - 1]
        idle = [gpu for gpu in among if self._jobs[gpu] <= most]
        # The idlest GPUs first. Where some are idler than others, this job takes all of these: nothing is left to look
        # ahead for.
        apart = apart and len({self._jobs[gpu] for gpu in idle}) == 1
        beside = Counter(self.nodes_of(idle))
        # Of equal GPUs those of the node with the fewest free ones, so that the other nodes stay whole for large jobs.
        order = {gpu: min(len(idle) * among[gpu] + beside[self._nodes[gpu]], _DISTANCE - 1) for gpu in idle}
        costs = [[self._jobs[gpu] * _LOAD + row[gpu] * _DISTANCE + order[gpu] for gpu in idle] for row in far]
        place, columns = nearest(costs, count, min(len(far), len(idle) // count) if apart else 1)
        return place, tuple(idle[column] for column in columns)
