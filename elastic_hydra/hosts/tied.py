"""A program that hears SIGINT when the launcher is gone, however it has ended (Linux only).

srun waits in the queue without looking at its input: it would stay there for a launcher that was killed. One SIGINT
ends its wait. To a step that runs it says nothing, and its host process has seen the end of the stream.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from elastic_hydra.supervisor import entry
from elastic_hydra.supervisor.forked import die_with_parent

__all__ = ["main", "tied"]


def tied(argv: Sequence[str]) -> list[str]:
    """Return the command line that runs a program so.

    Args:
        argv: the program's own command line.
    """
    return [*entry.interpreter(__name__), str(os.getpid()), *argv]


def main(arguments: list[str]) -> NoReturn:
    """Become the program.

    Args:
        arguments: the launcher's process id, and the command line.
    """
    launcher, *argv = arguments
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have started the launcher with SIGINT ignored
    die_with_parent(int(launcher), signal.SIGINT)
    os.execvp(argv[0], argv)
