"""Requests from other hosts: who is heard, and when."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from elastic_hydra import timeouts
from elastic_hydra.control import mailbox
from elastic_hydra.control.mailbox import Mailbox, ask_by_mail, has_mailbox
from elastic_hydra.control.requests import STOP, Request
from elastic_hydra.journal.files import user_name


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    monkeypatch.setattr(mailbox, "LOOK_INTERVAL", 600.0)  # it is the tests that say when it is time
    return Mailbox(tmp_path)


def asked_by_another(folder: Path, request: Request, answers: list[object]) -> threading.Thread:
    """Ask in a thread, and wait until the request is in the file."""

    def ask() -> None:
        try:
            answers.append(ask_by_mail(folder, request))
        except TimeoutError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while b'"mail"' not in (folder / "journal.requests").read_bytes():
        thread.join(0.01)
    return thread


def test_a_request_is_heard_once_and_answered(tmp_path: Path, box: Mailbox) -> None:
    answers: list[object] = []
    thread = asked_by_another(tmp_path, Request(STOP, (3,), "the loss is NaN"), answers)
    assert box.take() == []  # it is not time yet
    box.next_look = 0.0
    (asked,) = box.take()
    assert asked.request == Request(STOP, (3,), "the loss is NaN")
    assert asked.by == user_name(tmp_path.stat().st_uid)
    asked.answer(running=[3], left_out=[])
    thread.join()
    assert [answer["running"] for answer in answers] == [[3]]  # type: ignore[index]
    box.next_look = 0.0
    assert box.take() == []


def test_what_was_said_to_an_earlier_launcher_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "MAIL_ANSWER", 0.0)
    assert not has_mailbox(tmp_path)
    Mailbox(tmp_path)
    assert has_mailbox(tmp_path)
    with pytest.raises(TimeoutError):
        ask_by_mail(tmp_path, Request(STOP))
    box = Mailbox(tmp_path)
    box.next_look = 0.0
    assert box.take() == []


@pytest.mark.parametrize(("mode", "heard"), [(0o600, 1), (0o620, 0), (0o602, 0)])
def test_a_file_that_others_can_write_is_not_believed(
    tmp_path: Path, box: Mailbox, monkeypatch: pytest.MonkeyPatch, mode: int, heard: int
) -> None:
    monkeypatch.setattr(timeouts, "MAIL_ANSWER", 0.0)
    (tmp_path / "journal.requests").chmod(mode)
    with pytest.raises(TimeoutError):
        ask_by_mail(tmp_path, Request(STOP))
    box.next_look = 0.0
    assert len(box.take()) == heard


def test_lines_that_are_no_requests_are_passed_over(tmp_path: Path, box: Mailbox) -> None:
    with (tmp_path / "journal.requests").open("a") as file:
        file.write('nonsense\n[]\n{"verb": "stop"}\n{"mail": "1", "by": "me", "verb": "dance"}\n{"mail": "2"')
    box.next_look = 0.0
    assert box.take() == []
    assert "this launcher knows only the requests" in (tmp_path / "journal.requests").read_text()


def test_a_file_that_is_gone_says_nothing(tmp_path: Path, box: Mailbox) -> None:
    (tmp_path / "journal.requests").unlink()
    box.next_look = 0.0
    assert box.take() == []
    box.refuse_all("it ends")
