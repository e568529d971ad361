"""The tool that counts which changes the tests notice: what it changes, what it draws, how it counts."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tests.mutation.__main__ import PURE, ROOT, draw, is_equivalent, outdated, pure_modules, score, table
from tests.mutation.equivalent import EQUIVALENT, Equivalent

OUTCOMES = {
    "elastic_hydra.config.sizes.x_size__mutmut_1": "killed",
    "elastic_hydra.config.sizes.x_size__mutmut_2": "survived",
    "elastic_hydra.failures.policy.x_decide__mutmut_1": "timeout",
    "elastic_hydra.failures.policy.x_decide__mutmut_2": "killed",
    "elastic_hydra.failures.policy.x_backoff__mutmut_1": "no tests",
}


def test_each_pattern_names_modules_and_their_tests() -> None:
    for pattern, tests in PURE.items():
        assert list(ROOT.glob(pattern))
        assert list((ROOT / tests).rglob("test_*.py"))


def test_all_pure_modules_are_changed_where_none_is_named() -> None:
    modules = pure_modules([])
    assert "elastic_hydra/failures/policy.py" in modules
    assert not [module for module in modules if module.endswith("__init__.py")]


def test_a_module_that_is_not_pure_is_refused_by_name() -> None:
    with pytest.raises(SystemExit, match=r"elastic_hydra/numa/bind\.py: not among the pure modules"):
        pure_modules([str(ROOT / "elastic_hydra" / "numa" / "bind.py")])


@pytest.mark.parametrize(("number", "expected"), [(1, [1, 1]), (2, [2, 2]), (9, [2, 3]), (None, [2, 3])])
def test_as_many_changes_are_drawn_of_each_module(number: int | None, expected: Iterable[int]) -> None:
    drawn = draw(OUTCOMES, number, random.Random(0))
    assert len(set(drawn)) == len(drawn)
    assert [sum("sizes" in change for change in drawn), sum("policy" in change for change in drawn)] == expected


def test_what_ends_the_tests_is_noticed_and_what_no_test_calls_is_not() -> None:
    scores = score(OUTCOMES)
    assert scores == {"elastic_hydra.config.sizes": (1, 2), "elastic_hydra.failures.policy": (2, 3)}
    assert table(scores).splitlines()[-1].split() == ["60.0", "%", "3", "of", "5", "all"]


def test_a_listed_change_of_a_line_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (ROOT / "elastic_hydra/config/sizes.py").read_text()
    line = next(line.strip() for line in sizes.splitlines() if line.strip().startswith("return "))
    gone = [Equivalent(f"elastic_hydra.config.{name}", "gone", "", "") for name in ("sizes", "values")]
    there = Equivalent("elastic_hydra.config.sizes", line, "", "")
    monkeypatch.setattr("tests.mutation.__main__.EQUIVALENT", [*gone, there])
    said = outdated(["elastic_hydra/config/sizes.py"])
    assert said == ["tests/mutation/equivalent.py: elastic_hydra.config.sizes has no such line any more: gone"]


def test_only_the_listed_change_of_the_listed_line_is_equivalent() -> None:
    listed = EQUIVALENT[0]
    diff = f"--- a.py\n+++ a.py\n@@ -1,2 +1,2 @@\n def f():\n-    {listed.before}\n+    {{}}\n"
    assert is_equivalent(listed.module, diff.format(listed.after))
    assert not is_equivalent(listed.module, diff.format(listed.before))
    assert not is_equivalent("elastic_hydra.config.other", diff.format(listed.after))
    assert not is_equivalent(listed.module, diff.format(listed.after) + "+    more\n")
