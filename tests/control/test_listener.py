"""The launcher's end of the control socket, with clients of all kinds; both ends are in this process."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
from collections.abc import Iterator

import pytest

from elastic_hydra.control.client import ControlError, ask
from elastic_hydra.control.listener import ControlSocket
from elastic_hydra.control.requests import Request
from elastic_hydra.journal.events import SweepBegan


@pytest.fixture
def control() -> Iterator[ControlSocket]:
    made = ControlSocket()
    yield made
    made.close()


def client(control: ControlSocket, says: bytes = b"") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10.0)
    sock.connect(f"\0{control.name}")
    sock.sendall(says)
    return sock


def serve(control: ControlSocket) -> None:
    """Accept those that wait, then hear what they have said."""
    for _ in range(2):
        control.serve()


def answer(sock: socket.socket) -> dict[str, object]:
    with sock, sock.makefile("rb") as file:
        said: dict[str, object] = json.loads(file.readline())
        assert file.read() == b"", "one line, and the launcher is done with it"
    return said


def test_a_request_waits_until_it_is_taken_and_is_answered_once(control: ControlSocket) -> None:
    asking = client(control, Request("stop", (1, 2), "it\n diverges").encode())
    assert not control.has_requests
    serve(control)
    assert control.has_requests
    (asked,) = control.take()
    assert asked.request == Request("stop", (1, 2), "it diverges")
    assert not control.has_requests
    asked.answer(running=[1])
    assert answer(asking) == {"running": [1]}


def test_a_reason_has_nothing_that_cannot_be_written_everywhere(control: ControlSocket) -> None:
    asking = client(control, Request("stop", (), "b\udcffad \x1b[31mred\n é").encode())
    serve(control)
    (asked,) = control.take()
    assert asked.request.reason == "bad [31mred é"
    asking.close()


def test_a_request_that_comes_in_pieces_is_one(control: ControlSocket) -> None:
    line = Request("stacks", (3,)).encode()
    asking = client(control, line[:5])
    serve(control)
    assert not control.has_requests
    asking.sendall(line[5:])
    control.serve()
    (asked,) = control.take()
    asked.refuse("not now")
    assert answer(asking) == {"error": "not now"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello\n", "one line of JSON"),
        (b"[" * 5000 + b"\n", "one line of JSON"),
        (b"[]\n", "knows only the requests stop, stacks"),
        (b'{"verb": "explode"}\n', "knows only the requests stop, stacks"),
        (b'{"verb": "stop", "jobs": ["1"]}\n', "must be a list of numbers"),
        (b'{"verb": "stop", "jobs": [true]}\n', "must be a list of numbers"),
        (b'{"verb": "stop", "reason": 3}\n', "must be a list of numbers"),
        (b"x" * (1 << 16), "a line of less than"),
    ],
)
def test_what_is_no_request_is_refused(control: ControlSocket, line: bytes, why: str) -> None:
    asking = client(control, line)
    for _ in range(5):
        control.serve()
    assert not control.has_requests
    assert why in str(json.loads(asking.recv(4096))["error"])
    asking.close()


def test_clients_that_say_nothing_make_room_for_those_that_do(control: ControlSocket) -> None:
    silent = []
    for _ in range(40):
        silent.append(client(control))
        control.serve()
    asking = client(control, Request("stop").encode())
    serve(control)
    (asked,) = control.take()
    asked.answer()
    assert answer(asking) == {}
    assert silent[0].recv(1) == b"", "the oldest is dropped"
    for sock in silent:
        sock.close()


def test_clients_that_are_gone_again_are_forgotten(control: ControlSocket) -> None:
    for says in (b"", b"{", Request("stop").encode()):
        client(control, says).close()
        serve(control)
    for asked in control.take():
        asked.answer(running=[])  # nobody is there to read it
    asking = client(control, Request("stacks").encode())
    serve(control)
    assert len(control.take()) == 1
    asking.close()


def test_who_cannot_be_taken_in_does_not_keep_the_launcher_busy(control: ControlSocket) -> None:
    first = client(control, Request("stop").encode())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # all numbers below it are taken
    try:
        assert select.select([control], [], [], 10)[0]
        control.serve()
        assert not select.select([control], [], [], 0)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    second = client(control, Request("stop").encode())
    serve(control)
    for asked in control.take():
        asked.answer(running=[])
    assert [answer(sock) for sock in (first, second)] == [{"running": []}] * 2


def test_once_it_refuses_all_nobody_waits(control: ControlSocket) -> None:
    waits = client(control, Request("stop").encode())
    serve(control)
    control.refuse_all("the sweep is being stopped")
    comes = client(control, Request("stop").encode())
    serve(control)
    assert [answer(sock) for sock in (waits, comes)] == [{"error": "the sweep is being stopped"}] * 2
    assert not control.has_requests


def test_nothing_is_left_when_it_is_closed(control: ControlSocket) -> None:
    asking = client(control)
    control.serve()
    control.close()
    assert asking.recv(1) == b""
    asking.close()
    with pytest.raises(ConnectionRefusedError):
        client(control)


@pytest.mark.system
def test_a_fork_of_the_launcher_has_no_part_in_it(control: ControlSocket) -> None:
    ours, theirs = socket.socketpair()
    if (pid := os.fork()) == 0:
        ours.close()
        theirs.send(b"!")
        theirs.recv(1)  # until the test is over
        os._exit(0)
    theirs.close()
    assert ours.recv(1) == b"!"
    asking = client(control, Request("stop").encode())
    serve(control)
    assert control.has_requests, "the launcher's own goes on"
    control.close()
    with pytest.raises(ConnectionRefusedError):  # the fork keeps no copy
        client(control)
    asking.close()
    ours.close()
    os.waitpid(pid, 0)


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_heard_and_learns_whose_launcher_it_is(control: ControlSocket) -> None:
    launcher = SweepBegan(pid=os.getpid(), host=os.uname().nodename, control=control.name, dir="sweep")
    with os.fdopen(os.memfd_create("says"), "r+") as says:
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            with contextlib.suppress(BaseException):
                try:
                    ask(launcher, Request("stop"))
                except ControlError as error:
                    print(error, file=says, flush=True)
                client(control, Request("stop").encode()).recv(1)
            os._exit(0)
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if select.select([control], [], [], 0.05)[0]:
                control.serve()
        assert not control.has_requests
        says.seek(0)
        assert says.read().startswith(f"the launcher of sweep (pid {os.getpid()}) is root's, and you are ")
