"""A plan as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_hydra.config.lists import format_list
from elastic_hydra.numa.binding import Binding

_HEAD = ("rank", "CPUs", "cores", "threads", "memory", "GPU", "why")
_RIGHT = {"rank", "cores", "threads"}


def render(bindings: Sequence[Binding]) -> str:
    """The plan as a table, one line per local rank; each problem stands once below the table.

    Columns that are empty for all ranks are left out.

    Args:
        bindings: One per local rank.
    """
    rows = [_HEAD, *(_row(rank, binding) for rank, binding in enumerate(bindings))]
    columns = [column for column in zip(*rows, strict=True) if column[0] in ("rank", "why") or set(column[1:]) != {"-"}]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if column[0] in _RIGHT else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]
    return "\n".join([*lines, *dict.fromkeys(f"! {binding.problem}" for binding in bindings if binding.problem)])


def _row(rank: int, binding: Binding) -> tuple[str, ...]:
    nodes = format_list(binding.nodes)
    memory = f"{binding.memory} {nodes}".strip() if binding.memory != "none" else "-"
    return (
        str(rank),
        format_list(binding.cpus) or "-",
        str(binding.cores or "-"),
        "-" if binding.threads is None else str(binding.threads),
        memory,
        binding.device or "-",
        binding.why,
    )
