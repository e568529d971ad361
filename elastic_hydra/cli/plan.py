"""`elastic-hydra plan`: what a command would launch, here as a dry run, or as text for elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from elastic_hydra.cli.again import become
from elastic_hydra.cli.errors import UserError

__all__ = ["command"]

_KINDS = ("sbatch", "jobset", "trainjob")
_OF_THE_PLACE = (
    ("name", "NAME", "Of the job. Default: that of the app."),
    ("gpus-per-node", "N", "GPUs of each node; 0: none."),
    ("cpus-per-task", "N", "Hardware threads of each node."),
    ("mem", "SIZE", "Memory of each node, as 64G."),
    ("time", "TIME", "sbatch: the time limit, as 04:00:00."),
    ("partition", "NAME", "sbatch: where the job waits."),
    ("account", "NAME", "sbatch: whom the time is charged to."),
    ("qos", "NAME", "sbatch: the quality of service."),
    ("constraint", "LIST", "sbatch: features that nodes must have."),
    ("setup", "LINE", "sbatch: a line of bash before the command, as 'module load cuda'; may be given several times."),
    ("image", "IMAGE", "jobset, trainjob: the container image, with the app and elastic-hydra."),
    ("pvc", "NAME", "jobset, trainjob: the volume claim that keeps the sweep's directory."),
    ("mount-path", "DIR", "jobset, trainjob: where the pods have that volume. Default: /sweeps."),
    ("namespace", "NAME", "jobset, trainjob: the namespace."),
    ("queue", "NAME", "jobset, trainjob: the local queue of Kueue."),
    ("runtime", "NAME", "trainjob: the ClusterTrainingRuntime. Default: torch-distributed."),
)
"""Names of options, what is given with each, and what it is."""


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what no setting says of another place."""
    for name, metavar, what in reversed(_OF_THE_PLACE):
        number = click.IntRange(min=0) if metavar == "N" else None
        function = click.option(f"--{name}", metavar=metavar, type=number, multiple=name == "setup", help=what)(
            function
        )
    return function


@click.command(
    short_help="Show what a command would launch, or write it for Slurm or Kubernetes.",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("words", metavar="COMMAND", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--render", "kind", type=click.Choice(_KINDS), metavar="KIND", help="Write text: sbatch, jobset, trainjob."
)
@_options
def command(words: tuple[str, ...], kind: str | None, **said: Any) -> None:
    """Show what a command would launch here, or write a text that launches it elsewhere.

    COMMAND is a whole command line: of an app with hydra/launcher=elastic, or elastic-hydra run. Without --render it is
    run with hydra.launcher.dry_run=true. With it, a batch script for Slurm, a JobSet of Kubernetes, or a TrainJob of
    Kubeflow Trainer is written to standard output; it was not tried on a cluster.

    \b
    Examples:
      elastic-hydra plan train.py -m hydra/launcher=elastic lr=0.1,0.01
      elastic-hydra plan --render sbatch --gpus-per-node 4 --cpus-per-task 32 --time 04:00:00 \\
          train.py -m hydra/launcher=elastic lr=0.1,0.01 > lr.sh
      elastic-hydra plan --render jobset --gpus-per-node 8 --image registry/train --pvc sweeps \\
          elastic-hydra run nodes=2 nproc_per_node=8 -- train.py --lr 0.1 > train.yaml
    """
    from elastic_hydra.render.command import Command  # imports Hydra
    from elastic_hydra.render.site import Site
    from elastic_hydra.render.text import text_for

    site = Site(**said)
    if not words:
        raise UserError(
            "COMMAND is missing: put the command that launches behind the options: elastic-hydra plan train.py -m …"
        )
    if kind is not None:
        click.echo(text_for(kind, words, site), nl=False)
        return
    site.check((), {}, "plan without --render")
    become(Command.of(words).dry_run(), os.getcwd(), only_print=False)
