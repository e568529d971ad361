"""`elastic-hydra doctor`: whether this host is fit for jobs, and what to do where it is not."""

from __future__ import annotations

import textwrap

import click

from elastic_hydra.cli.columns import terminal_width

__all__ = ["command"]

_COLOURS = ("green", "yellow", "red")
"""Of the severities of findings."""
_MARGIN = 9
"""Columns for the word that says how bad a finding is."""


@click.command(short_help="Look at whether this host is fit for jobs.")
def command() -> int:
    """Look at this host: versions, GPUs, NUMA, limits, memory, network, and what dead sweeps have left.

    Each finding that is not well says what to do. Exit code 1 if something would fail.
    """
    from elastic_hydra.doctor.examine import examine  # imports torch: only when this verb runs
    from elastic_hydra.doctor.finding import Severity

    worst = Severity.ok
    for finding in examine():
        word = click.style(finding.severity.name.ljust(_MARGIN), fg=_COLOURS[finding.severity])
        click.echo(f"{word}{_wrapped(f'{finding.part}: {finding.text}')}")
        if finding.advice:
            click.echo(f"{' ' * _MARGIN}{_wrapped(f'-> {finding.advice}')}")
        worst = max(worst, finding.severity)
    return int(worst == Severity.problem)


def _wrapped(text: str) -> str:
    """Break a finding into lines that fit the terminal, indented behind the word; in a pipe it stays one line."""
    width = terminal_width()
    if width is None:
        return text
    room = max(40, min(width, 120) - _MARGIN)
    return f"\n{' ' * _MARGIN}".join(textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False))
