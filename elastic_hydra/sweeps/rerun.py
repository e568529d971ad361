"""How to run a sweep, or one job of it, once more: as a command, or as the overrides that make one."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from elastic_hydra.compat.hydra import get_args_parser
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import ROOT
from elastic_hydra.config.spelling import spelled
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.sweeps.start import RUN_DIR, SWEEP_DIR

__all__ = ["command_with", "how_to_go_on", "key_of", "override", "program_of", "rerunning_command", "resuming_command"]

_RESUME = f"{ROOT}.resume"
_MULTIRUN = ("-m", "--multirun")
_END = "--"
"""What ends the overrides of `elastic-hydra run`: a program follows."""
_FOR_ONE_JOB = {
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": ["hydra.sweeper.params=null"],
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper": [
        "hydra.sweeper.n_trials=1",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.storage=null",
    ],
}
"""Overrides with which a sweeper, by its class, hands over one job that has all overrides from the command line."""


def how_to_go_on(
    sweep_dir: Path,
    overrides: Sequence[str],
    argv: Sequence[str] | None = None,
    orig_argv: Sequence[str] | None = None,
    *,
    single: bool = False,
) -> str:
    """Say what runs what has not finished of this sweep, and nothing else.

    Args:
        sweep_dir: of this sweep.
        overrides: what Hydra was given.
        argv: `sys.argv`.
        orig_argv: `sys.orig_argv`: with the interpreter, and `-m package` where the app was started so.
        single: whether it is a run without `-m`.
    """
    argv = sys.argv if argv is None else argv
    program = program_of(overrides, argv, orig_argv)
    if not program:
        resuming = "\n".join(_resuming(sweep_dir, single))
        return f"To run what has not finished, start again with these two overrides:\n{resuming}"
    arguments = (sys.orig_argv if orig_argv is None else orig_argv)[len(program) :]
    again = resuming_command(_as_typed(program), arguments, sweep_dir, single=single)
    return f"To run what has not finished:\n{shlex.join(again)}"


def _as_typed(program: Sequence[str]) -> Sequence[str]:
    """Return what starts an app as a person types it: an installed command by its name alone, without interpreter.

    Args:
        program: interpreter, its options and script.
    """
    interpreter, script = [*program[:2], ""][:2]
    name, beside = os.path.basename(script), os.path.dirname(script) == os.path.dirname(interpreter) != ""
    return [name, *program[2:]] if beside and shutil.which(name) == script else program


def program_of(
    overrides: Sequence[str], argv: Sequence[str] | None = None, orig_argv: Sequence[str] | None = None
) -> list[str]:
    """Return what starts the app on this process's command line: interpreter, its options, and script or `-m NAME`.

    Of `elastic-hydra run`, the verb is a part of it.

    Args:
        overrides: what Hydra was given.
        argv: `sys.argv`.
        orig_argv: `sys.orig_argv`.

    Returns:
        nothing when the overrides do not come from the command line, but from Python or a notebook.
    """
    argv = sys.argv if argv is None else argv
    orig_argv = sys.orig_argv if orig_argv is None else orig_argv
    verb = 1 if _END in argv else 0
    return (
        list(orig_argv[: len(orig_argv) - len(argv) + 1 + verb]) if _is_command_line(argv, orig_argv, overrides) else []
    )


def resuming_command(
    program: Sequence[str],
    arguments: Sequence[str],
    sweep_dir: Path,
    further: Sequence[str] = (),
    *,
    single: bool = False,
) -> list[str]:
    """Return the command that runs what has not finished of a sweep.

    Args:
        program: what starts the app.
        arguments: what the app was given.
        sweep_dir: of the sweep.
        further: overrides that take the place of those of the same keys.
        single: whether it is a run without `-m`.
    """
    resuming = [word for word in _resuming(sweep_dir, single) if key_of(word) not in map(key_of, further)]
    return command_with(program, arguments, [*further, *resuming], single=single)


def command_with(
    program: Sequence[str], arguments: Sequence[str], further: Sequence[str], *, single: bool = False
) -> list[str]:
    """Return a command with further overrides.

    Args:
        program: what starts the app.
        arguments: what the app is given.
        further: overrides that take the place of those of the same keys.
        single: whether it is a run without `-m`.
    """
    given, executed = _before_program(arguments)
    # `elastic-hydra run` takes some keys by two names.
    before = f"{ROOT}." if executed else ""
    replaced = {key_of(word).removeprefix(before) for word in further}
    flags = [word for word in given if word in _MULTIRUN] or ([] if single else ["-m"])
    # Hydra 1.3 takes overrides on one side of -m only.
    kept = [word for word in given if word not in _MULTIRUN and key_of(word).removeprefix(before) not in replaced]
    return [*program, *flags[:1], *kept, *further, *executed]


def rerunning_command(began: SweepBegan, overrides: Sequence[str], folder: Path, *, resume: bool) -> list[str]:
    """Return the command that runs one job of a sweep again, as a sweep of its own.

    Args:
        began: tells how the sweep was started.
        overrides: of the job, and further ones of Hydra itself.
        folder: of the new sweep.
        resume: whether the job is recorded there.

    Raises:
        ConfigError: the sweeper cannot be told to hand over that job only.
    """
    given, executed = _before_program(began.command[len(began.program) :])
    known, _ = get_args_parser().parse_known_args(given)
    of_sweeper = [] if began.single else _for_one_job(began.sweeper, overrides)
    replaced = {_dir_key(began.single), _RESUME, *map(key_of, of_sweeper)}
    dropped = {word for word in known.overrides if not is_of_hydra(word) or key_of(word) in replaced}
    kept = [word for word in given if word not in dropped and word not in _MULTIRUN]
    directory, resuming = _resuming(folder, began.single)
    where = [directory, resuming] if resume else [directory]
    return [*began.program, *([] if began.single else ["-m"]), *kept, *overrides, *of_sweeper, *where, *executed]


def is_of_hydra(override: str) -> bool:
    """Whether an override is about Hydra's own part of the configuration, and not about the task's."""
    return override.lstrip("+~").startswith(("hydra.", "hydra/"))


def _for_one_job(sweeper: str, overrides: Sequence[str]) -> list[str]:
    """Return the overrides with which a sweeper hands over one job; a journal that names none is of the basic one.

    Raises:
        ConfigError: the sweeper cannot be told so.
    """
    found = _FOR_ONE_JOB.get(sweeper or next(iter(_FOR_ONE_JOB)))
    if found is None:
        raise ConfigError(
            f"its sweeper is {sweeper}, which cannot be told to run this job alone: give the app the job's overrides "
            f"with another hydra/sweeper, or without -m: {shlex.join(overrides)}"
        )
    return found


def _before_program(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments of `elastic-hydra run` into those for Hydra, and the program with `--` before it.

    Args:
        arguments: of the command; an app of Hydra's has no program.
    """
    at = arguments.index(_END) if _END in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at:])


