"""Programs that lead to hosts, and what to do about the ways in which they usually fail."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from elastic_hydra.hosts.transport import CommandTransport, Ended

__all__ = ["FOUND", "AdvisedTransport", "advice_for", "python_advice"]


FOUND = "{found}"
"""In a sentence: what the first group of its expression has matched."""


class AdvisedTransport(CommandTransport):
    """A program of which it is known what its messages mean.

    Args:
        argv: the command line.
        environment: all of the program's environment; None: that of this process.
        name: for messages.
        advice: sentences, by the regular expression for a line of standard error that each of them explains.
    """

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str] | None, name: str, advice: Mapping[str, str]
    ) -> None:
        super().__init__(argv, environment, name)
        self._advice = advice

    def ended(self) -> Ended | None:
        """Return how the program has ended; its last line says what to do, where that is known. None: it runs."""
        ended = super().ended()
        if ended is None or not (text := advice_for(ended.last_lines, self._advice)):
            return ended
        return replace(ended, last_lines=(*ended.last_lines, text))


def advice_for(lines: Sequence[str], advice: Mapping[str, str]) -> str:
    """Return the sentence for the first of the lines that has one; empty: there is none.

    Args:
        lines: of standard error.
        advice: sentences by regular expressions. `FOUND` in a sentence stands for the first group of its
            expression.
    """
    for line in lines:
        for pattern, text in advice.items():
            if (match := re.search(pattern, line)) is not None:
                return text.replace(FOUND, match[1]) if match.groups() else text
    return ""


def python_advice(python: str, place: str) -> dict[str, str]:
    """Return advice for a host process that does not start.

    Args:
        python: the interpreter on the host.
        place: the host, for people.
    """
    way_out = "set hydra.launcher.hosts.python to an interpreter that is there on all hosts"
    missing = "(No such file|[Nn]ot found|[Cc]annot execute|[Uu]nknown command|Permission denied)"
    return {
        f"{re.escape(python)}.*{missing}": f"{place} has no {python}: {way_out}",
        r"ModuleNotFoundError: No module named '?([\w.]+)": (
            f"{python} on {place} has no package {FOUND}: install there what the launcher has, or {way_out} and has it"
        ),
    }
