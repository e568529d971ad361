"""Python scripts and modules as entry points of warm workers: run as `__main__`, without a new interpreter."""

from __future__ import annotations

import os
import runpy
import sys
import types
from collections.abc import Sequence
from typing import Any

__all__ = ["run_script", "script_arguments"]


def script_arguments(program: str, args: Sequence[Any]) -> list[str] | None:
    """Say what a command line would make Python run as `__main__`.

    Args:
        program: the entry point.
        args: its arguments.

    Returns:
        `[script, …]` or `["-m", module, …]`, or None when it is another program, or has options that only a new
        interpreter can follow.
    """
    if program != sys.executable:
        return None
    words = [str(arg) for arg in args]
    while words and words[0] == "-u":  # what a worker writes is never held back
        words.pop(0)
    if not words or (words[0].startswith("-") and (words[0] != "-m" or len(words) < 2)):
        return None
    return words


def run_script(words: list[str]) -> None:
    """Run a script or a module as `python` would.

    Args:
        words: from `script_arguments`.
    """
    if words[0] == "-m":
        sys.argv[:] = words[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    path = os.path.abspath(words[0])
    sys.argv[:] = words
    sys.path.insert(0, os.path.dirname(path))
    # Not runpy.run_path: that takes the module's globals away at its end, before atexit functions and threads.
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    exec(code, main.__dict__)
