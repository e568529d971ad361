"""Names of exceptions that no class can have, as a table."""

from __future__ import annotations

import pytest

from elastic_hydra.config.exceptions import doubt_about

OWN = "A class of your own with this name needs its module in front)"


@pytest.mark.parametrize(
    "name",
    [
        "ValueError",
        "MyError",
        "IPError",
        "DataLoaderError",
        "json.JSONDecodeError",
        "not_installed.Error",
        "__main__.Any",
        "ABC",  # capitals, and no word
        "Oom",  # a word, and not in capitals
        "editables.Error",  # installed, and not imported
        "jsom.Error",  # too short to be a slip
        "KeyErrXY",  # two slips in a short name
        "KyeErrro",
        "RuntimXErrYrZ",  # three in a long one
    ],
)
def test_what_may_be_a_class_is_not_doubted(name: str) -> None:
    assert doubt_about(name) is None


@pytest.mark.parametrize(
    ("name", "doubt"),
    [
        ("OOM", "is no class (did you mean oom?)"),
        ("RuntimeEror", f"is all but RuntimeError (did you mean RuntimeError? {OWN}"),
        ("KeyErrorr", f"is all but KeyError (did you mean KeyError? {OWN}"),
        ("KeyErro", f"is all but KeyError (did you mean KeyError? {OWN}"),
        ("RuntimeErrorr", f"is all but RuntimeError (did you mean RuntimeError? {OWN}"),
        ("RuntiemError", f"is all but RuntimeError (did you mean RuntimeError? {OWN}"),
        ("RuntimXErrYr", f"is all but RuntimeError (did you mean RuntimeError? {OWN}"),
        ("IndexErrorn", f"is all but IndexError (did you mean IndexError? {OWN}"),
        ("runtimeerror", f"is all but RuntimeError (did you mean RuntimeError? {OWN}"),
        ("OsError", f"is all but OSError (did you mean OSError? {OWN}"),
        ("json.JSONDecodError", "json has no JSONDecodError (did you mean json.JSONDecodeError?)"),
        ("json.Zzz", "json has no Zzz"),
        ("pytst.Error", "there is no module pytst (did you mean pytest?)"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(name: str, doubt: str) -> None:
    assert doubt_about(name) == doubt
