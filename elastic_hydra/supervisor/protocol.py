"""What a client and a warm server say to each other: one class for each message, and how it becomes bytes.

::

    client: launcher or agent                       server
        ShutdownTimeout             ───────────>    no answer
        Preload, Prepare            ───────────>    no answer
        Start                       ───────────>    Started and, when it has ended, Exited; or Refused
        Signal                      ───────────>    no answer
        LastWill                    ───────────>    no answer
        Clean                       ───────────>    Cleaned
                                    <───────────    Ready or CannotServe, the first word of a new server

    server                                          process that was forked ahead
        Become                      ───────────>    is what it is told to be

    launcher                                        fresh interpreter
        Load                        ───────────>    is a server: Ready or CannotServe

    launcher                                        host process, on another host
        Open                        ───────────>    Opened or CannotServe
        RemoteStart, Signal         ───────────>    as a server: Started, Exited, Refused; ResultPart before Exited
        Preload, Prepare, ShutdownTimeout  ────>    no answer
        Ping                        ───────────>    Pong
                                    <───────────    Told, Lines
        Bye                         ───────────>    Bye, its last word, also when nobody has asked for it

A message is a pickle in a frame, and a frame is bytes: any stream of bytes can carry it. What must never happen is that
a reader takes the middle of one frame for the beginning of another, so each frame ends in a byte that is checked. (It
is the newline: a stream that buffers lines hands it on at once.)

No message contains a file descriptor. Where both ends are on one host, files ride beside a frame, which says how many
(`channel`): payload, outcome and what multiprocessing shares. A stream from another host carries none: there, the bytes
of payload and outcome are in messages, and a path means a file that both hosts share.

Whoever can write to the stream can run any code in the reader, as with every pickle: the stream is private.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from elastic_hydra.supervisor.forked import ProcessSpec
    from elastic_hydra.supervisor.main_module import Interpreter
    from elastic_hydra.supervisor.passing import HandedDown

__all__ = [
    "LONGEST",
    "Become",
    "Bye",
    "CannotServe",
    "Clean",
    "Cleaned",
    "Exited",
    "Frame",
    "LastWill",
    "Lines",
    "Load",
    "Message",
    "Open",
    "Opened",
    "Ping",
    "Pong",
    "Preload",
    "Prepare",
    "ProtocolError",
    "Ready",
    "Refused",
    "RemoteStart",
    "Renew",
    "Reply",
    "Request",
    "ResultPart",
    "ShutdownTimeout",
    "Signal",
    "Start",
    "Started",
    "Told",
    "decode",
    "encode",
]


# --- from a client to its server ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShutdownTimeout:
    """When this connection ends, what still runs has so long between SIGTERM and SIGKILL."""

    seconds: float


@dataclass(frozen=True)
class Renew:
    """Treat this connection as if it had ended, unless this is said again before some moment."""

    until: float
    """The moment, on the monotonic clock, which both sides have in common."""


@dataclass(frozen=True)
class Preload:
    """Import modules, so that processes that are started from now on need not."""

    modules: tuple[str, ...]


@dataclass(frozen=True)
class Prepare:
    """Fork processes ahead, until so many wait for their orders."""

    count: int


@dataclass(frozen=True)
class Start:
    """Start a process. Its files are those of `Become`, but for the connection; a program has none."""

    id: int
    """By which both sides speak of the process; the client chooses it."""
    spec: ProcessSpec
    is_program: bool
    """Whether it is a program of the user's, with neither payload nor outcome."""


@dataclass(frozen=True)
class Signal:
    """Send a signal to those processes that still run."""

    ids: tuple[int, ...]
    number: int


@dataclass(frozen=True)
class Clean:
    """Kill what this client's processes have left running."""


@dataclass(frozen=True)
class LastWill:
    """When this connection ends, write this to standard output; the empty text takes an earlier will back."""

    text: str


# --- from a server to its client ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """This process serves."""


@dataclass(frozen=True)
class CannotServe:
    """This process cannot be a server, and ends."""

    reason: str


@dataclass(frozen=True)
class Started:
    """A process runs."""

    id: int
    pid: int


@dataclass(frozen=True)
class Refused:
    """A process could not be started."""

    id: int
    reason: str


@dataclass(frozen=True)
class Exited:
    """A process has ended."""

    id: int
    code: int
    """Its exit code; minus the signal's number when one killed it."""
    time: float
    """When the server saw that, in seconds since the epoch."""


@dataclass(frozen=True)
class Cleaned:
    """What `Clean` asked for is done."""


# --- to a process that is not yet what it is going to be -------------------------------------------------------------


@dataclass(frozen=True)
class Become:
    """Be this process.

    Files: payload, outcome, an agent's connection to the server, then those to which the payload refers.
    """

    spec: ProcessSpec


