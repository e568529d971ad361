"""The launcher's own workers on a machine with five NUMA nodes: threads, tensors and thread counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.numa import vm
from tests.numa.test_vm import BLOCK

pytestmark = [pytest.mark.system, pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(660)]


def test_warm_and_spawned_workers_compute_on_their_node():
    pytest.importorskip("torch")
    try:
        report = vm.boot(Path(__file__).parent / "guest_torch.py", seconds=600, torch=True)
    except vm.Unavailable as reason:
        pytest.skip(str(reason))
    assert set(report["workers"]) == {"warm", "spawn"}, report
    for method in ("warm", "spawn"):
        for seen, cpus, node in zip(report["workers"][method], ("4-7", "12-15"), (1, 3), strict=True):
            assert seen["masks"] == [cpus]  # one for all threads, also OpenMP's
            assert seen["policy"] == f"bind:{node}"
            assert seen["pages"][str(node)] >= BLOCK  # the kernel may count neighbours of the tensor with it
            assert seen["threads"] == 2  # one per core of the node
            assert seen["tasks"] >= 2
