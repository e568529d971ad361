"""The table of versions, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from tests.versions.combination import Combination, Outcome

WORDS = {"passes": "yes", "fails": "**no**", "impossible": "", "not tested": "not tested"}


def table(outcomes: Mapping[Combination, Outcome]) -> str:
    """Return a row for each Python and Hydra, with a column for each torch."""
    torches = list(dict.fromkeys(combination.torch for combination in outcomes))
    rows = list(dict.fromkeys((combination.python, combination.hydra) for combination in outcomes))
    head = ["| Python | hydra-core |", *(f" torch {torch} |" for torch in torches)]
    lines = ["".join(head), "| --- | --- |" + " --- |" * len(torches)]
    for python, hydra in rows:
        cells = [outcomes.get(Combination(python, torch, hydra)) for torch in torches]
        lines.append(f"| {python} | {hydra} |" + "".join(f" {WORDS[cell.state] if cell else ''} |" for cell in cells))
    return "\n".join(lines)


def not_tested(outcomes: Mapping[Combination, Outcome]) -> str:
    """Say which combinations were not tested, and why; each reason once."""
    reasons: dict[tuple[str, str], list[Combination]] = {}
    for combination, outcome in outcomes.items():
        if outcome.state in ("not tested", "impossible"):
            reasons.setdefault((outcome.state, outcome.reason), []).append(combination)
    if not reasons:
        return "All combinations were tested."
    lines = [f"* {state}, {len(found)} of {len(outcomes)}: {reason}" for (state, reason), found in reasons.items()]
    return "\n".join(["Without a result:", *lines])
