"""What verbs have in common that start the app of a sweep again."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeVar

import click

from elastic_hydra.cli.errors import UserError
from elastic_hydra.journal.events import LauncherSubmitted, SweepBegan
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import shown_path

__all__ = ["become", "launcher_of_command"]

L = TypeVar("L", bound=SweepBegan | LauncherSubmitted)


def launcher_of_command(sweep: SweepOverview, launcher: L | None, otherwise: str) -> L:
    """Return what is recorded of a launcher, if it was started by a command.

    Args:
        sweep: the sweep.
        launcher: what is recorded; None: nothing is.
        otherwise: what to do if it was not.

    Raises:
        UserError: the journal knows no command, or the directory in which it ran is gone.
    """
    if launcher is None or not launcher.program or launcher.cwd is None:
        raise UserError(
            f"{shown_path(sweep.folder)}: the journal knows no command that started the sweep, since Python code, a "
            f"notebook or an older elastic_hydra did: {otherwise}"
        )
    if not os.path.isdir(launcher.cwd):
        raise UserError(f"{launcher.cwd}, where the sweep was started, is gone: make it again, with the app in it")
    return launcher


def become(command: Sequence[str], cwd: str, *, only_print: bool) -> NoReturn:
    """Show a command, and let it take the place of this process.

    Args:
        command: the command.
        cwd: the directory in which it runs.
        only_print: whether it is written to standard output instead, for a shell.

    Raises:
        UserError: its program cannot be executed.
    """
    here = os.path.samefile(cwd, os.getcwd())
    text = shlex.join(command) if here else f"cd {shlex.quote(cwd)} && {shlex.join(command)}"
    if only_print:
        click.echo(text)
        raise click.exceptions.Exit(0)
    click.secho(text, dim=True, err=True)
    sys.stdout.flush()
    os.chdir(cwd)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        raise UserError(f"{command[0]} cannot be executed ({error.strerror}): start the command with another") from None
