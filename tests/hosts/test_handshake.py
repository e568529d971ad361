"""How a connection to a host begins, and what is said when that is no host, or one that does not fit."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from dataclasses import asdict, replace

import pytest

from elastic_hydra.hosts.connection import State
from elastic_hydra.hosts.hello import MAGIC, Hello, NoHelloError, take_hello
from elastic_hydra.hosts.transport import CommandTransport, host_command
from elastic_hydra.supervisor.waiting import wait
from tests.hosts.hosts import PATIENCE, await_end, connect, is_there, start

pytestmark = pytest.mark.system


def shell(command: str) -> CommandTransport:
    return CommandTransport(["sh", "-c", command])


def fate_of(transport: CommandTransport, *, refuses: bool = False) -> str:
    with contextlib.closing(connect(transport)) as connection:
        assert not is_there(connection)
        assert connection.state is State.ended
        assert connection.refuses == refuses
        return connection.fate


def said_first(line: bytes) -> CommandTransport:
    code = f"import sys; sys.stdout.buffer.write({line!r}); sys.stdout.flush(); sys.stdin.read()"
    return CommandTransport([sys.executable, "-c", code], name="ssh n7")


def test_output_of_login_scripts_is_skipped() -> None:
    noise = shell(f"echo Welcome; printf 'no end of a line'; exec {shlex.join(host_command())}")
    with contextlib.closing(connect(noise)) as connection:
        assert is_there(connection), connection.fate
        process = start(connection, os.getpid)
        await_end(connection, process)
        assert process.exitcode == 0


def test_what_writes_too_much_is_no_host() -> None:
    fate = fate_of(said_first(b"Welcome! " * 10_000))
    assert fate.startswith("ssh n7: it writes 'Welcome! Welcome! ")
    assert fate.endswith("instead of a host process's first line")
    assert len(fate) < 1000


def test_what_ends_at_once_is_quoted() -> None:
    fate = fate_of(shell("echo 'Host key verification failed.' >&2; exit 255"))
    assert (
        fate
        == "sh has not started a host process: it ended with exit code 255, and said: Host key verification failed."
    )
    assert fate_of(shell("kill -9 $$")) == "sh has not started a host process: signal 9 killed it, and said nothing"


def test_an_interpreter_without_this_package_is_quoted() -> None:
    fate = fate_of(shell(f"{sys.executable} -c 'import no_such_package'"))
    assert "ModuleNotFoundError: No module named 'no_such_package'" in fate


def test_versions_that_differ_are_named_on_both_sides() -> None:
    here = Hello.of_this_process()
    there = replace(here, host="n7", python="3.9.1", torch="1.0", executable="/usr/bin/python3")
    fate = fate_of(said_first(there.line()), refuses=True)
    minor = ".".join(here.python.split(".")[:2])
    both = "host n7 (/usr/bin/python3) has {} {}, and the launcher on " + f"{here.host} ({here.executable}) has {{}}"
    assert both.format("Python", "3.9", minor) in fate
    assert both.format("torch", "1.0", here.torch.partition("+")[0]) in fate
    assert "elastic-hydra" not in fate.replace("hydra.launcher.hosts.python", "")


def test_a_host_that_ends_while_its_server_starts_may_come_again() -> None:
    dies = said_first(Hello.of_this_process().line())
    with contextlib.closing(connect(dies)) as connection:
        assert wait([connection], lambda: connection.state is State.opening, PATIENCE)
        dies.kill()
        assert not is_there(connection)
        assert "was lost: its stream has ended without a farewell" in connection.fate
        assert not connection.refuses


def test_another_micro_version_of_python_fits() -> None:
    here = Hello.of_this_process()
    assert replace(here, python=here.python + "1").differences(here) == []


def test_torch_that_is_built_otherwise_fits() -> None:
    here = replace(Hello.of_this_process(), torch="2.9.0+cpu")
    assert replace(here, torch="2.9.0+cu126").differences(here) == []
    assert replace(here, torch="2.9.1+cpu").differences(here) != []


def test_a_host_without_the_working_directory_is_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/no/such/directory")
    fate = fate_of(CommandTransport(host_command()), refuses=True)
    assert f"host {os.uname().nodename} cannot run jobs: /no/such/directory" in fate
    assert "must share that directory" in fate


@pytest.mark.parametrize("part", [1, len(MAGIC), len(MAGIC) + 5])
def test_a_line_that_comes_in_parts(part: int) -> None:
    hello = Hello.of_this_process()
    received = bytearray(hello.line()[:part])
    assert take_hello(received) is None
    received += hello.line()[part:] + b"more"
    assert take_hello(received) == hello
    assert received == b"more"


def test_a_line_of_another_version() -> None:
    fields = asdict(Hello.of_this_process()) | {"new": 1}
    with pytest.raises(NoHelloError, match="install the launcher's version"):
        take_hello(bytearray(MAGIC + json.dumps(fields).encode() + b"\n"))
