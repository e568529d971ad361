"""The record of a sweep, and what is decided from it; no processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import reader, writer
from elastic_hydra.journal.codec import decode, encode
from elastic_hydra.journal.events import (
    EVENTS,
    VERSION,
    AttemptStarted,
    FailedWorker,
    JobComposed,
    JobEnded,
    SweepBegan,
    WorkersFailed,
)
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps.resume import History


@pytest.fixture
def record(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def ran(record: Journal, num: int, state: Any, value: Any = None) -> None:
    record.write(JobComposed(num=num, overrides=[f"x={num}"], config=f"x: {num}\n", dir=str(num)))
    record.write(AttemptStarted(num=num, attempt=0))
    if state != "started":
        record.write_end(JobEnded(num=num, state=state, seconds=1.0, reason="why"), value)


def test_a_journal_says_what_happened_to_each_job(record: Journal) -> None:
    record.write(SweepBegan(resume=False))
    ran(record, 0, "finished", 0.5)
    ran(record, 1, "failed")
    ran(record, 2, "started")
    record.write(JobComposed(num=3, overrides=[], config="", dir="3"))
    jobs = reader.read(record.path)
    assert [job.state for job in jobs.values()] == ["finished", "failed", "started", "waiting"]
    assert jobs[0].value is not None
    assert (jobs[0].value.load(), jobs[1].value, jobs[1].reason, jobs[2].attempts) == (0.5, None, "why", 1)


def test_a_crash_at_any_byte_loses_at_most_the_last_line(record: Journal, tmp_path: Path) -> None:
    ran(record, 0, "finished", 1)
    whole = record.path.read_bytes()
    states = set()
    for length in range(len(whole)):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(whole[:length])
        complete = whole[:length].count(b"\n") + (whole[length : length + 1] == b"\n")
        read = reader.read(cut)
        states.add(read[0].state if 0 in read else "")
        assert (0 in read) == (complete >= 1)
    assert states == {"", "waiting", "started", "finished"}  # the last line may lack its end only


def test_writing_goes_on_behind_half_a_line(record: Journal) -> None:
    record.write(SweepBegan(resume=False))
    with open(record.path, "ab") as file:
        file.write(b'{"v": 1, "event": "jo')
    ran(record, 0, "finished", 1)
    assert reader.read(record.path)[0].state == "finished"


def test_a_new_sweep_in_the_same_directory_forgets_the_old_one(record: Journal) -> None:
    ran(record, 0, "finished", 1)
    record.write(SweepBegan(resume=True))
    assert list(reader.read(record.path)) == [0]
    record.write(SweepBegan(resume=False))
    assert reader.read(record.path) == {}


def test_a_journal_says_its_version_in_its_first_line(record: Journal) -> None:
    record.write(SweepBegan(resume=False))
    ran(record, 0, "finished", 1)
    first, *others = map(json.loads, record.path.read_text().splitlines())
    assert first["version"] == VERSION
    assert not any("version" in line for line in others)


@pytest.mark.parametrize("event", ["sweep", "an event that is not known here"])
@pytest.mark.parametrize(("name", "version"), [("version", "2.0"), ("version", "10.1"), ("v", 2)])
def test_a_journal_of_a_newer_version_is_refused_with_what_to_do(
    tmp_path: Path, name: str, version: Any, event: str
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps({name: version, "event": event}) + "\n")
    with pytest.raises(ConfigError, match=f"line 1: version {version} of the .* choose another directory"):
        reader.read(path)


def test_a_journal_of_a_later_minor_version_is_read_without_what_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [
        {"version": "1.99", "event": "sweep", "mood": "good"},
        {"event": "job", "num": 0, "overrides": [], "config": "", "dir": "0", "mood": "good"},
        {"event": "weather", "num": 0},
        {"event": "end", "num": 0, "state": "finished", "reason": "", "value": 3, "mood": "good"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (job,) = reader.read(path).values()
    assert job.value is not None
    assert (job.state, job.value.load()) == ("finished", 3)


# What earlier commits have written, word for word.
WITH_A_VERSION_IN_EACH_LINE = r"""
{"v": 1, "time": 1764111111.123, "event": "sweep", "pid": 7, "host": "node", "command": ["python", "app.py", "-m"], "task": "app", "dir": "/old/sweep", "resume": false}
{"v": 1, "time": 1764111112.1, "event": "job", "num": 0, "overrides": ["x=1"], "config": "x: 1\n", "dir": "/old/sweep/0"}
{"v": 1, "time": 1764111112.2, "event": "job", "num": 1, "overrides": ["x=2"], "config": "x: 2\n", "dir": "/old/sweep/1"}
{"v": 1, "time": 1764111112.3, "event": "start", "num": 0, "attempt": 0, "gpus": [], "cpus": [0, 1]}
{"v": 1, "time": 1764111112.4, "event": "bindings", "num": 0, "attempt": 0, "workers": [{"local_rank": 0, "cpus": [0]}]}
{"v": 1, "time": 1764111113.4, "event": "failure", "num": 0, "attempt": 0, "monotonic": 9.5, "again": true, "counts": true, "reason": "1 of 3", "after": 0.0, "failure": {"kind": "exception", "reason": "ValueError: no", "rank": 1, "host": "node", "exitcode": 1, "signal": "", "names": ["ValueError"], "log_dir": "/old/sweep/0/.elastic"}}
{"v": 1, "time": 1764111114.4, "event": "lost", "num": 0, "attempt": 0, "kind": "agent", "reason": "its agent was lost"}
{"v": 1, "time": 1764111115.4, "event": "start", "num": 0, "attempt": 1, "gpus": [], "cpus": []}
{"v": 1, "time": 1764111116.4, "event": "end", "num": 0, "state": "finished", "kind": "", "reason": "", "seconds": 3.25, "attempts": 2, "restarts": 1, "value": null}
{"v": 1, "time": 1764111117.4, "event": "start", "num": 1, "attempt": 0, "gpus": [], "cpus": []}
{"v": 1, "time": 1764111118.4, "event": "end", "num": 1, "state": "failed", "kind": "exception", "reason": "no", "seconds": 1, "attempts": 1, "restarts": 0}
{"v": 1, "time": 1764111119.4, "event": "stop", "reason": "SIGTERM"}
"""  # noqa: E501


def test_a_journal_that_says_its_version_in_each_line_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(WITH_A_VERSION_IN_EACH_LINE.lstrip())
    record = reader.read(path)
    assert record.task == "app"
    assert [(job.state, job.attempts, job.reason, job.dir) for job in record.values()] == [
        ("finished", 2, "", str(tmp_path / "0")),
        ("failed", 1, "no", str(tmp_path / "1")),
    ]
    assert record[0].value is not None
    assert record[0].value.load() is None
    assert record.config(1) == "x: 2\n"
    assert reader.restarts(path, 0) == (9.5,)
    assert len(list(Lines(path))) == 12
    assert caplog.messages == []


FILLED: dict[str, dict[str, Any]] = {
    "sweep": {
        "pid": 1, "host": "h", "task": "app", "command": ["a", "b"], "program": ["a"], "sweeper": "s", "cwd": "/c",
        "dir": "/d", "control": "c", "resume": True, "maximize": False, "versions": {"python": "3.12.1"}, "cpus": 8,
        "memory": 1 << 34, "gpu_names": ["H200"], "output": "/d/launcher.out",
    },
    "submitted": {
        "slurm_job": "7", "host": "h", "command": ["a", "b"], "program": ["a"], "cwd": "/c", "dir": "/d",
        "single": True, "output": "/d/launcher.out",
    },
    "batch": {"jobs": 4, "parallel": "auto"},
    "job": {
        "num": 3, "overrides": ["x=1"], "config": "x: 1\n", "dir": "/d/3", "log_dir": "/d/3/logs", "needs": "2 GPUs",
        "duration": 7.5,
    },
    "host": {"host": "n1", "cpus": 8, "gpus": 2, "memory": 1 << 30, "ends": 9.5},
    "hosts_pending": {"hosts": [{"job": "7", "reason": "Priority", "starts": 9.5}]},
    "host_left": {"host": "n1", "reason": "why"},
    "host_lost": {"host": "n1", "reason": "why"},
    "start": {"num": 3, "attempt": 1, "gpus": [0, 2], "cpus": [5], "host": "n1", "first_restart": 2},
    "workers": {"num": 3, "attempt": 1},
    "bindings": {"num": 3, "attempt": 1, "workers": [{"cpus": [5]}]},
    "lost": {"num": 3, "attempt": 1, "kind": "agent", "reason": "why", "decision": "attempt 2 of 3", "after": 1.5},
    "held_up": {"reason": "the disk is full"},
    "left_out": {"nums": [3, 4], "reason": "why"},
    "store": {"num": 3, "attempt": 1, "endpoint": "10.0.0.1:29400"},
    "stacks": {"num": 3, "attempt": 1, "workers": [{"rank": 0, "file": "/d/3/stacks.txt", "start": 7}]},
    "stop_asked": {"by": "ann", "reason": "why", "nums": [3, 4], "left_out": [4]},
    "stop": {"reason": "SIGTERM"},
    "requeue": {"slurm_job": "7", "idle": 1, "reason": "it is being preempted"},
    "end": {
        "num": 3, "state": "failed", "kind": "exit", "reason": "why", "seconds": 2.5, "attempts": 3, "restarts": 2,
        "log": "/d/3/logs", "traceback": "Traceback …", "decision": "all restarts are used up",
    },
    "failure": {
        "num": 3, "attempt": 1, "monotonic": 1.5, "again": True, "counts": False, "reason": "why", "after": 2.0,
        "failure": FailedWorker(kind="signal", reason="why", rank=0, host="h", exitcode=-9, signal="SIGKILL"),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_comes_back_from_its_line(name: str) -> None:
    event = EVENTS[name](**FILLED[name])
    line = encode(event)
    assert json.loads(line)["event"] == name
    again = decode(line)
    assert type(again) is type(event)
    assert encode(again) == line


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"event": "end", "num": 0, "state": "finished"}, "'end' without 'reason'"),
        ({"event": "end", "num": 0, "state": "done", "reason": ""}, "'end' with state='done'"),
        ({"event": "start", "num": 0}, "'start' without 'attempt'"),
        ({"event": "job", "num": 1, "overrides": [1], "config": "", "dir": "1"}, "'job' with overrides="),
        ({"event": "job", "num": [], "overrides": [], "config": ""}, "'job' with num="),
        ({"event": "lost", "num": True, "reason": ""}, "'lost' with num=True"),
        ({"event": "sweep", "version": "new"}, "version='new' is no version"),
        ({"event": "sweep", "v": True}, "v=True is no version"),
        ({"event": "failure", "num": 0, "failure": {"kind": 3}}, "'failure' with kind=3"),
        ({"event": "sweep", "task": 5}, "'sweep' with task=5"),
        ({"num": 0}, "says no event"),
        ([], "says no event"),
        ("[" * 100_000, "no JSON"),
        ("\0" * 4096, "no JSON"),
        ('{"v": 1, "event": "en', "half a line"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_the_others_count(
    record: Journal, caplog: pytest.LogCaptureFixture, line: Any, why: str
) -> None:
    ran(record, 0, "finished", 0.5)
    with open(record.path, "a") as file:
        file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    ran(record, 2, "failed")
    jobs = reader.read(record.path)
    assert {num: job.state for num, job in jobs.items()} == {0: "finished", 2: "failed"}
    (warning,) = caplog.messages
    assert f"{record.path}: line 4 cannot be used ({warning.partition('(')[2].partition(')')[0]})" in warning
    assert why in warning
    assert len(warning) < 400
    assert reader.restarts(record.path, 0) == ()


def test_unknown_events_are_passed_over_in_silence(record: Journal, caplog: pytest.LogCaptureFixture) -> None:
    with open(record.path, "a") as file:
        file.write('{"event": "news", "num": "of a later version"}\n')
    assert reader.read(record.path) == {}
    assert caplog.messages == []


def test_restarts_of_a_job_are_counted_over_its_attempts(record: Journal) -> None:
    for again in (True, False, True):
        writer.append(record.path, WorkersFailed(num=0, again=again, counts=True, monotonic=1.0))
    writer.append(record.path, WorkersFailed(num=0, again=True, counts=False, monotonic=2.0))  # a node was preempted
    writer.append(record.path, WorkersFailed(num=1, again=True, counts=True, monotonic=3.0))
    assert len(reader.restarts(record.path, 0)) == 2


# --- resuming ----------------------------------------------------------------------------------------------------

STATES = ["finished", "failed", "interrupted", "started", "waiting", "preempted"]


@pytest.fixture
def history(record: Journal) -> Callable[[str], History]:
    """Return the history of jobs in each state, for a mode."""
    for num, state in enumerate(STATES):
        if state == "waiting":
            record.write(JobComposed(num=num, overrides=[f"x={num}"], config=f"x: {num}\n", dir=str(num)))
        else:
            ran(record, num, state)
    return lambda mode: History(reader.read(record.path), mode)


@pytest.mark.parametrize(
    ("mode", "again"),
    [
        ("true", STATES[1:]),
        ("failed", ["failed"]),
        ("interrupted", STATES[2:]),
        ("all", STATES),
    ],
)
def test_each_mode_runs_its_jobs_again(history: Callable[[str], History], mode: str, again: list[str]) -> None:
    past = history(mode)
    assert [state for num, state in enumerate(STATES) if past.settled(num) is None] == again


def test_a_job_that_is_not_recorded_runs(history: Callable[[str], History]) -> None:
    assert history("failed").settled(99) is None
    assert History().settled(0) is None


def test_jobs_are_known_again_by_their_overrides_and_new_ones_get_new_numbers(
    history: Callable[[str], History],
) -> None:
    past = history("true")
    planned = [["x=3"], ["x=0"], ["x=7"], ["x=8"], ["x=0"]]
    assert [past.number(overrides, index) for index, overrides in enumerate(planned)] == [3, 0, 6, 7, 8]


def test_jobs_with_the_same_overrides_keep_their_numbers(record: Journal) -> None:
    for num in range(3):
        record.write(JobComposed(num=num, overrides=["x=1"], config="x: 1\n", dir=str(num)))
    past = History(reader.read(record.path), "all")
    assert [past.number(["x=1"], num) for num in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("recorded_overrides", "now", "is_known"),
    [
        (["+b=2", "a=1", "db=sql"], ["db=sql", "a=1", "+b=2"], True),
        (["a.c=1", "a.b=2"], ["a.b=2", "a.c=1"], True),
        (["ab=1", "a=2"], ["a=2", "ab=1"], True),
        (["a=1", "a=2"], ["a=2", "a=1"], False),
        (["a.b=1", "a={b: 2}"], ["a={b: 2}", "a.b=1"], False),
        (["~a", "+a=1"], ["+a=1", "~a"], False),
    ],
)
def test_overrides_in_another_order_are_the_same_job_where_their_order_means_nothing(
    record: Journal, recorded_overrides: list[str], now: list[str], is_known: bool
) -> None:
    record.write(JobComposed(num=7, overrides=recorded_overrides, config="", dir="7"))
    assert (History(reader.read(record.path), "true").number(now, 0) == 7) is is_known


def test_keys_of_a_configuration_in_another_order_are_no_change(record: Journal) -> None:
    record.write(JobComposed(num=0, overrides=[], config="a: 1\nb:\n  c: .nan\n  d: ${a}\n", dir="0"))
    past = History(reader.read(record.path), "true")
    past.check(0, "b:\n  d: ${a}\n  c: .nan\na: 1\n")
    with pytest.raises(ConfigError, match=r"(?s)-a: 1\n.*\+a: 2\n"):
        past.check(0, "b:\n  d: ${a}\n  c: .nan\na: 2\n")


def test_what_says_only_where_a_program_runs_may_change(record: Journal) -> None:
    record.write(JobComposed(num=0, overrides=[], config="a: 1\nhosts:\n  name: ${a}\n", dir="0"))
    past = History(reader.read(record.path), "true", ("hosts", "sbatch"))
    past.check(0, "a: 1\nhosts:\n  name: b\nsbatch: {}\n")
    with pytest.raises(ConfigError, match=r"(?s)-a: 1\n.*\+a: 2\n"):
        past.check(0, "a: 2\nhosts:\n  name: b\n")


def test_what_is_recorded_is_said(history: Callable[[str], History]) -> None:
    def found(mode: str, *planned: str, whole: bool = True, first: bool = True) -> str:
        past = history(mode)
        return past.found([past.number([one], num) for num, one in enumerate(planned)], whole, first)

    left = "recorded jobs are not part of this command"
    assert found("true", "x=0", "x=1", "x=9") == f"2 of 3 jobs are recorded, 2 to run; 4 {left} (#2, #3, #4, #5)"
    assert found("true", *(f"x={num}" for num in range(6))) == "6 of 6 jobs are recorded, 5 to run"
    assert found("all", "x=0", whole=False) == "1 of 1 jobs is recorded, 1 to run"
    assert found("true", "x=9") == f"none of 1 jobs is recorded, all are to be run; 6 {left} (#0, #1, #2, #3, #4, …)"
    assert found("true", "x=9", whole=False) == "6 jobs are recorded, none of them asked for by the sweeper yet"
    assert found("true", "x=9", whole=False, first=False) == ""


def test_numbers_are_hydras_when_nothing_is_resumed() -> None:
    assert History().number(["x=3"], 11) == 11


def test_a_changed_configuration_is_refused_with_the_difference(history: Callable[[str], History]) -> None:
    history("true").check(1, "x: 1\n")
    history("true").check(99, "x: 2\n")
    with pytest.raises(ConfigError, match=r"(?s)job #1 .*-x: 1.*\+x: 2"):
        history("true").check(1, "x: 2\n")
