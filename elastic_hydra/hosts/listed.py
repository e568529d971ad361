"""`hydra.launcher.hosts.list`: the names of hosts, in the configuration or in a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from elastic_hydra.config.errors import ConfigError

__all__ = ["LIST_KEY", "listed_hosts"]

LIST_KEY = "hydra.launcher.hosts.list"


def listed_hosts(listed: Any) -> tuple[str, ...]:
    """Return the names of the hosts.

    Args:
        listed: the value of the key: names, or the name of a file that has one in each line.

    Raises:
        ConfigError: there is none, one is there twice, one is no name, or the file cannot be read.
    """
    names = _names_in_file(listed) if isinstance(listed, str) else tuple(listed)
    shown = listed if isinstance(listed, str) else f"[{', '.join(names)}]"
    if not names:
        raise ConfigError(f"{LIST_KEY}={shown}: there is no host in it; write the name of one in each line")
    for name in names:
        if not re.fullmatch(r"[^\s-]\S*", name):
            raise ConfigError(f"{LIST_KEY}={shown}: {name!r} is no name of a host: write n1, or user@n1")
        if names.count(name) > 1:
            raise ConfigError(
                f"{LIST_KEY}={shown}: {name} stands there {names.count(name)} times; name each host once, and set "
                "hydra.launcher.parallel for several jobs on it"
            )
    return names


def _names_in_file(path: str) -> tuple[str, ...]:
    try:
        text = Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(
            f"{LIST_KEY}={path}: cannot read that file ({why}); write [{path}] for a host of that name"
        ) from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line)
