"""Why hosts wait in Slurm's queue: how Slurm is asked, how often, and what is read from its answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.queue import Pending
from elastic_hydra.hosts.slurm import SlurmTransport
from elastic_hydra.hosts.slurm_queue import SlurmQueue, pending_in
from elastic_hydra.hosts.transport import Transport


@pytest.fixture
def coming() -> Mapping[str, Transport]:
    """Two hosts that were asked for."""
    keys = HostsConfig(engine="slurm")
    return {place: SlurmTransport(keys, place, {}) for place in ("job 1", "job 2")}


@pytest.fixture
def queue() -> Iterator[SlurmQueue]:
    with contextlib.closing(SlurmQueue()) as made:
        yield made


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a squeue on PATH, and return the file that has a line for each time that it was asked."""
    asked = folder / "asked"
    program = folder / "squeue"
    program.write_text(f'#!/bin/sh\necho "$SLURM_TIME_FORMAT $*" >> {asked}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return asked


def answer(queue: SlurmQueue, coming: Mapping[str, Transport], now: float) -> list[Pending] | None:
    """Ask, and wait until squeue has ended."""
    assert queue.look(coming, now) is None, "nobody waits for an answer"
    while queue.next_look(now) == now + 0.2:
        if (found := queue.look(coming, now)) is not None:
            return list(found)
        time.sleep(0.01)
    return None


def test_jobs_are_known_by_their_names_and_those_of_others_are_passed_over() -> None:
    said = "71|eh.1a|Priority|1764349200\n72|eh.2b|Resources|N/A\n73|train|Priority|1764349200\nslurm_load_jobs error\n"
    assert pending_in(said, {"eh.1a": "job 1", "eh.2b": "job 2", "eh.3c": "job 3"}) == [
        Pending("job 1", "71", "Priority", 1764349200.0),
        Pending("job 2", "72", "Resources", None),
    ]


@pytest.mark.system
def test_slurm_is_asked_for_all_hosts_at_once_and_seldom(
    queue: SlurmQueue, coming: Mapping[str, Transport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (way.job_name for way in coming.values() if isinstance(way, SlurmTransport))
    lines = f"echo '8|{first}|QOSMaxJobsPerUserLimit|N/A'; echo '9|{second}|Priority|1764349200'"
    asked = squeue(tmp_path, monkeypatch, lines)
    assert queue.look(coming, 100.0) is None
    assert queue.next_look(100.0) == 102.0, "with free nodes there is a host before"
    assert answer(queue, coming, 102.0) == [
        Pending("job 1", "8", "QOSMaxJobsPerUserLimit", None),
        Pending("job 2", "9", "Priority", 1764349200.0),
    ]
    assert queue.next_look(103.0) == 132.0
    assert queue.look(coming, 131.0) is None
    assert queue.look({}, 131.5) is None
    assert queue.next_look(131.5) is None, "nobody waits"
    assert queue.look(coming, 131.6) is None
    assert queue.next_look(131.6) == 133.6
    assert len(asked.read_text().splitlines()) == 1
    assert "--states=PENDING" in asked.read_text()
    assert asked.read_text().startswith("%s ")


@pytest.mark.system
@pytest.mark.parametrize("script", ["echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1", None])
def test_when_slurm_is_silent_the_hosts_are_waited_for_all_the_same(
    queue: SlurmQueue,
    coming: Mapping[str, Transport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
) -> None:
    if script is None:
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        squeue(tmp_path, monkeypatch, script)
    queue.look(coming, 100.0)
    assert answer(queue, coming, 102.0) is None
    assert queue.next_look(103.0) == 132.0


@pytest.mark.system
def test_an_answer_that_does_not_come_holds_up_nothing(
    queue: SlurmQueue, coming: Mapping[str, Transport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue(tmp_path, monkeypatch, "exec sleep 600")
    queue.look(coming, 100.0)
    assert queue.look(coming, 102.0) is None
    assert queue.look(coming, 161.0) is None
    assert queue.next_look(161.0) == 161.2, "it has a minute"
    assert queue.look(coming, 162.0) is None
    assert queue.next_look(162.0) == 132.0, "it was killed, and is asked again"
