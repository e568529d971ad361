"""Large results and messages on their way between processes."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elastic_hydra.journal import values
from elastic_hydra.journal.events import JobEnded
from elastic_hydra.supervisor import outcome
from elastic_hydra.supervisor.anonymous_files import anonymous_file
from elastic_hydra.supervisor.outcome import Outcome
from elastic_hydra.supervisor.packed_error import pack, unpack

pytestmark = pytest.mark.system

SIZE = 64 << 20


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_child(work: Any) -> float:
    """Run a function in a process of its own, and return by how many sizes its memory has grown at most."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = _peak()
        work()
        os.write(writer, str((_peak() - before) / SIZE).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return float(said)


VALUES: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"x" * SIZE,
    "str": lambda: "x" * SIZE,
    "numpy": lambda: np.ones(SIZE // 8),
    "parts": lambda: {"parts": [np.ones(SIZE // 32) for _ in range(4)]},
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_large_result_is_read_and_recorded_in_twice_its_size(tmp_path: Any, kind: str) -> None:
    fd = anonymous_file("result")
    outcome.write(fd, Outcome(VALUES[kind]()))

    def work() -> None:
        got = outcome.read(fd)
        assert got is not None
        end = JobEnded(num=0, state="finished", reason="")
        assert values.with_value(end, got.value, tmp_path / "journal.jsonl").file

    assert _in_child(work) < 2.2
    (file,) = (tmp_path / "journal.values").iterdir()
    assert _in_child(lambda: values.Value("file", file.name, tmp_path / "journal.jsonl").load()) < 2.2
    os.close(fd)


def test_an_outcome_is_read_without_moving_its_writer_s_position() -> None:
    fd = anonymous_file("result")
    outcome.write(fd, Outcome(b"x" * 1_000_000))
    position = os.lseek(fd, 0, os.SEEK_CUR)
    for _ in range(2):
        got = outcome.read(fd)
        assert got is not None
        assert got.value == b"x" * 1_000_000
    assert os.lseek(fd, 0, os.SEEK_CUR) == position
    os.close(fd)


class Told(ValueError):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.text = text


@pytest.mark.smoke
@pytest.mark.parametrize("error", [ValueError("y" * 5_000_000), Told(3, "y" * 5_000_000), KeyError(b"y" * 5_000_000)])
def test_a_message_of_megabytes_is_handed_on_in_short(error: Exception) -> None:
    packed = pack(error)
    assert packed.exception is not None
    assert len(packed.exception) + len(packed.message) + len(packed.text) < 1_000_000
    restored = unpack(packed)
    assert type(restored) is type(error)
    assert "stderr.log" in str(restored)
    if isinstance(restored, Told):
        assert restored.args[0] == 3


def test_a_message_that_people_can_read_is_handed_on_as_it_is() -> None:
    assert str(unpack(pack(Told(3, "y" * 1000)))) == str(Told(3, "y" * 1000))
