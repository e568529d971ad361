"""Lines of a journal: what each field accepts, and what is said of a line that cannot be used."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from elastic_hydra.journal.codec import NewerFormat, UnusableLine, composed_in, decode, encode, head_of
from elastic_hydra.journal.events import (
    AttemptStarted,
    FailedWorker,
    JobComposed,
    JobEnded,
    SweepBegan,
    SweepStopped,
    WorkersBound,
    WorkersFailed,
)


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_a_line_begins_with_time_and_event_and_leaves_out_what_is_none() -> None:
    event = WorkersFailed(time=1.5, num=3, failure=FailedWorker(kind="exit", exitcode=2))
    assert encode(event) == (
        b'{"time": 1.5, "event": "failure", "num": 3, "attempt": 0, "again": false, "counts": true, "reason": "", '
        b'"after": 0.0, "failure": {"kind": "exit", "reason": "", "host": "", "exitcode": 2, "signal": "", '
        b'"names": [], "log_dir": ""}}\n'
    )
    assert decode(encode(event)) == WorkersFailed(
        time=1.5, num=3, failure=FailedWorker(kind="exit", exitcode=2, names=[])
    )


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({"event": "stop"}, SweepStopped(time=0.0)),  # a line that does not say when
        ({"event": "stop", "time": 3}, SweepStopped(time=3)),
        ({"event": "stop", "time": 2.5, "reason": "SIGTERM", "mood": "good"}, SweepStopped(time=2.5, reason="SIGTERM")),
        ({"event": "sweep", "time": 0}, SweepBegan(time=0, version="1")),
        ({"event": "sweep", "time": 0, "v": 1}, SweepBegan(time=0, version="1")),
        ({"event": "sweep", "time": 0, "v": 2, "version": "1.7"}, SweepBegan(time=0, version="1.7")),
        ({"event": "sweep", "time": 0, "task": None}, SweepBegan(time=0, version="1", task=None)),
        ({"event": "start", "num": 1, "attempt": 0, "gpus": [1]}, AttemptStarted(time=0.0, num=1, attempt=0, gpus=[1])),
        ({"event": "failure", "num": 1, "failure": None}, WorkersFailed(time=0.0, num=1)),
        ({"event": "bindings", "num": 1, "workers": [{"a": 1}]}, WorkersBound(time=0.0, num=1, workers=[{"a": 1}])),
        (
            {"event": "end", "num": 1, "state": "failed", "reason": "", "value": {"a": [None]}},
            JobEnded(time=0.0, num=1, state="failed", reason="", value={"a": [None]}),
        ),
        ({"event": "news", "num": []}, None),
    ],
    ids=str,
)
def test_a_line_is_read(fields: dict[str, Any], event: Any) -> None:
    assert decode(line(**fields)) == event


LONG = "x" * 100
NO_JSON = "it is no JSON, or half a line"
NO_EVENT = "it says no event"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", NO_JSON),
        (b'{"event": "stop"', NO_JSON),
        (b"[" * 100_000, NO_JSON),
        (b"[]", NO_EVENT),
        (b'"event"', NO_EVENT),
        (line(num=0), NO_EVENT),
        (line(event=5), NO_EVENT),
        (line(event="stop", v=None), "v=None is no version"),
        (line(event="stop", version=LONG), f"version='{LONG[:39]} is no version"),
        (line(event="stop", version=".1"), "version='.1' is no version"),
        (line(event="stop", version="1" * 10), "version='1111111111' is no version"),
        (line(event="stop", time="now"), "'stop' with time='now'"),
        (line(event="stop", time=True), "'stop' with time=True"),
        (line(event="stop", reason=None), "'stop' with reason=None"),
        (line(event="stop", reason=[LONG]), f"'stop' with reason=['{LONG[:38]}"),
        (line(event="sweep", command="app"), "'sweep' with command='app'"),
        (line(event="sweep", command=["app", 1]), "'sweep' with command=['app', 1]"),
        (line(event="sweep", resume=1), "'sweep' with resume=1"),
        (line(event="sweep", pid=1.0), "'sweep' with pid=1.0"),
        (line(event="start", num=1), "'start' without 'attempt'"),
        (line(event="end", num=1, state="done", reason=""), "'end' with state='done'"),
        (line(event="end", num=1, state=1, reason=""), "'end' with state=1"),
        (line(event="end", num=1, state=["failed"], reason=""), "'end' with state=['failed']"),
        (line(event="bindings", num=1, workers=[{}, []]), "'bindings' with workers=[{}, []]"),
        (line(event="failure", num=1, failure=[]), "'failure' with failure=[]"),
        (line(event="failure", num=1, failure={}), "'failure' without 'kind'"),
        (line(event="failure", num=1, failure={"kind": "x", "rank": "0"}), "'failure' with rank='0'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_used_is_named(text: bytes, why: str) -> None:
    with pytest.raises(UnusableLine, match=f"^{re.escape(why)}$"):
        decode(text)


@pytest.mark.parametrize(
    ("version", "name"),
    [("2", "2"), (2, "2"), ("2.0", "2.0"), ("999999999", "999999999"), ("2." + LONG, "2." + LONG[:38])],
)
def test_a_line_of_a_later_format_is_not_read(version: Any, name: str) -> None:
    with pytest.raises(NewerFormat, match=f"^{re.escape(name)}$") as refused:
        decode(line(event="news", version=version))
    assert refused.value.version == name


CONFIG = 'a: 1\nb: "x"\nc: "\\n\\", \\"dir\\": \\"d\\""\n'
COMPOSED = JobComposed(
    time=1.5,
    num=3,
    overrides=["a=1", "+b=[x, y]"],
    config=CONFIG,
    dir="/d",
    log_dir="/l",
    needs="2",
    duration=60.0,
)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"log_dir": None},
        {"overrides": []},
        {"overrides": [""]},
        {"overrides": ['a="b", "c"']},
        {"overrides": ["a=\\", "b=\u00fc", "c=\n"]},
        {"overrides": ['", "config": "']},
        {"config": ""},
        {"config": "a"},
        {"dir": 'a"b'},
        {"dir": "\u00fc", "needs": "\\"},
        {"time": 0, "num": 0},
    ],
    ids=str,
)
def test_the_overrides_of_a_job_are_found_in_its_line(changed: dict[str, Any]) -> None:
    event = dataclasses.replace(COMPOSED, **changed)
    overrides, rest = composed_in(encode(event))
    assert overrides == event.overrides or (not overrides and not event.overrides)
    told = decode(rest)
    assert isinstance(told, JobComposed)
    assert told.config in ("", event.config)
    assert dataclasses.replace(told, config=event.config) == event


def test_a_usual_line_of_a_job_need_not_be_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [field.name for field in dataclasses.fields(COMPOSED) if getattr(COMPOSED, field.name) in (None, "", [])]
    assert not absent  # a field that is added to the event is in the test, too
    monkeypatch.setattr("elastic_hydra.journal.codec.decode", None)
    assert composed_in(encode(COMPOSED))[0] == COMPOSED.overrides


@pytest.mark.parametrize(
    ("cut", "put"),
    [
        (b'"num": 3', b'"num": "3"'),
        (b'"a=1"', b"1"),
        (b'"a=1"', b'"\\q"'),
        (b'"a=1"', b'"\xff"'),
        (b'"a=1"', b'"a\t"'),
        (b', "dir": "/d"', b""),
        (b'"dir": "/d"', b'"dir": 5'),
        (b'"duration": 60.0}', b'"duration": 60.0'),
        (b'"needs": "2"', b'"event": "batch", "jobs": 1'),
    ],
)
def test_the_line_of_a_job_that_cannot_be_used_has_no_overrides(cut: bytes, put: bytes) -> None:
    text = encode(COMPOSED)
    assert cut in text
    with pytest.raises(UnusableLine):
        composed_in(text.replace(cut, put))


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (b'{"time": 1, "event": "start", "num": 7, "attempt": 0}\n', (b"1", b"start", b"7", b"")),
        (b'{"time": 1.25, "event": "workers", "num": 0}\n', (b"1.25", b"workers", b"0", b"")),
        (
            b'{"time": 1.25, "event": "end", "num": 10, "state": "failed", "x": 1}\n',
            (b"1.25", b"end", b"10", b"failed"),
        ),
        (b'{"time": 1.25, "event": "end", "num": 10, "x": "}\n', (b"1.25", b"end", b"10", b"")),
        (b'{"time": 1.25, "event": "end", "num": 10, "state"\n', (b"", b"", b"", b"")),
        (b'{"time": 1., "event": "end", "num": 10}\n', (b"", b"", b"", b"")),
        (b'{"time": 1, "event": "end", "num": 010}\n', (b"", b"", b"", b"")),
        (b'{"event": "end", "num": 1}\n', (b"", b"", b"", b"")),
        (b"\xff", (b"", b"", b"", b"")),
    ],
)
def test_the_head_of_a_line_is_read_where_encode_has_written_it(text: bytes, head: tuple[bytes, ...]) -> None:
    assert head_of(text) == head
