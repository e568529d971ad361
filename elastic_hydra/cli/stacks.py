"""`elastic-hydra stacks`: where the workers of a running job are."""

from __future__ import annotations

import click

from elastic_hydra.cli.arguments import DIRECTORY, JOB
from elastic_hydra.cli.control import launcher_of, or_user_error
from elastic_hydra.control.client import stacks

__all__ = ["command"]


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="DIR")
@click.argument("job", metavar="JOB", type=JOB)
def command(directory: str, job: int) -> None:
    """Show the Python stacks of all ranks of a running job.

    The workers go on undisturbed. What they have written is also in stacks.txt beside their logs. Where each node
    has a launcher of its own, these are the ranks of this one.
    """
    launcher, follower = launcher_of(directory)
    found = or_user_error(lambda: stacks(launcher, follower.path, job))
    if not found:
        click.echo(f"#{job} has no workers now: they have just ended, or are started again", err=True)
    for rank, text in sorted(found.items()):
        click.secho(f"rank {rank}", bold=True)
        click.echo(text.rstrip() + "\n")