def _resuming(sweep_dir: Path, single: bool) -> list[str]:
    return [override(_dir_key(single), str(sweep_dir)), spelled(f"{_RESUME}=true")]


def _dir_key(single: bool) -> str:
    return RUN_DIR if single else SWEEP_DIR


def _is_command_line(argv: Sequence[str], orig_argv: Sequence[str], overrides: Sequence[str]) -> bool:
    """Whether Hydra's overrides come from this process's command line, and not from Python or a notebook."""
    given = list(argv[1:])
    if argv[0] in ("", "-") or list(orig_argv[len(orig_argv) - len(given) :]) != given or len(orig_argv) <= len(given):
        return False
    if _END in given:
        return True  # these are not for Hydra's parser
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        known, unknown = get_args_parser().parse_known_args(given)
        # Hydra adds the mode itself.
        return not unknown and set(overrides) - set(known.overrides) <= {"hydra.mode=MULTIRUN", "hydra.mode=RUN"}
    return False


def key_of(override: str) -> str:
    """Return the key that an override is about."""
    return override.lstrip("+").partition("=")[0]


def override(key: str, text: str) -> str:
    """Return the override that gives a key this text, quoted where Hydra's grammar needs it."""
    plain = f"{key}={text}"
    with contextlib.suppress(HydraException):
        if OverridesParser.create().parse_override(plain).value() == text:
            return plain
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"
