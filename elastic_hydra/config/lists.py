"""Lists of CPUs or nodes as the kernel and people write them: `0-2,8`."""

from __future__ import annotations

from collections.abc import Iterable

_LIMIT = 1 << 16
"""A number that no kernel gives to a CPU or a node: all numbers in a list are smaller."""


def parse_list(text: str) -> tuple[int, ...]:
    """Read a list of CPUs or nodes as the kernel and people write it: `"0-2,8"` gives `(0, 1, 2, 8)`.

    Raises:
        ValueError: The text is not such a list.
    """
    numbers: set[int] = set()
    for part in text.strip(" \t\r\n\0").split(","):
        first, dash, last = part.strip().partition("-")
        if first or dash:
            start, end = int(first), int(last if dash else first) + 1
            if end > _LIMIT:
                raise ValueError(f"no machine has a number {end - 1}")
            if start >= end:
                raise ValueError(f"{part.strip()} ends before it starts")
            numbers.update(range(start, end))
    return tuple(sorted(numbers))


def format_list(numbers: Iterable[int]) -> str:
    """Write CPUs or nodes as the kernel does: `{0, 1, 2, 8}` gives `"0-2,8"`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
