"""`elastic-hydra report`: one page about a sweep, with pictures, that opens without a network."""

from __future__ import annotations

import importlib.util
import os
import time

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.arguments import DIRECTORY
from elastic_hydra.cli.errors import UserError

__all__ = ["command"]

_NEEDED = ("plotly", "jinja2")
_DEFAULT = "report.html"


@click.command(short_help="Make a page with pictures about a sweep.")
@click.argument("directory", type=DIRECTORY, metavar="[DIR]", required=False)
@click.option("-o", "--output", metavar="FILE", default=_DEFAULT, show_default=True, help="The page to write.")
def command(directory: str | None, output: str) -> int:
    """Make a page about a sweep: what ran where and when, values, failures, goodput, and all jobs.

    DIR is as for `status`. The page is one file, opens without a network, and shows a sweep that runs as it is now.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(f"report needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    followers = sweeps.opened(sweeps.find(directory))
    from elastic_hydra.report.page import page
    from elastic_hydra.report.page_data import page_data

    now, sweep = time.time(), followers[0].overview
    text = page(sweep, page_data(sweep, followers, now), now)
    try:
        with open(output, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"{output}: it cannot be written ({error.strerror}): choose another file with -o") from None
    click.echo(f"{output}: {len(sweep.jobs)} jobs, {os.path.getsize(output) / 1e6:.1f} MB")
    return 0
