"""The next job starts on a GPU when the memory of the last one is free there, or after a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from elastic_hydra.journal import events
from elastic_hydra.journal.writer import Journal
from elastic_hydra.resources.allocator import Allocator
from elastic_hydra.resources.facts import facts_of_this_host
from elastic_hydra.resources.gpu_memory import GpuMemory
from elastic_hydra.resources.slots import Slot
from elastic_hydra.sweeps import sweep
from tests.helpers.batches import launch

pytestmark = pytest.mark.system

GB = 10**9


class Gpu:
    """A GPU of which each look sees the next value."""

    def __init__(self, seen: list[str], values: Sequence[int]) -> None:
        self._seen, self._values = seen, iter(values)

    def used(self, gpus: Sequence[int]) -> Mapping[int, int]:
        value = next(self._values)
        self._seen.append(f"{value // GB} GB")
        return dict.fromkeys(gpus, value)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the launcher sees and does, in turn."""
    found: list[str] = []
    write, write_end = Journal.write, Journal.write_end

    def noted(self: Journal, event: events.Event, *, durable: bool = False) -> None:
        if isinstance(event, events.AttemptStarted):
            found.append(f"start {event.num}")
        write(self, event, durable=durable)

    def noted_end(self: Journal, event: events.JobEnded, value: object) -> None:
        found.append(f"end {event.num}")
        write_end(self, event, value)

    monkeypatch.setattr(Journal, "write", noted)
    monkeypatch.setattr(Journal, "write_end", noted_end)
    monkeypatch.setattr(sweep, "facts_of_this_host", lambda: replace(facts_of_this_host(), gpus=1))
    return found


def run(seen: list[str], values: Sequence[int], wait: float, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(seen, values)
    monkeypatch.setattr(Allocator, "gpu_memory", lambda self: GpuMemory(1, gpu.used, wait))
    returns = launch(lambda config: 1, folder, jobs=[["+x=1"], ["+x=2"]])
    assert [one.return_value for one in returns] == [1, 1]


@pytest.mark.smoke
def test_the_next_job_waits_until_the_memory_is_free(
    seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Somebody else uses 1 GB all the time; the driver keeps a little of the job.
    run(seen, [GB, 5 * GB, 5 * GB, 3 * GB, GB + 10**8, GB + 10**8, GB], 60.0, tmp_path, monkeypatch)
    assert seen == ["start 0", "1 GB", "5 GB", "end 0", "5 GB", "3 GB", "1 GB", "start 1", "1 GB", "1 GB", "end 1"]


def test_it_does_not_wait_for_ever(
    seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(seen, [0, *[2 * GB] * 100], 0.2, tmp_path, monkeypatch)
    assert "start 1" in seen
    assert seen.index("start 1") - seen.index("end 0") > 2, "it has looked again before"
    said = capsys.readouterr().out
    assert "GPU 0: 2.0 GB of a job that has ended are still in use" in said
    assert "hydra.launcher.resources.gpu_memory_wait=0.2" in said


def test_nobody_looks_at_gpus_that_are_not_waited_for(
    seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(seen, [], 0.0, tmp_path, monkeypatch)
    assert seen == ["start 0", "end 0", "start 1", "end 1"]


def test_a_gpu_of_which_nothing_is_known_is_not_waited_for() -> None:
    memory = GpuMemory(2, lambda gpus: {}, 10.0)
    slot = Slot(gpus=(1,))
    assert memory.left(slot, memory.look(slot)) is None
