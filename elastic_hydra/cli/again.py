"""What verbs have in common that start the app of a sweep again."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from elastic_hydra.cli.errors import UserError
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import shown_path

__all__ = ["become", "launcher_of_command"]


def launcher_of_command(sweep: SweepOverview, otherwise: str) -> SweepBegan:
    """Return what is recorded of the last launcher, if it was started by a command.

    Args:
        sweep: the sweep.
        otherwise: what to do if it was not.

    Raises:
        UserError: the journal knows no command, or the directory in which it ran is gone.
    """
    began = sweep.began
    if began is None or not began.program or began.cwd is None:
        raise UserError(
            f"{shown_path(sweep.folder)}: the journal knows no command that started the sweep, since Python code, a "
            f"notebook or an older elastic_hydra did: {otherwise}"
        )
    if not os.path.isdir(began.cwd):
        raise UserError(f"{began.cwd}, where the sweep was started, is gone: make it again, with the app in it")
    return began


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
