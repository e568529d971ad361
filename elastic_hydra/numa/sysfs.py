"""Small files of sysfs and procfs, as real machines have them: missing, renamed, as list or mask, with stray NULs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from elastic_hydra.config.lists import parse_list

_T = TypeVar("_T")


def read_text(path: Path) -> str | None:
    """The content of a small file without the NUL bytes of old gatherings; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "").strip()
    except OSError:  # sysfs answers some files of devices that are gone with EINVAL or ENXIO
        return None


def read_number(path: Path, base: int = 10) -> int | None:
    """A file such as `3`, or `0x10de` with base 16; None where it cannot be read, or holds something else."""
    return _parsed(lambda text: int(text, base), read_text(path))


def read_list(path: Path) -> frozenset[int] | None:
    """A file such as `0-3,8`; None where it cannot be read, is empty, or holds something else."""
    return _parsed(lambda text: frozenset(parse_list(text)), read_text(path))


def _parsed(parse: Callable[[str], _T], text: str | None) -> _T | None:
    try:
        return parse(text) if text else None
    except ValueError:  # what a file says that nobody understands, it does not say
        return None


def read_set(base: Path, *names: str, holding: int | None = None) -> frozenset[int] | None:
    """The first of the named files that exists, as a set; None where there is none.

    Masks are tried before lists: kernels before 5.16 cut off a list that is longer than a page.

    Args:
        base: Folder.
        names: Files without their ending. A file `X_list` or `Xlist` holds `0-3,8`, its older brother `X`, `X_map` or
            `Xmap` hexadecimal words of 32 bits, most significant first.
        holding: The CPU that tells it: a set that is not empty and lacks it is wrong, and passed over.
    """
    for suffixes, parse in ((("_map", "map", "", "s"), parse_mask), (("_list", "list"), parse_list)):
        for name in names:
            for suffix in suffixes:
                members = _parsed(parse, read_text(base / f"{name}{suffix}"))
                found = None if members is None else frozenset(members)
                if found is not None and (holding is None or not found or holding in found):
                    return found
    return None


def parse_mask(text: str) -> tuple[int, ...]:
    """Read a mask of CPUs: `"00000001,80000003"` gives `(0, 1, 31, 32)`."""
    value = 0
    for word in text.split(","):
        value = value << 32 | int(word.strip() or "0", 16)
    return tuple(bit for bit in range(value.bit_length()) if value >> bit & 1)


def folders(path: Path) -> list[Path]:
    """What a folder holds, PCI addresses by domain; nothing where it cannot be read."""
    try:
        return sorted(path.iterdir(), key=_pci_order)
    except OSError:
        return []


def _pci_order(path: Path) -> tuple[int, str]:
    domain = path.name.partition(":")[0]  # four digits, or up to eight: not to be sorted as text
    return (int(domain, 16) if all(digit in "0123456789abcdefABCDEF" for digit in domain) else 0, path.name)


def numbered(path: Path, prefix: str) -> list[tuple[int, Path]]:
    """Folders `prefix0`, `prefix1`, … by number."""
    found = [(folder.name.removeprefix(prefix), folder) for folder in folders(path) if folder.name.startswith(prefix)]
    return sorted((int(number), folder) for number, folder in found if number.isdecimal())
