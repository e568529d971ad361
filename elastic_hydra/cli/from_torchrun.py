"""`elastic-hydra from-torchrun`: what does the same as a command line of torchrun."""

from __future__ import annotations

import sys

import click

from elastic_hydra.cli.errors import UserError
from elastic_hydra.torchrun.command_line import join
from elastic_hydra.torchrun.equivalent import equivalent
from elastic_hydra.torchrun.flags import TorchrunError

__all__ = ["command"]


@click.command(
    short_help="Translate a command line of torchrun.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", metavar="COMMAND-LINE", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """Print the command and the YAML file that say the same as a command line of torchrun.

    COMMAND-LINE is torchrun or python -m torch.distributed.run with all that follows. In single quotes, as one word,
    its variables stay variables, and what is before and behind it may be there, too. Without it, standard input is
    read: a script with a command line of torchrun in it.

    \b
    Examples:
      elastic-hydra from-torchrun torchrun --nproc-per-node=4 train.py --lr 0.1
      elastic-hydra from-torchrun 'OMP_NUM_THREADS=8 torchrun --nnodes=$NNODES train.py "$@" | tee log'
      elastic-hydra from-torchrun < launch.sh
    """
    if not words and sys.stdin.isatty():
        raise UserError("no command line: put torchrun and all that follows behind from-torchrun, in quotes")
    try:
        said = equivalent(join(words) if words else sys.stdin.read())
    except TorchrunError as error:
        raise UserError(str(error)) from error
    click.echo(said.command)
    click.echo("\n# The same settings for elastic-hydra run --config-dir . --config-name launch -- …")
    click.echo(said.profile, nl=False)
    if said.remarks:
        click.echo("")
    for remark in said.remarks:
        click.echo(f"# {remark}")
