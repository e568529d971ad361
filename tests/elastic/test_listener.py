"""Stores listen where their clients look for them, and nowhere else."""

from __future__ import annotations

import logging
import socket

import psutil
import pytest
from torch.distributed import TCPStore

from elastic_hydra.elastic.rendezvous import store_process
from elastic_hydra.elastic.rendezvous.listener import listen, store_at

pytestmark = pytest.mark.system


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])
def test_a_socket_is_bound_to_the_address_of_the_name(host: str, address: str) -> None:
    with listen(host, 0) as listener:
        assert listener.getsockname()[0] == address


def _names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: list(found))


@pytest.mark.parametrize(
    ("host", "addresses", "bound"),
    [
        ("localhost", ["::1", "127.0.0.1"], "127.0.0.1"),
        ("node0", ["127.0.1.1"], "0.0.0.0"),  # as Debian has it in /etc/hosts
        ("forwarded", ["203.0.113.7"], "0.0.0.0"),  # of a documentation network: nobody has it
    ],
)
def test_all_addresses_are_used_only_where_one_does_not_do_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, host: str, addresses: list[str], bound: str
) -> None:
    _names(monkeypatch, *addresses)
    with caplog.at_level(logging.WARNING), listen(host, 0) as listener:
        assert listener.getsockname()[0] == bound
    assert ("listens at all addresses" in caplog.text) == (bound == "0.0.0.0")


def test_a_port_that_is_taken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.smoke
def test_the_store_of_a_worker_group_is_at_its_address_only() -> None:
    made = store_at("127.0.0.3")
    TCPStore("127.0.0.3", made.port, is_master=False).set("key", "value")
    assert made.get("key") == b"value"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", made.port))


def test_the_store_of_a_sweep_is_at_the_endpoint_only() -> None:
    with listen("127.0.0.2", 0) as free:
        port = free.getsockname()[1]
    assert store_process.host_store("127.0.0.2", port, True)
    process = store_process._hosted.pop(("127.0.0.2", port))
    try:
        store_process.wait_for_store("127.0.0.2", port, 120.0)
        found = psutil.Process(process.pid)
        connections = getattr(found, "net_connections", None) or found.connections
        listening = [one.laddr.ip for one in connections("tcp") if one.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.2"]
        TCPStore("127.0.0.2", port, is_master=False).set("key", "value")
    finally:
        process.communicate(timeout=60)
