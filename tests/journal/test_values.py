"""Return values in the journal: exact, large ones too, and read from nobody else's pickles."""

from __future__ import annotations

import base64
import dataclasses
import enum
import fcntl
import json
import math
import os
import pickle
import signal
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elastic_hydra.journal import lock, reader, values
from elastic_hydra.journal.events import JobComposed, JobEnded, SweepBegan
from elastic_hydra.journal.writer import Journal
from tests.helpers.apps import App


class Color(enum.IntEnum):
    red = 1


class Word(str):
    pass


@dataclasses.dataclass
class Broken:
    """Cannot be pickled, and says so with the error of a file that cannot be read."""

    def __reduce__(self) -> Any:
        raise OSError("nothing to read")


def written(record: Journal, value: Any, num: int = 0) -> values.Value:
    """Record a value as the result of a job, and find it there."""
    record.write(JobComposed(num=num, overrides=[], config="", dir=""))
    record.write_end(JobEnded(num=num, state="finished", reason=""), value)
    found = reader.read(record.path)[num].value
    assert found is not None
    return found


@pytest.fixture
def record(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


JSON = [0.25, -0.0, 10**300, None, True, "text\ud800 \0", [], [1, {"a": [2.5, None]}], {"b": 1, "a": 2}, 5e-324]
PICKLED = [
    (1, 2),
    [(1,)],
    {1: 2},
    {None: 1},
    {"a": {True: 1}},
    complex(1, 2),
    math.inf,
    [-math.inf],
    [1 << 20_000],
    Color.red,
    {Word("a"): Word("b")},
    OrderedDict(a=1),
    {1, 2},
    b"bytes",
    np.float64(0.5),
    [np.float32(0.5)],
    np.int64(3),
    np.bool_(True),
]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in all their parts, and of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and (
        one != 0 or not isinstance(one, float) or math.copysign(1, one) == math.copysign(1, other)
    )


@pytest.mark.parametrize(("value", "as_json"), [(v, True) for v in JSON] + [(v, False) for v in PICKLED])
def test_any_return_value_comes_back_as_it_was_and_json_says_what_it_can(
    record: Journal, value: Any, as_json: bool
) -> None:
    found = written(record, value)
    assert same(found.load(), value)
    assert found.is_pickled is not as_json


def test_values_without_an_order_or_an_equal_come_back_too(record: Journal) -> None:
    assert math.isnan(written(record, math.nan).load())
    assert torch.equal(written(record, torch.ones(3)).load(), torch.ones(3))
    cycle: list[Any] = []
    cycle.append(cycle)
    found = written(record, cycle).load()
    assert found[0] is found
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    assert written(record, deep).load() == deep


def test_a_value_that_cannot_be_recorded_is_no_reason_to_lose_the_job_s_end(record: Journal) -> None:
    with pytest.raises(ValueError, match="OSError: nothing to read"):
        written(record, Broken()).load()
    assert reader.read(record.path)[0].state == "finished"


@pytest.mark.parametrize(
    "value", [b"x" * (3 << 20), ["word"] * (1 << 20), "x" * (2 << 20)], ids=["bytes", "list", "str"]
)
def test_large_values_have_a_file_of_their_own_of_which_the_last_is_kept(record: Journal, value: Any) -> None:
    for _ in range(2):
        found = written(record, value)
        assert found.load() == value
    (file,) = values.folder_of(record.path).iterdir()
    assert file.name == found.content
    assert record.path.stat().st_size < 2000


# --- other users ---------------------------------------------------------------------------------------------------


def test_what_holds_pickles_or_tokens_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    for mask in (0o000, 0o777):
        before = os.umask(mask)
        try:
            folder = tmp_path / str(mask)
            folder.mkdir()
            folder.chmod(0o700)
            (folder / "journal.values").mkdir()
            (folder / "journal.values").chmod(0o700)
            record = Journal(folder)
            written(record, b"x" * (3 << 20))
        finally:
            os.umask(before)
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) == 3
        assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {"0o600"}


BOMB = """
if cfg.x == "tuple":
    return (1, 2)
return cfg.x
"""
CODE = "import pathlib; pathlib.Path('ran').touch()"


class Bomb:
    def __reduce__(self) -> Any:
        return exec, (CODE,)


def mined(path: Path) -> None:
    """Put a pickle with code of its own into the journal of a sweep."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "pickle" in line:
            line["pickle"] = base64.b64encode(pickle.dumps(Bomb())).decode()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.system
@pytest.mark.parametrize("whose", ["another's", "writable"])
def test_pickles_that_somebody_else_may_have_written_are_refused_with_a_way_out_that_works(
    tmp_path: Path, whose: str
) -> None:
    if whose == "another's" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    app = App(tmp_path, BOMB)
    first = app.run("+x=plain,tuple")
    assert first.returncode == 0, first.output
    path = first.folder / "journal.jsonl"
    mined(path)
    os.chown(path, 12345, -1) if whose == "another's" else path.chmod(0o664)

    refused = app.run("+x=plain,tuple", "hydra.launcher.resume=true")
    assert refused.returncode != 0
    assert "the recorded values of #1 are pickles" in refused.output
    assert ("belongs to user 12345" if whose == "another's" else "chmod go-w") in refused.output
    planned = app.run("+x=plain,tuple", "hydra.launcher.resume=true", "hydra.launcher.dry_run=true")
    assert planned.returncode == 0, planned.output
    assert not (tmp_path / "ran").exists()

    json_only = app.run("+x=plain", "hydra.launcher.resume=all")
    assert json_only.returncode == 0, json_only.output
    os.chown(path, os.geteuid(), -1) if whose == "another's" else path.chmod(0o644)
    trusted = app.run("+x=plain,tuple", "hydra.launcher.resume=true")
    assert trusted.returncode == 0, trusted.output
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../elsewhere.pickle", "/etc/passwd", "mine.pickle"])
def test_a_file_of_a_value_is_one_of_ours_in_the_journal_s_own_folder(
    record: Journal, tmp_path: Path, name: str
) -> None:
    folder = values.folder_of(record.path)
    folder.mkdir()
    for path in (tmp_path / "elsewhere.pickle", folder / "mine.pickle"):
        path.write_bytes(pickle.dumps(Bomb()))
        path.chmod(0o666)
    with pytest.raises((ValueError, OSError)):
        values.Value("file", name, record.path).load()
    assert not Path("ran").exists()


@pytest.mark.system
@pytest.mark.parametrize("take", [fcntl.flock, fcntl.lockf], ids=["flock", "lockf"])
def test_a_lock_by_somebody_who_can_only_read_the_journal_keeps_nobody_out(tmp_path: Path, take: Any) -> None:
    (tmp_path / "journal.jsonl").touch()
    (tmp_path / "journal.jsonl").chmod(0o644)
    pid = os.fork()
    if pid == 0:
        with open(tmp_path / "journal.jsonl", "rb") as file:
            take(file, fcntl.LOCK_SH)
            (tmp_path / "locked").touch()
            signal.pause()
        os._exit(0)
    try:
        while not (tmp_path / "locked").exists():
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        assert not lock.is_held_by_another(tmp_path / "journal.jsonl")
        Journal(tmp_path).write(SweepBegan(resume=False))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
