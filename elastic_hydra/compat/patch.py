"""A way into methods of torch that offer none."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

__all__ = ["with_globals"]


def with_globals(function: Callable[..., Any], **replaced: Any) -> Callable[..., Any]:
    """Copy a function that sees other objects under some of its module's names.

    A copy of its source would freeze it at the torch version that was copied; this follows the installed one.

    Args:
        function: a function, or a method looked up on its class.
        replaced: the names, and what they mean instead.
    """
    inner = function.__wrapped__ if hasattr(function, "__wrapped__") else function
    made = types.FunctionType(
        inner.__code__, {**inner.__globals__, **replaced}, inner.__name__, inner.__defaults__, inner.__closure__
    )
    made.__kwdefaults__ = inner.__kwdefaults__
    made.__qualname__ = inner.__qualname__  # Python 3.10 does not take it from the code
    return made
