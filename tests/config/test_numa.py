"""Settings that no machine could follow: each border, and what is said beyond it."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from elastic_hydra.config.numa import Allocator, Cpus, Memory, Near, NumaConfig, check_numa
from elastic_hydra.config.problems import Problems

CHOICES: dict[str, type[Enum]] = {"cpus": Cpus, "near": Near, "memory": Memory, "allocator": Allocator}
CORES = "has no meaning with hydra.launcher.numa.cpus={}; choose spread, core, llc, node or package"
THREADS = "must be auto, a number of 1 or more, or null"


def lines(**settings: Any) -> list[str]:
    problems = Problems()
    check_numa(NumaConfig(**settings), problems)
    return [line.removeprefix("hydra.launcher.numa.") for line in problems.lines]


def test_the_defaults_are_right() -> None:
    assert lines() == []


@pytest.mark.parametrize("key", CHOICES)
def test_each_choice_is_known_by_its_name_and_no_other_word_is(key: str) -> None:
    words = [choice.value for choice in CHOICES[key]]
    more = {"explicit": ["0"]}
    assert [lines(**{key: word}, **(more if word == "explicit" else {})) for word in words] == [[] for _ in words]
    assert lines(**{key: "zzz"}) == [f"{key}=zzz: must be one of {', '.join(words)}"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cpus": Cpus.spread, "cores_per_worker": 1}, []),
        ({"cpus": Cpus.spread, "cores_per_worker": 0}, ["cores_per_worker=0: must be 1 or more, or null"]),
        ({"cpus": Cpus.none, "cores_per_worker": 1}, [f"cores_per_worker=1: {CORES.format('none')}"]),
        ({"cpus": "none", "cores_per_worker": 1}, [f"cores_per_worker=1: {CORES.format('none')}"]),
        (
            {"cpus": Cpus.explicit, "explicit": ["0"], "cores_per_worker": 1},
            [f"cores_per_worker=1: {CORES.format('explicit')}"],
        ),
        ({"reserve_cores": 0}, []),
        ({"reserve_cores": -1}, ["reserve_cores=-1: must be 0 or more"]),
        ({"threads": None}, []),
        ({"threads": 1}, []),
        ({"threads": "2"}, []),
        ({"threads": 0}, [f"threads=0: {THREADS}"]),
        ({"threads": -1}, [f"threads=-1: {THREADS}"]),
        ({"threads": "many"}, [f"threads=many: {THREADS}"]),
        ({"cpus": Cpus.explicit, "explicit": ["0-3,8", "4"]}, []),
        (
            {"cpus": Cpus.explicit},
            ["explicit=[]: hydra.launcher.numa.cpus=explicit needs one list of CPUs per local rank"],
        ),
        ({"explicit": ["0"]}, ["explicit=['0']: is read only with hydra.launcher.numa.cpus=explicit"]),
        *[
            (
                {"cpus": Cpus.explicit, "explicit": ["0", text]},
                [f"explicit=['0', '{text}']: '{text}' is not a list of CPUs such as '0-3,8'"],
            )
            for text in ("", "x", "3-2")
        ],
    ],
)
def test_each_key_says_what_it_may_be(settings: dict[str, Any], expected: list[str]) -> None:
    assert lines(**settings) == expected
