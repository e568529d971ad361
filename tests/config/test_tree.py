"""A tree of keys against its schema: keys that do not exist, groups that are none, values that nothing can take."""

# The checks read the annotations at run time, as OmegaConf does: Optional, not `|`, and no strings.

import math
from dataclasses import dataclass, field
from typing import Any, Optional

import pytest

from elastic_hydra.config.problems import Problems
from elastic_hydra.config.tree import as_schema, check_tree
from elastic_hydra.config.values import LARGEST


@dataclass
class Waits:
    first: float = 1.0
    most: Optional[float] = None  # noqa: UP045


@dataclass
class Retry:
    times: int = 0
    waits: Waits = field(default_factory=Waits)


@dataclass
class Keys:
    _target_: str = "a.B"
    parallel: Any = 1
    memory_limit: Any = None
    names: list[str] = field(default_factory=list)
    retry: Retry = field(default_factory=Retry)
    own: Waits = field(default_factory=Waits)


THERE_ARE = "there are parallel, memory_limit, names, retry, own"
PROFILE = "must be a group of keys: times, waits; a profile is chosen with hydra/launcher/retry=NAME"
MOST = f"must not be more than {LARGEST}"


def lines(settings: dict[str, Any]) -> list[str]:
    problems = Problems()
    check_tree(settings, Keys, problems)
    return [line.removeprefix("hydra.launcher.") for line in problems.lines]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"_target_": "x", "_recursive_": False, "_convert_": "all", "parallel": "auto", "names": ["a"]},
        {"parallel": LARGEST},
        {"parallel": -LARGEST},
        {"memory_limit": LARGEST + 1},
        {"retry": "${retry}", "own": {"first": 2, "most": None}},
        {"retry": {"waits": {"first": 0.5}}},
    ],
    ids=str,
)
def test_what_the_schema_has_passes(settings: dict[str, Any]) -> None:
    assert lines(settings) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"paralel": 2}, [f"paralel=2: there is no such key (did you mean parallel?); {THERE_ARE}"]),
        ({"zzz": 2, "yyy": 1}, [f"{key}: there is no such key; {THERE_ARE}" for key in ("zzz=2", "yyy=1")]),
        (
            {"zzz": 1, "parallel": "???"},
            [f"zzz=1: there is no such key; {THERE_ARE}", "parallel=???: has no value yet, and needs one"],
        ),
        ({"_convert_": "all", "parallel": "???"}, ["parallel=???: has no value yet, and needs one"]),
        (
            {"retry": {"waits": {"frist": 1}}},
            ["retry.waits.frist=1: there is no such key (did you mean first?); there are first, most"],
        ),
        ({"retry": "often"}, [f"retry=often: {PROFILE}"]),
        ({"retry": None}, [f"retry=null: {PROFILE}"]),
        ({"own": 3}, ["own=3: must be a group of keys: first, most"]),
        ({"parallel": math.nan}, ["parallel=nan: must be a finite number"]),
        ({"own": {"first": math.inf}}, ["own.first=inf: must be a finite number"]),
        ({"own": {"most": math.inf}}, ["own.most=inf: must be a finite number, or null"]),
        ({"parallel": LARGEST + 1}, [f"parallel={LARGEST + 1}: {MOST}"]),
        ({"parallel": -LARGEST - 1}, [f"parallel={-LARGEST - 1}: {MOST}"]),
        ({"parallel": 1e10}, [f"parallel=10000000000.0: {MOST}"]),
    ],
    ids=str,
)
def test_what_it_does_not_have_is_refused_by_its_full_name(settings: dict[str, Any], expected: list[str]) -> None:
    assert lines(settings) == expected


def test_plain_values_become_objects_of_the_schema_and_what_is_missing_has_its_default() -> None:
    made = as_schema(Keys, {"parallel": 2, "_convert_": "all", "retry": {"waits": {"first": 3}}})
    assert made == Keys(parallel=2, retry=Retry(waits=Waits(first=3)))
    assert isinstance(made.retry.waits, Waits)
