"""Where nodes meet: what each backend needs, what it would ignore, and what goes to torch."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from elastic_hydra.config.nodes import Nodes
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.rendezvous import Rendezvous, RendezvousConfig, rendezvous_of
from tests.config.settings import CPU_HOST

ONE = Nodes(1, 1)
TWO = Nodes(2, 2)
SOME = Nodes(1, 3)


def meet(nodes: Nodes, backend: str, facts: Any = CPU_HOST, **settings: Any) -> tuple[Rendezvous, list[str]]:
    problems = Problems()
    found = rendezvous_of(RendezvousConfig(backend=backend, **settings), nodes, facts, problems)
    return found, [line.removeprefix("hydra.launcher.").removeprefix("rendezvous.") for line in problems.lines]


@pytest.mark.parametrize(
    ("nodes", "backend", "settings", "expected"),
    [
        (ONE, "local", {}, Rendezvous("local")),
        (ONE, "c10d", {}, Rendezvous("c10d", "127.0.0.1:0")),
        (ONE, "c10d", {"endpoint": "a:0"}, Rendezvous("c10d", "a:0")),
        (TWO, "c10d", {"endpoint": " a:65535 "}, Rendezvous("c10d", "a:65535")),
        (TWO, "c10d", {"endpoint": "a:1", "join_timeout": 5}, Rendezvous("c10d", "a:1", {"join_timeout": 5})),
        (TWO, "c10d", {"endpoint": "a:1", "is_host": True}, Rendezvous("c10d", "a:1", {"is_host": True})),
        (TWO, "static", {"endpoint": "a:1", "node_rank": 1}, Rendezvous("static", "a:1", {"rank": 1})),
        (ONE, "static", {"join_timeout": 5}, Rendezvous("static", "127.0.0.1:0", {"timeout": 5, "rank": 0})),
        (
            TWO,
            "etcd",
            {"endpoint": "a:1", "join_timeout": 5, "last_call_timeout": 6, "configs": {"prefix": "/x"}},
            Rendezvous("etcd", "a:1", {"prefix": "/x", "timeout": 5, "last_call_timeout": 6}),
        ),
        (TWO, "c10d", {"endpoint": "[::1]:29400"}, Rendezvous("c10d", "[::1]:29400")),
        (TWO, "etcd-v2", {"endpoint": "a:1", "read_timeout": 1}, Rendezvous("etcd-v2", "a:1", {"read_timeout": 1})),
    ],
)
def test_what_goes_to_torch(nodes: Nodes, backend: str, settings: dict[str, Any], expected: Rendezvous) -> None:
    assert meet(nodes, backend, **settings) == (expected, [])


KNOWN = "c10d, environment, etcd, etcd-v2, local, static"
ADDRESS = "must be HOST:PORT, the port a number below 65536"
LAST_CALL = (
    "must be less than rendezvous.join_timeout=5: the first node would give up while it still waits for more nodes; "
    "lower it, or raise rendezvous.join_timeout"
)


@pytest.mark.parametrize(
    ("nodes", "backend", "settings", "lines"),
    [
        (
            ONE,
            "locl",
            {},
            [f"backend=locl: must be one of {KNOWN} (did you mean local?)"],
        ),
        (ONE, "local", {"id": " "}, ["id='': must not be empty; null is the default"]),
        (ONE, "local", {"local_addr": ""}, ["local_addr='': must not be empty; null is the default"]),
        (
            SOME,
            "local",
            {},
            ["backend=local: is for one node, and nodes is up to 3: pick c10d, static, etcd or etcd-v2"],
        ),
        (
            TWO,
            "local",
            {},
            ["backend=local: is for one node, and nodes is up to 2: pick c10d, static, etcd or etcd-v2"],
        ),
        (
            ONE,
            "local",
            {"endpoint": "a:1"},
            ["endpoint=a:1: local has none: pick c10d, static, etcd or etcd-v2, or drop it"],
        ),
        (ONE, "local", {"join_timeout": 5}, ["join_timeout=5: the backend local would ignore it; it reads none"]),
        (ONE, "local", {"configs": {"timeout": 5}}, ["configs.timeout=5: the backend local would ignore it"]),
        (
            ONE,
            "c10d",
            {"configs": {"timeout": 5}},
            [
                "configs.timeout=5: the backend c10d would ignore it; set hydra.launcher.rendezvous.join_timeout",
            ],
        ),
        (TWO, "c10d", {}, ["endpoint='': c10d needs the HOST:PORT where the nodes meet, the same on every node"]),
        (TWO, "static", {"node_rank": 0}, ["endpoint='': static needs node 0's HOST:PORT, the same on every node"]),
        (ONE, "etcd", {}, ["endpoint='': etcd needs the HOST:PORT where the nodes meet, the same on every node"]),
        (TWO, "c10d", {"endpoint": "a"}, [f"endpoint=a: {ADDRESS}"]),
        (TWO, "c10d", {"endpoint": ":1"}, [f"endpoint=:1: {ADDRESS}"]),
        (TWO, "c10d", {"endpoint": "a:b"}, [f"endpoint=a:b: {ADDRESS}"]),
        (TWO, "c10d", {"endpoint": "a:65536"}, [f"endpoint=a:65536: {ADDRESS}"]),
        (
            TWO,
            "c10d",
            {"endpoint": "a:0"},
            ["endpoint=a:0: port 0 means any free port, which the other nodes cannot know"],
        ),
        (TWO, "c10d", {"endpoint": "a:1", "join_timeout": 0}, ["join_timeout=0: must be 1 or more"]),
        *(
            (
                SOME,
                backend,
                {"endpoint": "a:1", "join_timeout": 5, "last_call_timeout": 5},
                [
                    f"last_call_timeout=5: {LAST_CALL}",
                ],
            )
            for backend in ("c10d", "etcd", "etcd-v2")
        ),
        (SOME, "c10d", {"endpoint": "a:1", "join_timeout": 5, "last_call_timeout": 4}, []),
        (SOME, "c10d", {"endpoint": "a:1", "last_call_timeout": 9}, []),
        (
            TWO,
            "c10d",
            {"endpoint": "a:1", "node_rank": 0},
            ["node_rank=0: only static has node ranks; c10d hands them out"],
        ),
        (TWO, "static", {"endpoint": "a:1"}, ["node_rank=null: static needs it on every node: 0 to 1"]),
        (TWO, "static", {"endpoint": "a:1", "node_rank": 2}, ["node_rank=2: must be 0 to 1"]),
        (TWO, "static", {"endpoint": "a:1", "node_rank": -1}, ["node_rank=-1: must be 0 to 1"]),
        (
            SOME,
            "static",
            {"endpoint": "a:1", "node_rank": 2},
            ["nodes=1:3: static has a fixed number of nodes; pick c10d, etcd or etcd-v2"],
        ),
        (
            TWO,
            "static",
            {"endpoint": "a:1", "node_rank": 0, "is_host": True},
            ["is_host=true: the backend static would ignore it; it reads join_timeout"],
        ),
    ],
)
def test_what_is_missing_wrong_or_would_be_ignored(
    nodes: Nodes, backend: str, settings: dict[str, Any], lines: list[str]
) -> None:
    assert meet(nodes, backend, **settings)[1] == lines


def test_a_client_that_is_not_installed_is_named() -> None:
    without = dataclasses.replace(CPU_HOST, has_etcd=False)
    _, lines = meet(TWO, "etcd", without, endpoint="a:1")
    assert lines == ["backend=etcd: needs etcd's client: pip install python-etcd"]
    assert meet(TWO, "c10d", without, endpoint="a:1")[1] == []


def test_of_a_backend_that_somebody_else_has_registered_little_is_asked() -> None:
    registered = dataclasses.replace(CPU_HOST, backends=["theirs"], has_etcd=False)
    settings: dict[str, Any] = {"join_timeout": 5, "configs": {"timeout": 6}}
    expected = Rendezvous("theirs", "", {"join_timeout": 5, "timeout": 6})
    assert meet(TWO, "theirs", registered, **settings) == (expected, [])
