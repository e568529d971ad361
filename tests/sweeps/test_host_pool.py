"""What a pool does while there is no host yet."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts import wanted
from elastic_hydra.hosts.engines import Engine
from elastic_hydra.hosts.transport import CommandTransport, host_command
from elastic_hydra.journal import writer
from elastic_hydra.journal.events import StoreOpened
from elastic_hydra.supervisor.waiting import wait
from elastic_hydra.sweeps import examination, host_connections, place
from elastic_hydra.sweeps.host_connections import HostConnections, write_on
from elastic_hydra.sweeps.host_pool import HostPool
from elastic_hydra.sweeps.token_file import TokenFile
from tests.hosts.hosts import PATIENCE, Record, await_end, is_there, start

pytestmark = pytest.mark.system

NOWHERE, ENDS, SILENT = ["/no/such/program"], ["sh", "-c", "exit 3"], ["sleep", "600"]


@dataclass
class Programs:
    """Ways to hosts: the command lines of the places `n1`, `n2` and so on."""

    argvs: Sequence[Sequence[str]]
    asked: list[str] = field(default_factory=list)
    is_elastic = False

    def places(self) -> Sequence[str]:
        return [f"n{number}" for number in range(1, len(self.argvs) + 1)]

    def transport(self, place: str) -> CommandTransport:
        self.asked.append(place)
        return CommandTransport(self.argvs[int(place[1:]) - 1], name=place)


class Asked:
    """A request that has come; it waits until somebody takes it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.looks = 0
        self.has_come = True

    def fileno(self) -> int:
        return self.reader

    def serve(self) -> None:
        raise AssertionError

    @property
    def has_requests(self) -> bool:
        self.looks += 1
        return self.has_come

    def take(self) -> None:
        self.has_come = False


@contextlib.contextmanager
def pool_of(
    engine: Engine,
    folder: Path,
    start_timeout: float | None,
    silence: float = 60.0,
    shared: Mapping[str, object] | None = None,
) -> Iterator[HostPool]:
    settings = OmegaConf.create({"shutdown_timeout": 1.0, "preload": [], "parallel": "auto", "dry_run": False})
    keys = HostsConfig(start_timeout=start_timeout, silence=silence)
    with contextlib.closing(
        HostPool(engine, keys, settings, shared or {}, TokenFile(folder, "hydra.sweep.dir"))
    ) as pool:
        yield pool


def test_another_host_is_asked_for_when_the_way_to_one_cannot_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Programs([NOWHERE, NOWHERE, ENDS])
    with pool_of(engine, tmp_path, 120.0) as pool, pytest.raises(ConfigError, match="no host is there") as error:
        pool.first(1)
    assert engine.asked == ["n1", "n2", "n3", "n3", "n3"]
    assert "n1: cannot run /no/such/program: No such file or directory" in str(error.value)
    assert "n3 has not started a host process: it ended with exit code 3" in str(error.value)
    warned = [record.getMessage() for record in caplog.records if "no host at n3" in record.getMessage()]
    assert len(warned) == 1, "what happens again is not told again"


def test_a_request_before_the_first_host_is_taken_and_does_not_keep_the_launcher_busy(
    tmp_path: Path,
) -> None:
    with pool_of(Programs([SILENT]), tmp_path, 0.2) as pool:
        pool.listener = asked = Asked()
        with pytest.raises(ConfigError, match="no host has come in time"):
            pool.first(1, asked.take)
    assert not asked.has_come
    assert asked.looks < 100
    os.close(asked.reader)
    os.close(asked.writer)


@dataclass
class ComesLater(Programs):
    """There is no process for the first way to a host that is opened."""

    def transport(self, place: str) -> CommandTransport:
        transport = super().transport(place)
        return NoProcess(["sh"], name=place) if len(self.asked) == 1 else transport


class NoProcess(CommandTransport):
    def open(self) -> socket.socket:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def look_until(pool: HostPool, done: Callable[[], bool], jobs: int = 1) -> None:
    """Do what a launcher does between jobs until `done`; or until the pool gives up, which it must not do before."""
    while not done():
        pool.look(time.monotonic(), None, jobs)
        assert done() or not pool.problem, pool.problem
        pool.wait(done, 1.0)


def test_a_way_that_could_not_be_opened_once_is_tried_again(tmp_path: Path) -> None:
    engine = ComesLater([SILENT])
    with pool_of(engine, tmp_path, None) as pool:
        look_until(pool, lambda: engine.asked == ["n1", "n1"])


def test_a_login_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "LOGIN", 0.2)
    engine = Programs([SILENT])
    with pool_of(engine, tmp_path, None) as pool, pytest.raises(ConfigError, match="no host is there") as error:
        pool.first(1)
    assert engine.asked == ["n1"] * 3
    assert "n1: n1 has not started a host process within 0.2 s" in str(error.value)


def test_hosts_that_hang_hold_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_LATE", 0.2)
    engine = Programs([SILENT] * 9)
    with pool_of(engine, tmp_path, None) as pool:
        look_until(pool, lambda: "n9" in engine.asked, jobs=20)


