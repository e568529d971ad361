"""Programs as entry points; Python scripts and modules run as `__main__` of warm workers, without a new interpreter."""

from __future__ import annotations

import errno
import logging
import os
import runpy
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from elastic_hydra.compat import loaded
from elastic_hydra.supervisor import inherited
from elastic_hydra.supervisor.main_module import become_main

__all__ = ["check_program", "run_script", "script_arguments"]

__tracebackhide__ = True


def check_program(program: str, search_path: str | None = None) -> None:
    """Refuse a program that cannot be executed, before anything is started for it.

    Args:
        program: a path, or a name that is looked for on the search path.
        search_path: the workers' `PATH`; None: this process's.

    Raises:
        FileNotFoundError: there is no such program.
        PermissionError: what has this name is a folder, or may not be executed.
    """
    if shutil.which(program, path=search_path) is not None:
        return
    folders = [""] if os.path.dirname(program) else os.get_exec_path({"PATH": search_path} if search_path else None)
    exists = any(os.path.exists(os.path.join(folder, program)) for folder in folders)
    code = errno.EACCES if exists else errno.ENOENT
    raise OSError(code, os.strerror(code), program)  # Python makes it the subclass that the code stands for


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
    inherited.leave_main()
    loaded.leave_hydra()
    _leave_logging()
    if words[0] == "-m":
        sys.argv[:] = words[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    path = os.path.abspath(words[0])
    sys.argv[:] = words
    sys.path.insert(0, os.path.dirname(path))
    # Not runpy.run_path: that takes the module's globals away at its end, before atexit functions and threads.
    main = become_main(path)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    exec(code, main.__dict__)


def _leave_logging() -> None:
    """Leave the launcher's handlers to the launcher: `logging.basicConfig` does nothing where there are any."""
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
