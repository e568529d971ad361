"""What a pool does while there is no host yet."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.transport import CommandTransport
from elastic_hydra.sweeps.host_pool import HostPool, write_on
from elastic_hydra.sweeps.token_file import TokenFile

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
def pool_of(engine: Programs, folder: Path, start_timeout: float | None) -> Iterator[HostPool]:
    settings = OmegaConf.create({"shutdown_timeout": 1.0, "preload": [], "parallel": "auto", "dry_run": False})
    keys = HostsConfig(start_timeout=start_timeout)
    with contextlib.closing(HostPool(engine, keys, settings, {}, TokenFile(folder, "hydra.sweep.dir"))) as pool:
        yield pool


def test_another_host_is_asked_for_when_the_way_to_one_cannot_be_opened(tmp_path: Path) -> None:
    engine = Programs([NOWHERE, NOWHERE, ENDS])
    with pool_of(engine, tmp_path, 120.0) as pool, pytest.raises(ConfigError, match="no host is there") as error:
        pool.first(1)
    assert engine.asked == ["n1", "n2", "n3", "n3", "n3"]
    assert "n1: cannot run /no/such/program: No such file or directory" in str(error.value)
    assert "n3 has not started a host process: it ended with exit code 3" in str(error.value)


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


def test_the_sweep_goes_on_when_nobody_reads_its_standard_output_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", file)
    for _ in range(2):
        write_on(["a line of a job's"])
    with contextlib.suppress(BrokenPipeError):
        file.close()
