"""Two launchers with one command: every job of the sweep is one group of workers on both nodes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.nodes.hosts import Host, Program

pytestmark = pytest.mark.system

Start = Callable[..., Program]

JOBS = ("steps=1,20,2", "fail_on='',b")


def check_jobs(*nodes: Program) -> None:
    """Check that jobs 1, 3 and 5 of `JOBS` failed on both nodes, and that the others gave rank 0's node the value."""
    for job in range(6):
        results = [node.results()[job] for node in nodes]
        if job % 2:
            assert all("error" in result for result in results)
            assert "ValueError: told to fail on b" in str(results)
            continue
        met = {e["host"]: e["rank"] for node in nodes for e in node.events("met", job=job, world=2)}
        assert sorted(met.values()) == [0, 1]
        assert [result["value"] for result in results] == [2 if met[node.host.name] == 0 else None for node in nodes]


def test_c10d(here: list[Host], start: Start, port: int) -> None:
    nodes = [start(host, *JOBS, endpoint=f"localhost:{port}") for host in here]
    assert [node.wait() for node in nodes] == [1, 1], nodes[0].output()
    check_jobs(*nodes)


def test_static(here: list[Host], start: Start, port: int) -> None:
    static = ("hydra/launcher/rendezvous=static",)
    nodes = [
        start(host, *JOBS, *static, f"hydra.launcher.rendezvous.node_rank={rank}", endpoint=f"localhost:{port}")
        for rank, host in enumerate(here)
    ]
    assert [node.wait() for node in nodes] == [1, 1], nodes[0].output()
    check_jobs(*nodes)
    assert all(node.results()[0]["value"] == value for node, value in zip(nodes, [2, None], strict=True))