def hang(token_file: str, *_: object) -> None:
    Path(f"{token_file}.seen").touch()
    while True:
        signal.pause()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tell_host(*_: object) -> None:
    host = psutil.Process().parents()[1]
    host.terminate()
    signal.pause()


def note_its_end(token_file: str, *_: object) -> None:
    """Run until SIGTERM comes, and then append an event to the host's journal."""
    files = Path(f"/proc/{psutil.Process().parents()[1].pid}/fd").iterdir()
    journal = next(file for file in files if "elastic-hydra-journal" in os.readlink(file))

    def note(*_: object) -> None:
        writer.append(journal, StoreOpened(num=0, attempt=0, endpoint="n1:1"))
        os._exit(0)

    signal.signal(signal.SIGTERM, note)
    hang(token_file)


def is_imported(module: str) -> bool:
    return module in sys.modules


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Host processes on this machine, whose servers import nothing."""
    monkeypatch.setattr(host_connections, "PRELOAD", ())
    return Programs([host_command()] * 2)


@pytest.mark.parametrize(
    ("examine", "limit", "why"),
    [(hang, 1.0, "no answer within 1 s"), (die, 600.0, "it cannot be examined: exit code -9")],
)
def test_an_examination_that_comes_to_nothing_is_done_again(
    hosts: Programs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    examine: Callable[..., None],
    limit: float,
    why: str,
) -> None:
    monkeypatch.setattr(examination, "examine", examine)
    monkeypatch.setattr(timeouts, "EXAMINATION", limit)
    with pool_of(hosts, tmp_path, None) as pool:
        look_until(pool, lambda: hosts.asked.count("n1") == 2)
    assert why in caplog.text


def test_a_host_that_is_told_to_stop_before_it_was_examined_gets_no_job(
    hosts: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(examination, "examine", tell_host)
    with caplog.at_level(logging.INFO, "elastic_hydra"), pool_of(hosts, tmp_path, None) as pool:
        look_until(pool, lambda: hosts.asked.count("n1") == 2)
        assert pool.take_told() == []
    assert "no host at n1: it was told to stop by SIGTERM" in caplog.text


def test_another_host_is_asked_for_while_one_is_silent_that_may_still_run_jobs(
    hosts: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "examine", hang)
    monkeypatch.setattr(place, "_LATE", math.inf)
    with pool_of(hosts, tmp_path, None, silence=6.0) as pool:
        look_until(pool, lambda: bool(list(tmp_path.glob("*.seen"))))
        ours = psutil.Process().children()
        host = next(child for child in ours if "elastic_hydra.hosts.host_process" in " ".join(child.cmdline()))
        host.suspend()
        look_until(pool, lambda: "n2" in hosts.asked)  # a busy machine may have been silent itself before
        host.resume()


def test_what_a_process_notes_while_its_host_is_let_go_is_read(
    hosts: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "examine", note_its_end)
    with pool_of(hosts, tmp_path, None) as pool:
        look_until(pool, lambda: bool(list(tmp_path.glob("*.seen"))))
        pool.close()
        assert [event.endpoint for event in pool.take_stores()] == ["n1:1"]


def test_a_host_that_was_told_to_end_is_not_asked_for_anything_more(hosts: Programs, tmp_path: Path) -> None:
    settings = OmegaConf.create({"shutdown_timeout": 1.0, "preload": [], "dry_run": False})
    token_file, heard = TokenFile(tmp_path, "hydra.sweep.dir"), Record().heard()
    places = [place.Place(name) for name in hosts.places()]
    with contextlib.closing(HostConnections(hosts, HostsConfig(), settings, {}, token_file)) as connections:
        for each in places:
            connections.ask(each, time.monotonic(), heard)
        assert all(is_there(connection) for connection in connections.open)
        places[0].close()
        connections.set_shutdown_timeout(5.0)
        connections.preload(["wave"])
        leaving, staying = connections.open
        process = start(staying, is_imported, "wave")
        await_end(staying, process)
        assert (outcome := process.outcome()) is not None
        assert outcome.value is True
        assert wait([leaving], lambda: leaving.lost, PATIENCE)
        assert leaving.fate.endswith("has ended: the launcher needs it no more")


def test_files_of_launchers_that_were_killed_do_not_stay_for_ever(tmp_path: Path) -> None:
    old, other, ours = (TokenFile(tmp_path, "hydra.sweep.dir") for _ in range(3))
    old.write()
    os.utime(old.path, (1.0, 1.0))
    other.write()
    ours.write()
    assert {path.name for path in tmp_path.iterdir()} == {other.path.name, ours.path.name}
    old.write()
    assert old.path.read_text() == old.token, "a launcher that lives has its own again"


def test_what_is_too_large_for_a_stream_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "LONGEST", 1000)
    monkeypatch.setattr(host_connections, "PRELOAD", ())
    message = r"it has \d+ bytes.* read it in the job"
    large = pool_of(Programs([SILENT]), tmp_path, None, shared={"task": b"0" * 1000})
    with large as pool, pytest.raises(ConfigError, match=message):
        pool.first(1)


def test_the_sweep_goes_on_when_nobody_reads_its_standard_output_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", file)
    for _ in range(2):
        write_on(["a line of a job's"])
    with contextlib.suppress(BrokenPipeError):
        file.close()
