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

__all__ = ["how_to_go_on", "program_of", "resuming_command"]

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
    program = program_of(overrides, argv, orig_argv)
    if not program:
        resuming = "\n".join(_resuming(sweep_dir))
        return f"To run what has not finished, start the sweep again with these two overrides:\n{resuming}"
    return f"To run what has not finished:\n{shlex.join(resuming_command(program, argv[1:], sweep_dir))}"


def program_of(
    overrides: Sequence[str], argv: Sequence[str] | None = None, orig_argv: Sequence[str] | None = None
) -> list[str]:
    """Return what starts the app on this process's command line: interpreter, its options, and script or `-m NAME`.

    Args:
        overrides: what Hydra was given.
        argv: `sys.argv`.
        orig_argv: `sys.orig_argv`.

    Returns:
        nothing when the overrides do not come from the command line, but from Python or a notebook.
    """
    argv = sys.argv if argv is None else argv
    orig_argv = sys.orig_argv if orig_argv is None else orig_argv
    return list(orig_argv[: len(orig_argv) - len(argv) + 1]) if _is_command_line(argv, orig_argv, overrides) else []


def resuming_command(program: Sequence[str], arguments: Sequence[str], sweep_dir: Path) -> list[str]:
    """Return the command that runs what has not finished of a sweep.

    Args:
        program: what starts the app.
        arguments: what the app was given.
        sweep_dir: of the sweep.
    """
    flags = [word for word in arguments if word in ("-m", "--multirun")] or ["-m"]
    # Hydra 1.3 takes overrides on one side of -m only.
    kept = [word for word in arguments if word not in ("-m", "--multirun") and _key(word) not in _GIVEN_HERE]
    return [*program, flags[0], *kept, *_resuming(sweep_dir)]


def _resuming(sweep_dir: Path) -> list[str]:
    return [_override("hydra.sweep.dir", str(sweep_dir)), "hydra.launcher.resume=true"]


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
