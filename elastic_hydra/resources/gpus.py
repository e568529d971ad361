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
"""Weights in the cost of a GPU: one job more on a GPU outweighs any distance, and any distance outweighs the order of
equal choices."""


class Gpus:
    """Hands out GPUs: those with the fewest jobs first, and among these the nearest.

    Args:
        topology: the host.
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
        """Whether each GPU has CPUs that belong to it."""
        return bool(self._parts)

    @property
    def free(self) -> int:
        """How many GPUs have room for a job."""
        return len(self.idle())

    def idle(self) -> list[int]:
        """Return the GPUs that have room for a job."""
        return [gpu for gpu, jobs in enumerate(self._jobs) if jobs < self._jobs_per_gpu]

    def nodes_of(self, gpus: Sequence[int]) -> list[int | None]:
        """Return the NUMA node of each GPU; None where it is unknown."""
        return [self._nodes[gpu] for gpu in gpus]

    def take(self, gpus: Sequence[int]) -> None:
        """Count one job more on each GPU."""
        for gpu in gpus:
            self._jobs[gpu] += 1

    def give_back(self, gpus: Sequence[int]) -> None:
        """Count one job less on each GPU."""
        for gpu in gpus:
            self._jobs[gpu] -= 1

    def deal(self, parts: Sequence[Allowance]) -> None:
        """Give CPUs to each GPU, so that all GPUs together are as near as possible to their CPUs.

        Args:
            parts: the CPUs to give, one part for each job that each GPU has room for.
        """
        owners = [gpu for gpu in range(len(self._nodes)) for _ in range(self._jobs_per_gpu)]
        distances = {node: [remoteness(self._topology, part.cpus, node) for part in parts] for node in set(self._nodes)}
        order = assign([distances[self._nodes[gpu]] for gpu in owners])
        self._parts = [[] for _ in self._nodes]
        for gpu, part in zip(owners, order, strict=True):
            self._parts[gpu].append(parts[part].cpus)

    def choose_near(self, count: int, places: Sequence[frozenset[int]], apart: bool) -> tuple[int, tuple[int, ...]]:
        """Choose one of several places for a job's CPUs, and its GPUs.

        Args:
            count: how many GPUs the job has; as many must be free.
            places: the CPUs that the job could have, one place or more. Of equally near places the first one is taken.
            apart: whether further jobs like this one may get the other places. Then the choice is made so that all
                these jobs together have their GPUs near.

        Returns:
            the index of the place, and the GPUs.
        """
        distances = {node: [remoteness(self._topology, place, node) for place in places] for node in set(self._nodes)}
        rows = [[distances[node][place] for node in self._nodes] for place in range(len(places))]
        return self._choose(count, rows, apart, dict.fromkeys(self.idle(), 0))

    def choose_together(self, count: int, lacking: Mapping[int, int] | None = None) -> tuple[int, ...]:
        """Choose GPUs that are near each other.

        Args:
            count: how many GPUs; as many must be free.
            lacking: the GPUs to choose from, each with the number of its CPUs that other jobs hold. Of equally near
                GPUs, those that lack fewer CPUs are taken. None: all free GPUs.
        """
        candidates = lacking or dict.fromkeys(self.idle(), 0)
        nodes = [node for node in dict.fromkeys(self.nodes_of(list(candidates))) if node in self._topology.nodes]
        distances = {node: [self._apart(node, gpu_node) for gpu_node in self._nodes] for node in nodes}
        centers = [distances[node] for node in nodes for _ in range(max(1, len(candidates) // max(1, count)))]
        return self._choose(count, centers or [[0] * len(self._nodes)], bool(centers), candidates)[1]

    def choose_with_cpus(self, count: int, cores: int, free: Allowance) -> tuple[tuple[int, ...], Allowance] | None:
        """Choose GPUs that are near each other, and take the CPUs that belong to them.

        Other jobs may hold some of these CPUs: jobs without GPUs, and jobs that ask for a number of CPUs.

        Args:
            count: how many GPUs; as many must be free.
            cores: physical cores that the job cannot do without. Where fewer cores belong to its GPUs, all of these.
            free: what no other job holds.

        Returns:
            the GPUs and the CPUs; None while too few CPUs are free.
        """
        best_part = {gpu: max(self._parts[gpu], key=lambda part: len(part & free.cpus)) for gpu in self.idle()}
        cores_per_gpu = -(-max(1, cores) // count)
        count_cores = self._topology.cores
        lacking = {
            gpu: len(part - free.cpus)
            for gpu, part in best_part.items()
            if count_cores(part & free.cpus) >= min(cores_per_gpu, count_cores(part))
        }
        if len(lacking) < count:
            return None
        gpus = self.choose_together(count, lacking)
        return gpus, slot_of(self._topology, free, union(best_part[gpu] for gpu in gpus) & free.cpus)

    def _apart(self, node: int | None, other_node: int | None) -> int:
        return 0 if node is None or other_node is None else 1000 * self._topology.distance(node, other_node)

    def _choose(
        self, count: int, distances: Sequence[Sequence[int]], apart: bool, lacking: Mapping[int, int]
    ) -> tuple[int, tuple[int, ...]]:
        """Choose a place and GPUs.

        Args:
            count: how many GPUs.
            distances: a row for each place, with the distance of each GPU from it.
            apart: whether further jobs like this one may get the other places.
            lacking: the GPUs to choose from, each with the number of its CPUs that other jobs hold.
        """
        if not count:
            return 0, ()
        most = sorted(self._jobs[gpu] for gpu in lacking)[count - 1]
        idle = [gpu for gpu in lacking if self._jobs[gpu] <= most]
        # GPUs with the fewest jobs come first. If their numbers of jobs differ, this job takes all of those with fewer
        # jobs, so that none of these is left for further jobs to look ahead for.
        apart = apart and len({self._jobs[gpu] for gpu in idle}) == 1
        beside = Counter(self.nodes_of(idle))
        # Of equal GPUs, those on the node with the fewest free GPUs come first: other nodes stay whole for large jobs.
        order = {gpu: min(len(idle) * lacking[gpu] + beside[self._nodes[gpu]], _DISTANCE - 1) for gpu in idle}
        costs = [[self._jobs[gpu] * _LOAD + row[gpu] * _DISTANCE + order[gpu] for gpu in idle] for row in distances]
        place, columns = nearest(costs, count, min(len(distances), len(idle) // count) if apart else 1)
        return place, tuple(idle[column] for column in columns)
