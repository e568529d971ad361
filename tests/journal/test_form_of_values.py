"""In which form a return value stands in the journal: each border, and which files stay."""

from __future__ import annotations

import base64
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.events import JobEnded
from elastic_hydra.journal.values import Value, folder_of, forget_older, size, with_value

LARGE = 1 << 20
END = JobEnded(num=3, state="finished", reason="")


class Broken:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise OSError("nothing to read")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


AS_JSON = [
    ("x" * LARGE, True),
    ("x" * (LARGE + 1), False),
    ([1] * (LARGE // 10), True),
    ([1] * (LARGE // 10 + 1), False),
    (["x" * (LARGE - 2)], True),
    (["x" * (LARGE - 1)], False),
    ({"key": "x" * (LARGE - 7)}, True),
    ({"key": "x" * (LARGE - 6)}, False),
    ([{"key": "x" * (LARGE - 9)}], True),
    ([{"key": "x" * (LARGE - 8)}], False),
    ({"a": ["x" * LARGE], "b": 1}, False),
    ({f"{number:06}": None for number in range(LARGE // 18)}, True),
    ({f"{number:06}": None for number in range(LARGE // 18 + 1)}, False),
    (nested(100, lambda value: [value]), True),
    (nested(101, lambda value: [value]), False),
    (nested(100, lambda value: {"": value}), True),
    (nested(101, lambda value: {"": value}), False),
    ((1 << 2000) - 1, True),
    (1 << 2000, False),
    (-(1 << 2000), False),
    ([(), 1], False),
    ([{1: 1}, 1], False),
    ({1: 1}, False),
    ({1: 1, "a": 1}, False),
]


@pytest.mark.parametrize(("value", "as_json"), AS_JSON, ids=lambda value: f"{value!r:.20}")
def test_json_holds_what_it_can_say_within_limits(journal: Path, value: Any, as_json: bool) -> None:
    event = with_value(END, value, journal)
    assert (event.value == value) is as_json
    assert (event.pickle is None and event.file is None) is as_json
    assert Value.of(event, journal, "").load() == value


def test_a_pickle_is_in_the_line_up_to_a_size_and_beyond_it_in_a_file(journal: Path) -> None:
    fits = b"x" * (2 * LARGE - size(b"x" * LARGE))
    assert size(fits) == LARGE
    event = with_value(END, fits, journal)
    assert event.pickle is not None
    assert pickle.loads(base64.b64decode(event.pickle)) == fits
    assert not folder_of(journal).exists()
    event = with_value(END, fits + b"x", journal)
    assert (event.pickle, event.value) == (None, None)
    assert re.fullmatch(r"3-[0-9a-f]{8}\.pickle", str(event.file))
    assert [path.name for path in folder_of(journal).iterdir()] == [event.file]
    assert Value.of(event, journal, "").load() == fits + b"x"


@pytest.mark.parametrize("value", [(), (b"x" * 100_000, "y"), {1, 2}, [1 << 3000]], ids=lambda value: f"{value!r:.20}")
def test_a_size_is_that_of_the_pickle(journal: Path, value: Any) -> None:
    event = with_value(END, value, journal)
    assert size(value) == len(base64.b64decode(event.pickle or ""))


def test_what_cannot_be_pickled_has_no_size() -> None:
    assert size(Broken()) == 0


@pytest.mark.parametrize("value", [Broken(), [b"x" * (2 * LARGE), Broken()]], ids=["small", "large"])
def test_what_cannot_be_pickled_is_said_and_leaves_no_file(journal: Path, value: Any) -> None:
    event = with_value(END, value, journal)
    assert (event.unrecorded, event.value, event.pickle, event.file) == ("OSError: nothing to read", None, None, None)
    assert not folder_of(journal).exists() or not list(folder_of(journal).iterdir())


def test_a_large_value_for_which_there_is_no_file_is_the_writer_s_problem(journal: Path) -> None:
    folder_of(journal).touch()
    with pytest.raises(FileExistsError) as raised:
        with_value(END, b"x" * LARGE, journal)
    assert raised.value.__suppress_context__


def test_of_a_job_s_files_the_newest_stays(journal: Path) -> None:
    folder = folder_of(journal)
    forget_older(journal, 3)  # there is no folder yet
    folder.mkdir()
    for age, name in enumerate(["3-b.pickle", "3-c.pickle", "3-a.pickle", "3-a.other", "33-a.pickle", "4-a.pickle"]):
        (folder / name).touch()
        os.utime(folder / name, (1000 - age, 1000 - age))
    forget_older(journal, 3)
    assert {path.name for path in folder.iterdir()} == {"3-b.pickle", "3-a.other", "33-a.pickle", "4-a.pickle"}
    forget_older(journal, 3)
    assert (folder / "3-b.pickle").exists()


def test_a_file_that_cannot_be_removed_stays(journal: Path) -> None:
    for age, name in enumerate(["3-b.pickle", "3-a.pickle"]):
        (folder_of(journal) / name).mkdir(parents=True)
        os.utime(folder_of(journal) / name, (1000 - age, 1000 - age))
    forget_older(journal, 3)
    assert len(list(folder_of(journal).iterdir())) == 2


EVENTS = [
    (JobEnded(num=3, state="finished", reason=""), "value", None),
    (JobEnded(num=3, state="finished", reason="", value=[1]), "value", [1]),
    (JobEnded(num=3, state="finished", reason="", pickle=""), "pickle", ""),
    (JobEnded(num=3, state="finished", reason="", file=""), "file", ""),
    (JobEnded(num=3, state="finished", reason="", unrecorded=""), "unrecorded", ""),
]


@pytest.mark.parametrize(("event", "kind", "content"), EVENTS, ids=[kind for _, kind, _ in EVENTS])
def test_the_end_of_a_job_says_where_its_value_is(journal: Path, event: JobEnded, kind: str, content: Any) -> None:
    value = Value.of(event, journal, "may be another's")
    assert value == Value(kind, content, journal, "may be another's")
    assert value.is_pickled is (kind in ("pickle", "file"))
    if value.is_pickled:
        with pytest.raises(ConfigError, match=f"^{re.escape(str(journal))} may be another's$"):
            value.load()


def test_only_base64_is_read_as_a_pickle(journal: Path) -> None:
    whole = base64.b64encode(pickle.dumps("text")).decode()
    assert Value("pickle", whole, journal).load() == "text"
    with pytest.raises(ValueError, match="base64"):
        Value("pickle", f"{whole[:4]}!{whole[4:]}", journal).load()


def test_a_file_that_others_can_write_is_not_read(journal: Path) -> None:
    event = with_value(END, b"x" * LARGE, journal)
    path = folder_of(journal) / str(event.file)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))} .*chmod go-w"):
        Value.of(event, journal, "").load()


def test_a_file_is_looked_for_beside_the_journal_only(journal: Path) -> None:
    event = with_value(END, b"x" * LARGE, journal)
    assert Value("file", f"/elsewhere/{event.file}", journal).load() == b"x" * LARGE
