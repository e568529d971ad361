"""Messages between processes: as bytes, over a local socket with files beside them, whole or in parts."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args

import pytest

from elastic_hydra.supervisor import protocol
from elastic_hydra.supervisor.anonymous_files import anonymous_file
from elastic_hydra.supervisor.channel import Channel, Received, receive, send
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.protocol import (
    Become,
    Clean,
    Exited,
    Preload,
    ProtocolError,
    Refused,
    ShutdownTimeout,
    Start,
    decode,
    encode,
)

LONG = Preload((os.urandom(2 << 20).hex(),))
"""More than a socket holds."""


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield Channel(ours), Channel(theirs)


@pytest.fixture
def blocking() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


# --- frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", get_args(protocol.Message))
def test_every_message_is_a_frozen_class_that_cannot_be_mistaken(kind: Any) -> None:
    names = [field.name for field in fields(kind)]
    values = [None for _ in names]
    message = kind(*values)
    frame = decode(encode(message))
    assert frame is not None
    assert frame.message == message
    if values:
        with pytest.raises(AttributeError):
            setattr(message, names[0], 1)


def test_decoding_takes_whole_frames_only() -> None:
    first, second = encode(ShutdownTimeout(1.0)), encode(Exited(3, -9, 1.5), files=2)
    data = first + second
    assert decode(data) == (ShutdownTimeout(1.0), 0, len(first))
    assert decode(data, len(first)) == (Exited(3, -9, 1.5), 2, len(data))
    for end in range(len(first)):
        assert decode(data[:end]) is None


def test_every_frame_ends_in_a_newline() -> None:
    assert encode(Clean()).endswith(b"\n")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        encode(Clean())[:-1] + b"x",
        b"\0\0\0\x03\0abc\n",
        b"\0\0\0\x00\0\n",
    ],
    ids=["too long", "another end", "no pickle", "empty"],
)
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


# --- channels ----------------------------------------------------------------------------------------------------


def arrived(channel: Channel) -> list[protocol.Message]:
    channel.fill()
    messages = []
    while (received := channel.take()) is not None:
        messages.append(received.message)
    return messages


def test_a_message_that_comes_in_parts_is_kept_until_all_of_it_is_there(pair: tuple[Channel, Channel]) -> None:
    data = encode(ShutdownTimeout(1.0)) + encode(Clean())
    for position in range(len(data) - 1):
        pair[0].sock.send(data[position : position + 1])
        assert arrived(pair[1]) == ([ShutdownTimeout(1.0)] if position == len(encode(ShutdownTimeout(1.0))) - 1 else [])
    pair[0].sock.send(data[-1:])
    assert arrived(pair[1]) == [Clean()]
    assert arrived(pair[1]) == [], "nothing there is no end"


def test_what_the_other_side_does_not_read_is_kept_and_sent_in_order(pair: tuple[Channel, Channel]) -> None:
    pair[0].send(LONG)
    pair[0].send(Clean())
    assert pair[0].backlog > 1 << 20
    messages: list[protocol.Message] = []
    while len(messages) < 2:
        messages += arrived(pair[1])
        pair[0].flush()
    assert messages == [LONG, Clean()]
    assert pair[0].backlog == 0


def test_files_wait_with_their_message(pair: tuple[Channel, Channel]) -> None:
    pair[0].send(LONG)
    file = anonymous_file("test")
    os.write(file, b"content")
    pair[0].send(ShutdownTimeout(2.0), [file])
    os.close(file)
    pair[0].send(Clean())
    received: list[Received] = []
    while len(received) < 3:
        pair[0].flush()
        pair[1].fill()
        while (one := pair[1].take()) is not None:
            received.append(one)
    assert [len(one.files or []) for one in received] == [0, 1, 0]
    (theirs,) = received[1].files or []
    assert os.pread(theirs, 100, 0) == b"content"
    os.close(theirs)


def test_files_belong_to_the_message_that_they_came_with(pair: tuple[Channel, Channel]) -> None:
    files = [anonymous_file(str(number)) for number in range(3)]
    for number, file in enumerate(files):
        os.write(file, b"%d" % number)
        pair[0].send(Refused(number, ""), [file])
        pair[0].send(Clean())
    found: dict[int, bytes] = {}
    while len(found) < 3:
        pair[1].fill()
        while (received := pair[1].take()) is not None:
            if isinstance(received.message, Refused):
                (file,) = received.files or []
                found[received.message.id] = os.pread(file, 10, 0)
                os.close(file)
    assert found == {0: b"0", 1: b"1", 2: b"2"}
    for file in files:
        os.close(file)


def test_files_that_a_stream_has_not_brought_are_missed(pair: tuple[Channel, Channel]) -> None:
    pair[0].sock.send(encode(Clean(), files=2))
    pair[1].fill()
    received = pair[1].take()
    assert received is not None
    assert received.files is None


def test_a_channel_that_is_closed_keeps_no_file(pair: tuple[Channel, Channel]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = anonymous_file("test")
    pair[0].send(ShutdownTimeout(0.0), [file])
    pair[1].fill()
    pair[0].send(LONG)
    pair[0].send(ShutdownTimeout(0.0), [file])
    os.close(file)
    for channel in pair:
        channel.close()
    assert len(os.listdir("/proc/self/fd")) == before - len(pair)


# --- ends that wait ----------------------------------------------------------------------------------------------


def test_files_travel_with_a_message_and_are_not_inherited_by_programs(
    blocking: tuple[socket.socket, socket.socket],
) -> None:
    file = anonymous_file("test")
    os.write(file, b"content")
    send(blocking[0], Clean(), [file])
    os.close(file)
    message, (theirs,) = receive(blocking[1])
    assert (message, os.pread(theirs, 100, 0)) == (Clean(), b"content")
    assert not os.get_inheritable(theirs)
    os.close(theirs)


def test_a_message_larger_than_the_sockets_buffer_arrives(blocking: tuple[socket.socket, socket.socket]) -> None:
    sender = threading.Thread(target=send, args=(blocking[0], LONG))
    sender.start()
    assert receive(blocking[1]) == (LONG, [])
    sender.join()


@pytest.mark.parametrize("kept", [0, 2, 10])
def test_the_end_of_the_other_side_is_not_a_message(kept: int, blocking: tuple[socket.socket, socket.socket]) -> None:
    blocking[0].sendall(encode(Clean())[:kept])
    blocking[0].close()
    with pytest.raises(EOFError):
        receive(blocking[1])


def test_a_process_is_described_in_full() -> None:
    spec = ProcessSpec(["true"], {"A": "1"}, "/", cpus=frozenset({1}))
    for message in (Start(1, spec, is_program=True), Become(spec)):
        assert pickle.loads(pickle.dumps(message)) == message
