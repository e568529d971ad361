"""The error of a user of the command line."""

from __future__ import annotations

import click

__all__ = ["UserError"]


class UserError(click.ClickException):
    """What was asked for cannot be done. The text says in one line why not, and what to do; it ends the command with 2.

    Args:
        message: the line, without the name of the command.
    """

    exit_code = 2
