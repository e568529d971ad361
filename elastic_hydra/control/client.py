"""A command's end of the control socket: it asks a launcher, and reads the answer."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elastic_hydra import timeouts
from elastic_hydra.control.listener import peer_of
from elastic_hydra.control.mailbox import ask_by_mail, has_mailbox
from elastic_hydra.control.requests import STACKS, Request
from elastic_hydra.journal.events import StacksWritten, SweepBegan
from elastic_hydra.journal.files import user_name
from elastic_hydra.journal.lines import Lines

__all__ = ["ControlError", "ask", "stacks"]

_LOOK = 0.05
"""Seconds between two looks at whether the stacks are there."""


class ControlError(Exception):
    """A launcher cannot be asked, or refuses; the text says why, and what to do."""


def ask(launcher: SweepBegan, request: Request, folder: Path | None = None) -> dict[str, Any]:
    """Ask a launcher.

    Args:
        launcher: what the sweep's journal says of it.
        request: what is asked.
        folder: the sweep's directory, by which launchers on other hosts may be asked; None: only one on this host can.

    Returns:
        its answer.

    Raises:
        ControlError: it cannot be reached from here, or does not do what is asked.
    """
    who, here = f"the launcher of {launcher.dir} (pid {launcher.pid})", os.uname().nodename
    if launcher.host != here and folder is not None and has_mailbox(folder):
        return _by_mail(folder, who, launcher.host, request)
    if launcher.host != here:
        raise ControlError(f"{who} runs on host {launcher.host}, and this is {here}: give the command there")
    if not launcher.control:
        raise ControlError(
            f"{who} has no control socket: its version is older than that, its host has none, or it runs the jobs "
            f"itself (start_method=inline). To stop all of the sweep, say kill {launcher.pid}"
        )
    try:
        said = _said(launcher.control, who, request)
    except TimeoutError:
        raise ControlError(
            f"{who} has not answered within {timeouts.CONTROL_ANSWER:g} s: it is stopped or very busy. Try again"
        ) from None
    except ConnectionRefusedError:
        raise ControlError(f"{who} has ended, so nobody can be asked; elastic-hydra status shows the jobs") from None
    except OSError:
        said = b""
    return _checked(json.loads(said) if said.endswith(b"\n") else {"error": f"{who} has ended meanwhile"})


def _by_mail(folder: Path, who: str, host: str, request: Request) -> dict[str, Any]:
    try:
        return _checked(ask_by_mail(folder, request))
    except TimeoutError:
        raise ControlError(
            f"{who} on host {host} has not answered within {timeouts.MAIL_ANSWER:g} s: it has ended, or does not see "
            "what is written here. Look at it there"
        ) from None
    except OSError as error:
        raise ControlError(f"{who} runs on host {host}, and cannot be asked from here ({error}): ask there") from None


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that is no refusal."""
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer


def stacks(launcher: SweepBegan, journal: Path, num: int) -> dict[int, str]:
    """Return the Python stacks of the workers of a running job, by rank; those of all workers of its launcher.

    Args:
        launcher: what the sweep's journal says of it.
        journal: that journal. The job's agents say in it where the stacks are.
        num: the job.

    Raises:
        ControlError: they cannot be had.
    """
    start, deadline, again = journal.stat().st_size, time.monotonic() + timeouts.STACKS_ANSWER, 0.0
    found: dict[int, str] = {}
    while (now := time.monotonic()) < deadline:
        if now >= again:
            ask(launcher, Request(STACKS, (num,)))
            again = now + timeouts.STACKS_ANSWER / 3.0  # an agent that has just been started did not hear it
        nodes: set[int] = set()
        for _, event in Lines(journal, start):
            if isinstance(event, StacksWritten) and event.num == num:
                nodes.add(event.node)
                found.update({int(worker["rank"]): _text(worker) for worker in event.workers})
                if len(nodes) == event.nodes:
                    return found
        time.sleep(_LOOK)
    if found:
        return found  # a node that does not answer is mostly why somebody has asked
    raise ControlError(
        f"the agent of job #{num} has not answered within {timeouts.STACKS_ANSWER:g} s: its workers are not started "
        "yet, or it is stopped or hangs. Look at the job's log, or ask again"
    )


def _said(name: str, who: str, request: Request) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeouts.CONTROL_ANSWER)
        sock.connect(f"\0{name}")
        _, user = peer_of(sock)
        if user != os.geteuid() != 0:
            raise ControlError(f"{who} is {user_name(user)}'s, and you are {user_name(os.geteuid())}")
        sock.sendall(request.encode())
        with sock.makefile("rb") as file:
            return file.readline()


def _text(worker: Mapping[str, Any]) -> str:
    if not worker["file"]:
        return "They could not be written: is the disk full?\n"
    try:
        with open(worker["file"], errors="replace") as file:
            file.seek(worker["start"])
            return file.read()
    except OSError as error:
        return f"They cannot be read: {error}\n"
