"""What `elastic-hydra doctor` prints, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.doctor import examine
from elastic_hydra.doctor.finding import Finding, problem, warning, well


@pytest.mark.parametrize(
    ("findings", "code", "text"),
    [
        ([well("CPUs", "8")], 0, "ok       CPUs: 8\n"),
        ([warning("disk", "small", "buy")], 0, "warning  disk: small\n         -> buy\n"),
        ([problem("lo", "down", "up"), well("CPUs", "8")], 1, "problem  lo: down\n         -> up\nok       CPUs: 8\n"),
    ],
)
def test_findings_are_printed_with_what_to_do_and_a_problem_is_exit_code_1(
    findings: list[Finding], code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(examine, "examine", lambda: iter(findings))
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == text


def test_findings_are_printed_as_they_come(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def slow() -> Iterator[Finding]:
        yield well("first", "1")
        assert "first" in capsys.readouterr().out
        yield well("second", "2")

    monkeypatch.setattr(examine, "examine", slow)
    assert main(["doctor"]) == 0


@pytest.mark.system
def test_this_host_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) in (0, 1)
    said = capsys.readouterr().out
    for part in ("versions", "GPUs", "CPUs", "numa=node", "memory", "network", "open files", "leftovers"):
        assert f" {part}: " in said, part
