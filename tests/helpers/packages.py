"""Packages that some tests need and that may be missing."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(*modules: str, extra: str = "") -> pytest.MarkDecorator:
    """Skip tests where a module is not installed; nothing is imported, which takes seconds in each process of pytest.

    Args:
        modules: their full names.
        extra: the extra of this project that brings them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    advice = f": pip install -e '.[{extra}]'" if extra else ""
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}{advice}")
