"""One node fails, is stopped, or is not what the other expects: the other notices, says why, and goes on."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable

import pytest

from tests.nodes.hosts import Host, Program

pytestmark = pytest.mark.system

Start = Callable[..., Program]

STATIC = ("hydra/launcher/rendezvous=static", "hydra.launcher.rendezvous.node_rank={}")


def both(start: Start, here: list[Host], *overrides: str, **settings: str) -> list[Program]:
    """Start the same command on both nodes; `{}` in an override is the node's number."""
    return [start(host, *(o.format(n) for o in overrides), **settings) for n, host in enumerate(here)]


def first_hosts(start: Start, here: list[Host], port: int, *overrides: str) -> list[Program]:
    """Start jobs that hang, until they do; the first node hosts the store, which therefore outlives the second."""
    hosts = [f"hydra.launcher.rendezvous.is_host={answer}" for answer in ("true", "false")]
    words, where = ("what=hang", *overrides), f"localhost:{port}"
    nodes = [start(host, *words, one, endpoint=where) for host, one in zip(here, hosts, strict=True)]
    for node in nodes:
        node.wait_for_event("alone")
    return nodes


@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_a_worker_fails_while_the_other_hangs(here: list[Host], start: Start, port: int, backend: str) -> None:
    choice = STATIC if backend == "static" else ()
    nodes = both(start, here, "what=hang,meet", "fail_on=b", "steps=1", *choice, endpoint=f"localhost:{port}")
    hanging, failing = nodes
    failed = failing.wait_for_event("result", job=0)
    noticed = hanging.wait_for_event("result", job=0)
    assert "ValueError: told to fail on b" in failed["error"]
    assert "ValueError: told to fail on b" in noticed["error"]
    assert [node.wait() for node in nodes] == [1, 1]
    assert all("told to fail on b" in str(node.results()[1]) for node in nodes[1:])


@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_a_node_that_is_done_follows_a_restart(here: list[Host], start: Start, port: int, backend: str) -> None:
    choice = STATIC if backend == "static" else ()
    nodes = both(
        start, here, "what=once", "fail_on=b", "hydra/launcher/retry=restart", *choice, endpoint=f"localhost:{port}"
    )
    assert [node.wait() for node in nodes] == [0, 0], nodes[0].output() + nodes[1].output()
    assert [len(node.events("once")) for node in nodes] == [2, 2]


def test_ctrl_c_on_one_node(here: list[Host], start: Start, port: int) -> None:
    first, second = first_hosts(start, here, port)
    second.signal(signal.SIGINT)
    result = first.wait_for_event("result", job=0)
    assert f"host {socket.gethostname()} was told to stop by SIGINT" in result["error"]
    assert first.wait() == 1
    assert "#0 interrupted after" in first.output()
    assert second.wait() in (130, -signal.SIGINT)


def test_all_nodes_make_a_further_attempt_at_a_job_that_one_was_preempted_in(
    here: list[Host], start: Start, port: int
) -> None:
    first, second = first_hosts(start, here, port, "hydra.launcher.retry.max_attempts=2")
    moment = second.signal_agent(signal.SIGUSR1)
    for node in (first, second):
        node.wait_for_event("alone", after=moment)
        assert "was told to stop by SIGUSR1; tried again at once: attempt 2 of 2" in node.output()


def test_a_static_group_ends_with_a_preempted_node(here: list[Host], start: Start, port: int) -> None:
    restarts = "hydra.launcher.retry.max_restarts=1"
    first, second = both(start, here, "what=hang", restarts, *STATIC, endpoint=f"localhost:{port}")
    for node in (first, second):
        node.wait_for_event("alone")
    second.signal_agent(signal.SIGTERM)
    assert [first.wait(), second.wait()] == [1, 1]
    assert "SIGTERM; not restarted: a static rendezvous takes no node back" in first.output()
    assert all("#0 preempted after" in node.output() for node in (first, second))


def test_an_agent_is_lost_while_the_other_hangs(here: list[Host], start: Start, port: int) -> None:
    first, second = first_hosts(start, here, port)
    moment = second.kill_agent()
    result = first.wait_for_event("result", job=0)
    print(f"noticed after {result['at'] - moment:.1f} s")
    assert "the job lost a node: no sign of life from node " in result["error"]
    assert [first.wait(), second.wait()] == [1, 1]


def test_a_node_comes_after_the_end(here: list[Host], start: Start, port: int) -> None:
    settings = {"endpoint": f"localhost:{port}", "nodes": "1:2"}
    overrides = ("what=alone,train", "steps=100000")
    first = start(here[0], *overrides, **settings)
    first.wait_for_event("training", world=1)
    second = start(here[1], *overrides, **settings)
    second.wait_for_event("training", world=2)
    assert "is closed: the job has ended on another node" in second.results()[0]["error"]
    (first.folder.parent / "checkpoint.stop").touch()
    assert [first.wait(), second.wait()] == [0, 1]


def test_the_host_of_the_store_starts_last(here: list[Host], start: Start, port: int) -> None:
    no_host = "hydra.launcher.rendezvous.is_host=false"
    second = start(here[1], no_host, endpoint=f"localhost:{port}")
    second.wait_for_line(r"waiting for the store at localhost:\d+ .*refused")
    first = start(here[0], endpoint=f"localhost:{port}")
    assert [first.wait(), second.wait()] == [0, 0], second.output()


def test_no_store(here: list[Host], start: Start, port: int) -> None:
    node = start(
        here[0],
        "hydra.launcher.rendezvous.is_host=false",
        "hydra.launcher.rendezvous.join_timeout=2",
        endpoint=f"localhost:{port}",
    )
    assert node.wait() == 2
    assert f"hydra.launcher.rendezvous.endpoint=localhost:{port}: no store there after 2 s" in node.output()


def test_something_else_has_the_port(here: list[Host], start: Start, port: int) -> None:
    code = f"import http.server as h; h.HTTPServer(('', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    start(here[0], make=lambda host, folder: Program(host, folder, [sys.executable, "-c", code]))
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
    node = start(here[0], endpoint=f"localhost:{port}")
    assert node.wait() == 2
    assert "the program that listens there is no store of torch" in node.output()


def test_a_node_rank_twice(here: list[Host], start: Start, port: int) -> None:
    static = ("hydra/launcher/rendezvous=static",)
    ranks = [f"hydra.launcher.rendezvous.node_rank={rank}" for rank in (0, 1, 1)]
    nodes = [
        start(host, *static, rank, endpoint=f"localhost:{port}", nodes="3")
        for host, rank in zip([*here, here[1]], ranks, strict=True)
    ]
    assert [node.wait() for node in nodes] == [1, 1, 1]
    said = "".join(node.results()[0]["error"] for node in nodes)
    assert "node rank 1 is taken (host " in said
    assert "is closed: the job has ended on another node" in nodes[0].results()[0]["error"]


def test_different_commands(here: list[Host], start: Start, port: int) -> None:
    settings = {"endpoint": f"localhost:{port}"}
    short = "hydra.launcher.rendezvous.join_timeout=5"
    nodes = [start(host, f"steps={steps}", short, **settings) for host, steps in zip(here, (1, 2), strict=True)]
    assert [node.wait() for node in nodes] == [1, 1]
    for node in nodes:
        assert "fewer than 2 nodes came to localhost" in node.results()[0]["error"]
        assert "start all nodes with the same command" in node.results()[0]["error"]
