"""What an app itself says of its configuration: it is asked by Hydra's `--cfg`, which starts nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.render.command import Command

__all__ = ["configurations"]

_CLI = "import sys; from elastic_hydra.cli.main import main; sys.exit(main())"
_ASKED = ("--cfg", "all", "--package", "hydra", "--resolve")
_BEFORE_ANSWER = "# @package hydra\n"
"""What Hydra writes before the configuration; an app may have printed something before that."""
_MULTIRUN = ("-m", "--multirun")
_LONGEST = 300
"""Characters of what an app says when it cannot say its configuration."""


def configurations(command: Command) -> list[dict[str, Any]]:
    """Ask for the configuration of the launcher, and of Hydra.

    Args:
        command: of the launch.

    Returns:
        what Hydra has below `hydra`; of `elastic-hydra run` only `launcher`. Where something is swept there are two:
        with the first and with the last value of each sweep. A key in which they differ depends on the job.

    Raises:
        ConfigError: it cannot be composed.
    """
    parsed = [_parsed(word) for word in command.given if word not in _MULTIRUN]
    swept = any(not isinstance(word, str) for word in parsed)
    asked = [_question(command, [_with_value(word, at) for word in parsed]) for at in ((0, -1) if swept else (0,))]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}  # what is written to standard error is then what is wrong
    # Both at once: most of the time is the app's imports.
    running = [
        subprocess.Popen(words, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for words in asked
    ]
    return [_answer(command, *process.communicate(), process.returncode) for process in running]


def _parsed(word: str) -> str | Override:
    """Return an override that is swept, or else the word as it is."""
    if word.startswith("-"):
        return word
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:  # the value of an option, or a mistake about which the app will complain
        return word
    return override if override.is_sweep_override() else word


def _with_value(word: str | Override, at: int) -> str | None:
    """Return an override with one of the values that are swept; None: they cannot be listed."""
    if isinstance(word, str):
        return word
    if not word.is_discrete_sweep() or isinstance(word.value(), Glob):
        return None
    key = (word.input_line or "").partition("=")[0]
    return f"{key}={list(word.sweep_string_iterator())[at]}"


def _question(command: Command, words: Sequence[str | None]) -> list[str]:
    given = [word for word in words if word is not None]
    if command.is_run:
        return [sys.executable, "-c", _CLI, *command.app, *given, "--cfg"]
    return [*command.program(here=True), *given, *_ASKED]


def _answer(command: Command, said: str, complained: str, code: int) -> dict[str, Any]:
    if command.is_run and code == 0:
        return {"launcher": yaml.safe_load(said)}
    _, is_answer, answer = said.partition(_BEFORE_ANSWER)
    if code != 0 or not is_answer:
        raise ConfigError(_why(command, complained or said))
    found: dict[str, Any] = yaml.safe_load(answer)
    return found


def _why(command: Command, complained: str) -> str:
    """Say in one line why there is no configuration."""
    lines = [line.strip() for line in complained.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Set the environment variable HYDRA_FULL_ERROR")]
    if command.is_run and lines:
        return lines[-1].removeprefix("elastic-hydra: ")
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    what = " ".join(lines)[:_LONGEST] or "it is no app of Hydra's"
    return f"{command.name} does not say its configuration: {what}; mend that first; `--cfg all` asks it"
