"""A program as the way to a host: its stream, its messages, its end, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from elastic_hydra.hosts.transport import CommandTransport, Ended, host_command
from tests.helpers.launching import wait_until_gone

pytestmark = pytest.mark.system


def transport(code: str) -> CommandTransport:
    return CommandTransport([sys.executable, "-c", code])


def lines_until(way: CommandTransport, enough: Callable[[list[str]], bool]) -> list[str]:
    lines: list[str] = []
    while not enough(lines):
        assert select.select([way], [], [], 60.0)[0]
        lines += way.lines()
    return lines


def end_of(way: CommandTransport, sock: socket.socket) -> Ended:
    assert sock.recv(1) == b""
    while (ended := way.ended()) is None:
        assert way.fileno() == -1 or select.select([way], [], [], 60.0)[0]
        way.lines()
    return ended


def test_the_stream_leads_to_standard_input_and_output_of_the_program() -> None:
    way = CommandTransport(["cat"])
    with way.open() as sock:
        sock.sendall(b"some \0 bytes\n")
        assert sock.recv(100) == b"some \0 bytes\n"
        assert way.ended() is None
        sock.shutdown(socket.SHUT_WR)
        assert end_of(way, sock) == Ended(0)
    way.kill()


def test_standard_error_comes_by_whole_lines_and_the_last_ones_are_kept() -> None:
    way = transport("import sys; [print(i, file=sys.stderr) for i in range(30)]; sys.stderr.write('the end'); exit(7)")
    with way.open() as sock:
        ended = end_of(way, sock)
        assert ended.code == 7
        assert ended.last_lines == (*map(str, range(11, 30)), "the end")
        lines = lines_until(way, lambda _: way.fileno() == -1)
    assert lines in ([], [*map(str, range(30)), "the end"]), "`end_of` may have read them all"
    way.kill()


def test_a_line_that_does_not_end_is_handed_on_at_some_length() -> None:
    way = transport("import sys; sys.stderr.write('x' * 200_000); sys.stderr.flush(); sys.stdin.read()")
    with way.open():
        assert set("".join(lines_until(way, lambda lines: len("".join(lines)) >= 1 << 16))) == {"x"}
    way.kill()


def test_killing_ends_all_that_the_program_has_started() -> None:
    code = "import os, signal, subprocess; signal.signal(15, signal.SIG_IGN); "
    code += "child = subprocess.Popen(['sleep', '600'], preexec_fn=lambda: os.setpgid(0, 0)); "
    code += "print(child.pid, flush=True); child.wait()"
    way = transport(code)
    with way.open() as sock, sock.makefile("rb") as stream:
        pid = int(stream.readline())
        way.kill()
        assert stream.read() == b""
    assert wait_until_gone([pid], 60.0) == []
    ended = way.ended()
    assert ended is not None
    assert ended.code == -9
    way.kill()


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(OSError, match=r"^cannot run no-such-program: No such file"):
        CommandTransport(["no-such-program", "a b"]).open()


def test_a_fork_of_this_process_keeps_no_copy_of_the_stream() -> None:
    way = CommandTransport(["cat"])
    with way.open() as sock:
        mine = {os.readlink(f"/proc/self/fd/{end.fileno()}") for end in (sock, way)}
        process = multiprocessing.get_context("fork").Process(target=end_if_open, args=[mine])
        process.start()
        process.join()
        assert process.exitcode == 0
    way.kill()


def end_if_open(names: set[str]) -> None:
    os._exit(bool(names.intersection(open_files())))


def open_files() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the others
            yield os.readlink(f"/proc/self/fd/{fd}")


def test_the_host_process_is_run_by_any_python() -> None:
    assert host_command()[0] == sys.executable
    assert host_command("python3")[0] == "python3"
    assert host_command("python3")[1:] == host_command()[1:]
