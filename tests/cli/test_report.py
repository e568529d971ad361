"""`elastic-hydra report`, as far as no browser is needed for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import AttemptStarted, JobEnded, SweepBegan
from elastic_hydra.journal.writer import Journal
from tests.cli.recorded import composed, record

pytest.importorskip("plotly")
pytest.importorskip("jinja2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "multirun" / "sweep"


def made(folder: Path) -> str:
    output = folder.parent / "report.html"
    assert main(["report", str(folder), "-o", str(output)]) == 0
    return output.read_text()


def test_the_page_says_what_is_known_without_a_program(folder: Path) -> None:
    why = "rank 0 raised ValueError: <b>boom</b> in b\udcffd.npy"
    record(
        folder,
        composed(folder, 0, "lr=1"),
        composed(folder, 1, "lr=2"),
        JobEnded(time=1020.0, num=0, state="finished", reason="", value=0.25),
        JobEnded(time=1030.0, num=1, state="failed", kind="exception", reason=why, traceback="File <train.py>"),
    )
    page = made(folder)
    assert "1 finished" in page
    assert "0.25" in page
    assert "File &lt;train.py&gt;" in page  # what a job says cannot change the page
    assert "<b>boom" not in page
    assert "python train.py -m lr=1,2" in page
    assert "http://" not in page.partition("packed-plotly")[0]
    assert "https://" not in page.partition("packed-plotly")[0]


def test_values_are_told_as_far_as_somebody_says_what_is_better(folder: Path) -> None:
    def ended(num: int, value: float) -> JobEnded:
        return JobEnded(time=1020.0, num=num, state="finished", reason="", value=value)

    record(folder, composed(folder, 0, "lr=1"), ended(0, 0.25))
    assert "<h2>Value</h2>" in made(folder)
    record(folder, composed(folder, 1, "lr=2"), ended(1, 0.75), begin=False)
    page = made(folder)
    assert "smallest, #0" in page
    assert "largest, #1" in page
    record(folder, SweepBegan(time=1030.0, dir=str(folder), resume=True, maximize=True), begin=False)
    page = made(folder)
    assert "<h2>Best value</h2>" in page
    assert '<span class="big">0.75</span> <span class="quiet">#1</span>' in page


def test_a_sweep_whose_launcher_was_killed_can_go_on(folder: Path) -> None:
    record(folder, composed(folder, 0, "lr=1"), AttemptStarted(time=1001.0, num=0, attempt=0))
    assert f"<code>elastic-hydra resume {folder}</code> goes on" in made(folder)


def test_an_empty_sweep_has_a_page(folder: Path) -> None:
    assert "no job yet" in made(record(folder))


def test_the_page_of_a_running_sweep_says_so(folder: Path) -> None:
    journal = Journal(folder)  # holds the lock, as a launcher does
    journal.write(SweepBegan(dir=str(folder)))
    journal.write(composed(folder, 0, "lr=1"))
    journal.write(AttemptStarted(num=0, attempt=0))
    page = made(folder)
    assert "This sweep is still running" in page
    assert "1 running" in page


def test_lines_that_cannot_be_used_are_counted(folder: Path) -> None:
    record(folder, composed(folder, 0, "lr=1"))
    with open(folder / "journal.jsonl", "a") as file:
        file.write("half a li\n")
    assert "1 line of the journal cannot be used" in made(folder)


def test_a_sweep_of_two_nodes_has_the_slots_of_both(folder: Path) -> None:
    record(folder, composed(folder, 0, "lr=1"), AttemptStarted(time=1001.0, num=0, attempt=0))
    began = SweepBegan(time=1000.0, host="other", dir=str(folder))
    events = [began, composed(folder, 0, "lr=1"), AttemptStarted(time=1001.0, num=0, attempt=0)]
    (folder / "journal.other.1.jsonl").write_bytes(b"".join(map(encode, events)))
    assert "2 slots" in made(folder)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["plotly"], "report needs plotly: pip install plotly"),
        (["plotly", "jinja2"], "report needs plotly and jinja2: pip install plotly jinja2"),
    ],
)
def test_without_the_extra_it_names_the_extra(
    folder: Path, missing: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    assert main(["report", str(record(folder))]) == 2
    assert capsys.readouterr().err == f"elastic-hydra: {said}\n"


def test_bad_input_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder)
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "journal.jsonl").write_text('{"event": "sweep", "time": 1.0, "version": "9.0"}\n')
    (tmp_path / "plain").mkdir()
    for words, said in (
        ([str(folder), "-o", "/nowhere/report.html"], "/nowhere/report.html: it cannot be written"),
        ([str(tmp_path / "newer")], "version 9.0 of the format"),
        ([str(tmp_path / "plain")], "this is no sweep's directory"),
        ([str(tmp_path / "none")], "there is no such directory"),
    ):
        assert main(["report", *words]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
