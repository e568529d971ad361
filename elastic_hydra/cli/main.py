"""The command `elastic-hydra`: it finds the verb, runs it, and says in one line what is wrong with its use."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from elastic_hydra.cli.errors import UserError
from elastic_hydra.config.errors import ConfigError, nearest

__all__ = ["VERBS", "cli", "main"]

VERBS = (
    "status",
    "list",
    "logs",
    "explain",
    "resume",
    "rerun",
    "stop",
    "stacks",
    "run",
    "plan",
    "from-torchrun",
    "report",
    "export",
    "doctor",
)
"""The verbs, in the order of the help. Each is the function `command` in the module of its name in this package."""

_NAME = "elastic-hydra"


class _LazyGroup(click.Group):
    """Imports the module of a verb when the verb is used or its help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb; None: there is none of that name."""
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"elastic_hydra.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb of a command line, and name the most similar one where there is none of that name."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"there is no verb {args[0]}{nearest(args[0], VERBS)}; the verbs are {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"`{_NAME} VERB --help` says more about a verb.",
)
@click.version_option(package_name=_NAME, message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Look at sweeps of elastic_hydra, and act on those that run."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":  # click knows neither of the two
        ctx.color = False
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the present directory was removed: change into another one") from None
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: the command line behind the name of the command; None: that of this process.

    Returns:
        the exit code: 0, 1 when what was looked at is not well, 2 when the command cannot do what it is asked for.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # file names that are not UTF-8 are in exceptions of jobs
    try:
        code = cli.main(args, prog_name=_NAME, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        click.echo(f"{_NAME}: {_one_line(error)}", err=True)
        return 2
    except ConfigError as error:
        click.echo(f"{_NAME}: {error}", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # Python would complain when it flushes what is left at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:  # whoever read the output wants no more of it, as `head` does
            return 1  # as click says where it has seen that itself
        click.echo(f"{_NAME}: {error}: make room there, then say it again", err=True)
        return 2
    return code if isinstance(code, int) else 0


def _one_line(error: click.ClickException) -> str:
    """Return what is wrong in one line, with the way to the help where click only says what is wrong."""
    message = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message = f"{message[:1].lower()}{message[1:].rstrip('.')}; `{error.ctx.command_path} --help` shows the usage"
    return message
