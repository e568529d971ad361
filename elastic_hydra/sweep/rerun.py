"""How to go on with a sweep that has not finished: as a command, or as the overrides that make one."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from elastic_hydra.compat.hydra import get_args_parser

__all__ = ["how_to_go_on"]

_GIVEN_HERE = ("hydra.sweep.dir", "hydra.launcher.resume")


def how_to_go_on(
    sweep_dir: Path,
    overrides: Sequence[str],
    argv: Sequence[str] | None = None,
    orig_argv: Sequence[str] | None = None,
) -> str:
    """Say what runs what has not finished of this sweep, and nothing else.

    Args:
        sweep_dir: of this sweep.
        overrides: what Hydra was given.
        argv: `sys.argv`.
        orig_argv: `sys.orig_argv`: with the interpreter, and `-m package` where the app was started so.
    """
    argv = sys.argv if argv is None else argv
    orig_argv = sys.orig_argv if orig_argv is None else orig_argv
    resuming = [_override("hydra.sweep.dir", str(sweep_dir)), "hydra.launcher.resume=true"]
    if not _is_command_line(argv, orig_argv, overrides):
        return "To run what has not finished, start the sweep again with these two overrides:\n" + "\n".join(resuming)
    given = list(argv[1:])
    program = orig_argv[: len(orig_argv) - len(given)]
    flags = [word for word in given if word in ("-m", "--multirun")] or ["-m"]
    # Hydra 1.3 takes overrides on one side of -m only.
    kept = [word for word in given if word not in ("-m", "--multirun") and _key(word) not in _GIVEN_HERE]
    return "To run what has not finished:\n" + shlex.join([*program, flags[0], *kept, *resuming])


def _is_command_line(argv: Sequence[str], orig_argv: Sequence[str], overrides: Sequence[str]) -> bool:
    """Whether Hydra's overrides come from this process's command line, and not from Python or a notebook."""
    given = list(argv[1:])
    if argv[0] in ("", "-") or list(orig_argv[len(orig_argv) - len(given) :]) != given or len(orig_argv) <= len(given):
        return False
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        known, unknown = get_args_parser().parse_known_args(given)
        # Hydra adds the mode itself.
        return not unknown and set(overrides) - set(known.overrides) <= {"hydra.mode=MULTIRUN"}
    return False


def _key(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def _override(key: str, text: str) -> str:
    """Return the override that gives a key this text, quoted where Hydra's grammar needs it."""
    plain = f"{key}={text}"
    with contextlib.suppress(HydraException):
        if OverridesParser.create().parse_override(plain).value() == text:
            return plain
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"
