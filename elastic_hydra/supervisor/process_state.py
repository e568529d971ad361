"""What a launch changes in this process for a while, such as environment variables.

Several launches may run in threads of one process. So the first one that changes something notes how it was, and the
last one puts it back.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["environment", "shared_change"]

_lock = threading.Lock()
_users: dict[str, int] = {}
"""How many threads use what this process has but once, by name."""
_before: dict[str, Any] = {}
"""How it was before the first of them came."""


@contextlib.contextmanager
def shared_change(name: str, change: Callable[[], Any], restore: Callable[[Any], object]) -> Iterator[None]:
    """Change something of this process for a while, in any number of threads: the last one puts it back.

    Args:
        name: of what is changed.
        change: changes it, and returns how it was.
        restore: gets what the first `change` has returned.
    """
    with _lock:
        before = change()
        _users[name] = _users.get(name, 0) + 1
        _before.setdefault(name, before)
    try:
        yield
    finally:
        with _lock:
            _users[name] -= 1
            if not _users[name]:
                del _users[name]
                restore(_before.pop(name))


def environment(name: str, value: str) -> contextlib.AbstractContextManager[None]:
    """Set an environment variable for a while."""

    def change() -> str | None:
        before = os.environ.get(name)
        os.environ[name] = value
        return before

    def restore(before: str | None) -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    return shared_change(name, change, restore)
