"""What hosts are made of, without processes: deadlines, the environment of jobs, and streams."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from elastic_hydra.hosts import link, ray
from elastic_hydra.hosts.environment import merged
from elastic_hydra.hosts.event_file import EventFile
from elastic_hydra.hosts.lines import Lines as LinesOf
from elastic_hydra.hosts.signs_of_life import Lease, Pings
from elastic_hydra.hosts.stream import Stream
from elastic_hydra.hosts.transport import CommandTransport, Ended
from elastic_hydra.supervisor.protocol import Bye, Lines, Message, Ping, Pong, Preload, ProtocolError

# --- deadlines -----------------------------------------------------------------------------------------------------


def test_a_lease_is_prolonged_by_answers_that_have_arrived_and_by_nothing_else() -> None:
    lease = Lease(10.0, now=100.0)
    assert lease.answer(Ping(5.0, heard=-math.inf), now=103.0, monotonic=3.0) == Pong(5.0, now=3.0, awake=103.0)
    assert lease.end == 110.0, "nobody knows yet whether that answer has arrived"
    lease.answer(Ping(6.0, heard=103.0), now=109.0, monotonic=9.0)
    assert lease.end == 113.0
    lease.answer(Ping(5.5, heard=-math.inf), now=112.0, monotonic=12.0)
    assert lease.end == 113.0, "a ping that was on its way for long changes nothing"


def test_a_lease_goes_on_while_the_host_is_suspended() -> None:
    lease, pings = Lease(10.0, now=100.0), Pings(10.0, now=50.0, offset=-50.0)
    pings.hear(lease.answer(Ping(50.0, heard=-math.inf), now=100.0, monotonic=0.0), now=50.0)
    ping = pings.due(50.0)
    assert ping is not None
    lease.answer(ping, now=3700.0, monotonic=1.0)  # it was suspended for an hour with that ping unread
    assert lease.end == 110.0


def test_the_launcher_knows_when_a_lease_has_ended_whatever_was_lost() -> None:
    lease, pings = Lease(8.0, now=0.0), Pings(8.0, now=0.0, offset=0.0)
    now, answers = 0.0, iter([True, True, True, True, True, False, True, False, False, False])
    for arrives in answers:
        ping = pings.due(now)
        assert ping is not None
        pong = lease.answer(ping, now + 0.01, now + 0.01)
        if arrives:
            pings.hear(pong, now + 0.02)
        assert lease.end <= pings.last_answer + 8.0
        now = max(now + 0.02, pings.next_at)
    assert pings.silent_at == pings.last_answer + 8.0


def test_pings_go_out_often_enough_that_some_may_be_lost() -> None:
    pings = Pings(8.0, now=0.0, offset=0.0)
    sent = [now for now in range(100) if pings.due(float(now)) is not None]
    assert sent == list(range(100))


def test_the_offset_is_that_of_the_fastest_answer() -> None:
    pings = Pings(8.0, now=0.0, offset=7.0)
    assert pings.offset == 7.0
    pings.hear(Pong(sent=1.0, now=1001.9, awake=0.0), now=2.0)
    pings.hear(Pong(sent=3.0, now=1003.05, awake=0.0), now=3.1)
    pings.hear(Pong(sent=4.0, now=1004.1, awake=0.0), now=5.0)
    assert pings.offset == pytest.approx(1000.0)


# --- environment ---------------------------------------------------------------------------------------------------


def test_jobs_have_the_environment_of_the_launcher_and_the_gpus_of_the_host() -> None:
    launcher = {"PATH": "/bin", "LR": "1", "CUDA_VISIBLE_DEVICES": "7", "HOSTNAME": "login", "SLURM_CONF": "/etc/s"}
    host = {"PATH": "/sbin", "CUDA_VISIBLE_DEVICES": "0,1", "HOSTNAME": "n1", "OMP_NUM_THREADS": "1"}
    assert merged(launcher, host) == {
        "PATH": "/bin",
        "LR": "1",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "HOSTNAME": "n1",
        "SLURM_CONF": "/etc/s",
    }
    assert "CUDA_VISIBLE_DEVICES" not in merged(launcher, {}), "those of the launcher are others"


def test_of_slurm_only_what_names_the_allocation_reaches_jobs() -> None:
    task = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "1", "PMI_RANK": "0", "SLURMD_DEBUG": "1"}
    assert merged({**task, "SLURM_JOB_ID": "1"}, {**task, "SLURM_JOB_ID": "2"}) == {"SLURM_JOB_ID": "2"}
    assert merged({**task, "SLURM_JOB_ID": "1"}, {}) == {}


@pytest.mark.parametrize(
    ("host", "there", "directory"),
    [({"TMPDIR": "/scratch/1"}, False, "/scratch/1"), ({}, True, "/fast"), ({}, False, None)],
)
def test_temporary_files_go_where_the_host_has_room(host: dict[str, str], there: bool, directory: str | None) -> None:
    assert merged({"TMPDIR": "/fast"}, host, lambda _: there).get("TMPDIR") == directory


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.fixture
def streams() -> Iterator[tuple[Stream, Stream]]:
    one, other = socket.socketpair()
    with one, other:
        yield Stream(one.fileno(), one.fileno()), Stream(other.fileno(), other.fileno())


def received(stream: Stream, sender: Stream, count: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        sender.flush()
        stream.fill()
        while (message := stream.take()) is not None:
            messages.append(message)
    return messages


def test_what_is_not_read_waits_and_signs_of_life_go_first(streams: tuple[Stream, Stream]) -> None:
    one, other = streams
    large = [Lines(bytes([number]) * 3_000_000) for number in range(3)]
    for message in large:
        one.send(message)
    assert one.is_behind
    one.send(Ping(1.0, 0.0), urgent=True)
    one.send(Ping(2.0, 0.0), urgent=True)
    one.send(Bye("the last"))
    expected = [large[0], Ping(1.0, 0.0), Ping(2.0, 0.0), *large[1:], Bye("the last")]
    assert received(other, one, 6) == expected
    assert not one.is_behind


def test_each_frame_ends_in_a_newline(streams: tuple[Stream, Stream]) -> None:
    one, other = streams
    one.send(Preload(("a",)))
    other.fill()
    assert other.received.endswith(b"\n")


def test_the_end_of_a_stream(streams: tuple[Stream, Stream]) -> None:
    one, other = streams
    assert not other.fill()
    os.close(one.reader)
    with pytest.raises(EOFError):
        other.fill()
    with pytest.raises(EOFError):
        other.send(Bye(""))
    os.dup2(other.reader, one.reader)  # closed again by its owner


def test_a_message_that_is_too_long_is_refused_where_it_is_sent(streams: tuple[Stream, Stream]) -> None:
    with pytest.raises(ProtocolError, match="which is more than"):
        streams[0].send(Lines(bytes(1 << 28)))


# --- standard error ------------------------------------------------------------------------------------------------


def test_who_writes_without_a_pause_leaves_time_for_others() -> None:
    with open("/dev/zero", "rb", buffering=0) as without_end:
        lines = LinesOf(without_end)
        assert 1 <= len(lines.new()) <= 16
        lines.close()
        assert without_end.closed


# --- events --------------------------------------------------------------------------------------------------------


def test_only_whole_lines_are_handed_on() -> None:
    events = EventFile()
    fd = os.open(events.path, os.O_WRONLY | os.O_APPEND)
    assert events.new_lines() == b""
    os.write(fd, b"one\ntwo")
    assert events.new_lines() == b"one\n"
    assert events.new_lines() == b""
    os.write(fd, b"\n")
    assert events.new_lines() == b"two\n"
    os.close(fd)
    events.close()


# --- the launcher's end of a stream ----------------------------------------------------------------------------------


def test_no_program_is_started_that_nobody_could_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many_files() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(link, "Bell", too_many_files)
    transport = CommandTransport(["sleep", "600"])
    with pytest.raises(OSError, match="Too many open files"):
        link.Link(transport, 60.0)
    assert transport.fileno() == -1, "its standard error could be read"


# --- hosts by Ray ----------------------------------------------------------------------------------------------------


class Asked(ray.Driver):
    """A driver that only takes what it is given: there is no process."""

    def ask(self, request: Mapping[str, Any], files: Sequence[socket.socket]) -> None:
        self.stream, self.console, self.word = (file.dup() for file in files)


def test_the_last_word_of_a_ray_driver_counts_however_many_have_come_at_once() -> None:
    driver = Asked("auto")
    transport = ray.RayTransport(driver, {}, "Ray actor 1")
    with transport.open(), driver.stream, driver.console, driver.word, contextlib.ExitStack() as stack:
        stack.callback(transport.kill)
        assert transport.ended() is None
        for is_gone in (False, True):
            driver.word.sendall(json.dumps({"why": "the node died", "host_is_gone": is_gone}).encode())
        assert transport.ended() == Ended(1, ("the node died",), host_is_gone=True)