@dataclass(frozen=True)
class Load:
    """Load what a server needs, and be one. Files: the pickled shared objects, then those to which they refer."""

    launcher: Interpreter
    handed_down: HandedDown
    modules: tuple[str, ...]
    early: bool
    """Whether the server executes `__main__` and loads the shared objects; else each of its processes does."""


# --- between a launcher and the host process on another host ----------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """Have a warm server ready."""

    directory: str
    """Where the launcher was started; the host has it, too."""
    environment: dict[str, str]
    """The launcher's."""
    load: Load
    shared: bytes
    """The pickled shared objects."""
    silence: float
    """When nothing was heard of the launcher for so many seconds, everything on the host is ended."""
    shutdown_timeout: float
    """Seconds between SIGTERM and SIGKILL for what runs then."""
    record: str
    """Path of a file that the host process removes when nothing runs there any more; empty: there is none."""


@dataclass(frozen=True)
class Opened:
    """The warm server is ready."""

    reason: str
    """How it came to be, in words."""
    environment: dict[str, str]
    """That in which it has started."""
    journal: str
    """Path on the host, to which agents and workers append their events."""


@dataclass(frozen=True)
class RemoteStart:
    """Start a process whose payload is in the message."""

    start: Start
    payload: bytes
    """Nothing for a program."""


@dataclass(frozen=True)
class ResultPart:
    """The next bytes of what a process has written into the file of its outcome; all of them come before its end."""

    id: int
    data: bytes


@dataclass(frozen=True)
class Ping:
    """A sign of life of the launcher."""

    sent: float
    """On the launcher's monotonic clock."""
    heard: float
    """`Pong.awake` of the last answer that the launcher has got; minus infinity: it has got none."""


@dataclass(frozen=True)
class Pong:
    """The answer to a `Ping`."""

    sent: float
    """The ping's."""
    now: float
    """The host's monotonic clock."""
    awake: float
    """The host's clock that goes on while the host is suspended."""


@dataclass(frozen=True)
class Told:
    """Somebody has sent a signal to the host process, as Slurm does before it takes a host away."""

    number: int


@dataclass(frozen=True)
class Lines:
    """Whole lines that agents and workers have appended to the host's journal."""

    data: bytes


@dataclass(frozen=True)
class Bye:
    """The last message. From a host: nothing of what the launcher has started there runs any more."""

    reason: str


Request = ShutdownTimeout | Renew | Preload | Prepare | Start | Signal | Clean | LastWill
Reply = Ready | CannotServe | Started | Refused | Exited | Cleaned
Remote = Open | Opened | RemoteStart | ResultPart | Ping | Pong | Told | Lines | Bye
Message = Request | Reply | Become | Load | Remote


# --- frames ------------------------------------------------------------------------------------------------------

_HEADER = struct.Struct("!IB")
"""Length of the pickle in bytes, and how many files ride beside the frame."""
_END = b"\n"
LONGEST = 1 << 28
"""Bytes of a message. Most have some hundred; a payload or shared objects for another host may have many."""


class ProtocolError(Exception):
    """What has come is no message: the other side speaks something else, or bytes were lost."""


class Frame(NamedTuple):
    """One message of a stream."""

    message: Message
    files: int
    """How many files belong to it."""
    end: int
    """Where the next frame begins."""


def encode(message: Message, files: int = 0) -> bytes:
    """Make a frame.

    Args:
        message: keep it small; on one host, large things travel in an `anonymous_file`.
        files: how many ride beside it.

    Raises:
        ProtocolError: it is longer than any reader takes.
    """
    body = pickle.dumps(message)
    if len(body) > LONGEST:
        raise ProtocolError(f"{type(message).__name__} has {len(body)} bytes, which is more than {LONGEST}")
    return b"".join((_HEADER.pack(len(body), files), body, _END))


def decode(data: bytes | bytearray, start: int = 0) -> Frame | None:
    """Take one frame out of what a stream has brought.

    Args:
        data: the bytes.
        start: where the frame begins.

    Returns:
        the frame, or None when it is not all there yet.

    Raises:
        ProtocolError: there is something else.
    """
    if len(data) < start + _HEADER.size:
        return None
    size, files = _HEADER.unpack_from(data, start)
    if size > LONGEST:
        raise ProtocolError(f"a message of {size} bytes is announced, which is more than {LONGEST}")
    begin = start + _HEADER.size
    end = begin + size + len(_END)
    if len(data) < end:
        return None
    if data[begin + size : end] != _END:
        raise ProtocolError(f"a message of {size} bytes does not end where it should")
    try:
        message = pickle.loads(data[begin : begin + size])
    except Exception as error:
        raise ProtocolError(f"a message of {size} bytes cannot be read: {type(error).__name__}: {error}") from error
    return Frame(message, files, end)
