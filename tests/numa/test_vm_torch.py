"""torch's own workers on a machine with five NUMA nodes: threads, tensors and thread counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.numa import vm
from tests.numa.test_vm import assert_on

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(660)]


def test_spawned_and_forked_workers_compute_on_their_node(tmp_path):
    pytest.importorskip("torch")
    try:
        report = vm.boot(Path(__file__).parent / "guest_torch.py", seconds=600, torch=True)
    except vm.Unavailable as reason:
        pytest.skip(str(reason))
    for seen, cpus, node in zip(report["workers"], ("4-7", "12-15"), (1, 3), strict=True):
        assert_on(seen, cpus, f"bind:{node}", node)  # one mask for all threads, also OpenMP's
        assert seen["problems"] == []
        assert seen["threads"] == 2  # one per core of the node
        assert seen["tasks"] >= 2
