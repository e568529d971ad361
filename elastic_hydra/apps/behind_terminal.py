"""`detach=local`: the launcher in a session of its own, which outlives the terminal.

The command that has started it waits until its journal says that it has begun, or until it has ended without that: then
the command shows what it has said, and ends as it has ended. Ctrl-C meanwhile stops the launcher, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from elastic_hydra.apps.relaunch import Output, Relaunch
from elastic_hydra.journal.events import BatchBegan, Event, SweepBegan
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.place import FILE_NAME
from elastic_hydra.journal.writer import path_of_another
from elastic_hydra.overview.words import shown_path
from elastic_hydra.sweeps.detached import OUTPUT, has_time_to_begin
from elastic_hydra.sweeps.slurm_job import SlurmJob
from elastic_hydra.sweeps.stop import keep_last_screen

__all__ = ["start"]

_LOOK_INTERVAL = 0.05
"""Seconds between two looks into the journal."""


def start(relaunch: Relaunch) -> int:
    """Start a launcher, and wait until it has begun.

    Args:
        relaunch: the launcher.

    Returns:
        the exit code: 0: it has begun; else that of the launcher.

    Raises:
        ConfigError: its output cannot be written.
        KeyboardInterrupt: the user does not want it any more; it has ended.
    """
    with Output(relaunch.output, relaunch.key) as output:
        journal = relaunch.folder / FILE_NAME
        position = journal.stat().st_size if journal.exists() else 0
        launcher = subprocess.Popen(
            relaunch.command(),
            env={**os.environ, OUTPUT: str(relaunch.output)},
            stdin=subprocess.DEVNULL,
            stdout=output.fd,
            stderr=output.fd,
            start_new_session=True,
        )
        # It has jobs; or it waits for hosts, as long as that may take.
        awaited = SweepBegan if has_time_to_begin(relaunch.settings) else BatchBegan
        try:
            begun = _await(awaited, launcher, journal, position)
        except KeyboardInterrupt:
            launcher.terminate()
            launcher.wait()
            keep_last_screen()
            raise
        if begun:
            _say(relaunch, launcher.pid)
            return 0
        sys.stdout.flush()
        sys.stderr.write(output.written())
        if not _says(SweepBegan, journal, position, launcher.pid):
            output.take_back()
    code = launcher.returncode
    return code if code >= 0 else 128 - code


def _await(awaited: type[Event], launcher: subprocess.Popen[bytes], journal: Path, position: int) -> bool:
    """Wait until a launcher has written an event, and return True; or until it has ended without that.

    Args:
        awaited: the event.
        launcher: its process.
        journal: of the directory.
        position: where what was there before ends, in bytes.
    """
    another = path_of_another(journal.parent, launcher.pid)
    while True:
        ended = launcher.poll() is not None  # asked first: what it has written is read in any case
        if _says(awaited, journal, position, launcher.pid) or _says(awaited, another, 0, launcher.pid):
            return True
        if ended:
            return False
        time.sleep(_LOOK_INTERVAL)


def _says(awaited: type[Event], journal: Path, position: int, pid: int) -> bool:
    """Whether a launcher has written an event: into a journal, behind the line that says that it has begun."""
    has_begun = False
    for _, event in Lines(journal, position):
        has_begun = has_begun or (isinstance(event, SweepBegan) and event.pid == pid)
        if has_begun and isinstance(event, awaited):
            return True
    return False


def _say(relaunch: Relaunch, pid: int) -> None:
    """Say where the launcher is, and how to look after it."""
    where = f"process {pid} on {os.uname().nodename}"
    print(f"{shown_path(relaunch.folder)}: the launcher runs behind the terminal ({where})\n{relaunch.how_to_look()}")
    if (job := SlurmJob.of(os.environ)) is not None:
        print(f"It ends with {job}, in which this shell is.")
