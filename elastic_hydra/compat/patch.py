"""Changes a name inside methods of torch and Hydra that offer no other way to change what they do."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

__all__ = ["with_globals"]


def with_globals(function: Callable[..., Any], **replaced: Any) -> Callable[..., Any]:
    """Copy a function that sees other objects under some of its module's names.

    If we copied the function's source instead, we would keep the code of one version; this way, the code is that of the
    installed version.

    Args:
        function: a function, or a method looked up on its class.
        replaced: the other objects, by the names that the function uses.

    Returns:
        the copy; the function itself stays as it is.
    """
    inner = function.__wrapped__ if hasattr(function, "__wrapped__") else function
    copied = types.FunctionType(
        inner.__code__, {**inner.__globals__, **replaced}, inner.__name__, inner.__defaults__, inner.__closure__
    )
    copied.__kwdefaults__ = inner.__kwdefaults__
    copied.__qualname__ = inner.__qualname__  # Python 3.10 does not take it from the code
    return copied
