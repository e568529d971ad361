"""Which NUMA node each worker should be close to: that of its accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elastic_hydra.config.numa import Near, NumaConfig
from elastic_hydra.numa.errors import Refusal
from elastic_hydra.numa.topology import Device, Topology


@dataclass(frozen=True)
class Anchor:
    """The NUMA node that one worker should be on, and the reason."""

    node: int | None
    """A node with CPUs for the job; None: the worker is placed evenly."""
    why: str = ""
    """The reason, in words; empty when there is none."""
    device: Device | None = None
    """The worker's accelerator; None: it has none."""


def anchors(
    topology: Topology, cpus: frozenset[int], settings: NumaConfig, workers: int, devices: Sequence[Device]
) -> list[Anchor]:
    """The anchor of each worker; either all workers have a node, or none has.

    Worker i uses device i; with more workers than devices, the workers go through the devices again. A device whose
    node has no CPUs for the job (another cpuset, a memory-only node) stands for the nearest node that has some. A
    device whose node the firmware does not tell stands for no node at all, and in particular not for node 0.

    Args:
        topology: The machine.
        cpus: The job's CPUs.
        settings: `near` is read.
        workers: Workers on this host.
        devices: The accelerators that the workers see, by index.

    Returns:
        One anchor per local rank.

    Raises:
        NumaError: `near=gpu` and there is no device.
    """
    if settings.near == Near.gpu and not devices:
        raise Refusal("near", "gpu", "this job sees no accelerator")
    if settings.near == Near.none or not devices:
        return [Anchor(None)] * workers
    cores = {node: topology.cores(topology.nodes[node].cpus & cpus) for node in topology.nodes_of(cpus)}
    load = dict.fromkeys(cores, 0)
    device_of_rank = [devices[rank % len(devices)] for rank in range(workers)]
    if not any(device.node in topology.nodes for device in device_of_rank) or not cores:
        return [Anchor(None, _unknown(device) + ", placed evenly", device) for device in device_of_rank]
    anchor_of_rank: dict[int, Anchor] = {}
    # Workers whose node is known are placed first. The others then go where there is room.
    for rank in sorted(range(workers), key=lambda rank: device_of_rank[rank].node not in topology.nodes):
        anchor = _anchor(topology, device_of_rank[rank], cores, load)
        anchor_of_rank[rank] = anchor
        load[anchor.node or 0] = load.get(anchor.node or 0, 0) + 1
    return [anchor_of_rank[rank] for rank in range(workers)]


def _anchor(topology: Topology, device: Device, cores: dict[int, int], load: dict[int, int]) -> Anchor:
    def fullness(node: int) -> tuple[float, int]:
        return (load[node] / cores[node], node)

    note = f" ({device.note})" if device.note else ""
    if device.node not in topology.nodes or device.node is None:
        node = min(cores, key=fullness)
        return Anchor(node, f"{_unknown(device)}, node {node} has the fewest workers{note}", device)
    if device.node in cores:
        return Anchor(device.node, f"its GPU is on node {device.node}{note}", device)
    node = min(topology.nearest(device.node, cores), key=fullness)
    lacking = f"its GPU is on node {device.node}, which has no CPUs for this job"
    return Anchor(node, f"{lacking}: node {node} is nearest{note}", device)


def _unknown(device: Device) -> str:
    return f"the node of its GPU {device.address} is unknown"
