"""Small files of sysfs and procfs. On real machines they may be missing or renamed, be lists or masks, or have NULs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from elastic_hydra.config.lists import parse_list

_T = TypeVar("_T")


def read_text(path: Path) -> str | None:
    """The content of a small file, without the NUL bytes that old dumps have; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "").strip()
    except OSError:  # for a device that is gone, reading some files of sysfs fails with EINVAL or ENXIO
        return None


def read_number(path: Path, base: int = 10) -> int | None:
    """The number in a file, such as `3`, or `0x10de` with base 16; None where there is none, or no such file."""
    return _parsed(lambda text: int(text, base), read_text(path))


def read_list(path: Path) -> frozenset[int] | None:
    """The numbers in a file such as `0-3,8`; None where there are none, or no such file."""
    return _parsed(lambda text: frozenset(parse_list(text)), read_text(path))


def _parsed(parse: Callable[[str], _T], text: str | None) -> _T | None:
    try:
        return parse(text) if text else None
    except ValueError:  # a file with other content counts as a missing one
        return None


def read_set(base: Path, *names: str, holding: int | None = None) -> frozenset[int] | None:
    """The first of the named files that exists, as a set; None where there is none.

    Masks are tried before lists: kernels before 5.16 cut off a list that is longer than a page.

    Args:
        base: Folder of the files.
        names: Names of files without their endings. A file `X_list` or `Xlist` is a list such as `0-3,8`. A file `X`,
            `X_map` or `Xmap` is a mask: hexadecimal words of 32 bits, the most significant one first.
        holding: A CPU that the set must have, unless it is empty. A file without this CPU is wrong, and passed over.
    """
    for suffixes, parse in ((("_map", "map", "", "s"), parse_mask), (("_list", "list"), parse_list)):
        for name in names:
            for suffix in suffixes:
                members = _parsed(parse, read_text(base / f"{name}{suffix}"))
                numbers = None if members is None else frozenset(members)
                if numbers is not None and (holding is None or not numbers or holding in numbers):
                    return numbers
    return None


def parse_mask(text: str) -> tuple[int, ...]:
    """Read a mask of CPUs: `"00000001,80000003"` gives `(0, 1, 31, 32)`."""
    value = 0
    for word in text.split(","):
        value = value << 32 | int(word.strip() or "0", 16)
    return tuple(bit for bit in range(value.bit_length()) if value >> bit & 1)


def folders(path: Path) -> list[Path]:
    """The entries of a folder, sorted by name, PCI addresses by the number of their domain; none without the folder."""
    try:
        return sorted(path.iterdir(), key=_pci_order)
    except OSError:
        return []


def _pci_order(path: Path) -> tuple[int, str]:
    domain = path.name.partition(":")[0]  # it has four to eight digits, so it must not be sorted as text
    return (int(domain, 16) if all(digit in "0123456789abcdefABCDEF" for digit in domain) else 0, path.name)


def numbered(path: Path, prefix: str) -> list[tuple[int, Path]]:
    """The entries `prefix0`, `prefix1`, … of a folder, each with its number, sorted by number."""
    entries = [entry for entry in folders(path) if entry.name.startswith(prefix)]
    suffixes = [(entry.name.removeprefix(prefix), entry) for entry in entries]
    return sorted((int(suffix), entry) for suffix, entry in suffixes if suffix.isdecimal())
