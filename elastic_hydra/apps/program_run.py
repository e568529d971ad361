"""`elastic-hydra run`: a program as the task of a run or a sweep, and launch settings as its whole configuration."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from elastic_hydra.apps.selected import check_at_start, watch_start
from elastic_hydra.apps.single_run import run_job
from elastic_hydra.compat.hydra_main import run_command_line
from elastic_hydra.config.errors import ConfigError, nearest
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.profiles import profile_folder
from elastic_hydra.config.schema import INLINE, ElasticConfig
from elastic_hydra.config.spelling import spelled, write_keys_alone
from elastic_hydra.config.tree import check_tree
from elastic_hydra.config.typed import first_line
from elastic_hydra.config.whole_sweep import WHOLE_SWEEP
from elastic_hydra.jobs.program import Program
from elastic_hydra.sweeps.start import started_by_torchrun

__all__ = ["check_settings", "in_one_line", "run_program"]

_NAME = "elastic_hydra_run"
"""Of what is stored for Hydra: the primary configuration, the launcher that takes its keys, the log of the launcher."""

_SHOW = "--cfg"
"""The option with which Hydra shows the settings, and runs nothing."""

_LOGGING_GROUPS = ("hydra/hydra_logging", "hydra/job_logging")

_LOGGING = {
    "version": 1,
    "formatters": {"simple": {"format": "elastic-hydra: %(message)s"}},
    "handlers": {
        # Standard output is the program's alone: it may be piped into another one.
        "console": {"class": "logging.StreamHandler", "formatter": "simple", "stream": "ext://sys.stderr"},
    },
    "root": {"level": "INFO", "handlers": ["console"]},
    "disable_existing_loggers": False,
}


def run_program(program: Program, settings: Sequence[str], options: Sequence[str]) -> None:
    """Run a program as launch settings say; with `-m` among the options, once for each value that is swept.

    Args:
        program: what the workers execute.
        settings: overrides of the launch settings, as Hydra takes them.
        options: of Hydra: `-m`, `--config-dir DIR`, `--config-name NAME`, `--cfg job`.

    Raises:
        ConfigError: the settings cannot be composed; nothing was started.
        SystemExit: the settings are refused, a job has failed, or a signal has ended the run; with the exit code.
    """
    if started_by_torchrun(os.environ) is not None:
        raise ConfigError(
            "RANK and LOCAL_RANK are set: torchrun, or the like, starts this once per rank: start it alone"
        )
    write_keys_alone()
    _store()
    watch_start()
    check_at_start(check_settings)
    logging.getLogger("elastic_hydra").addFilter(_spell)
    sys.path.insert(1, program.folder)  # what `preload` names may stand beside the script
    ours = [f"{group}={_NAME}" for group in ("hydra/launcher", *_LOGGING_GROUPS)]
    settings = settings if _SHOW in options else [_placed(word) for word in settings]
    words = [*options, *settings, *ours, f"hydra.job.name={program.name}"]
    try:
        run_command_line(words, run_job, program, str(profile_folder() / "hydra" / "launcher"), _NAME)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(in_one_line(error)) from error


def _placed(setting: str) -> str:
    """Give Hydra what holds for a whole sweep as its own: it is no part of what a job is, and may change later.

    A key inside a group stays where it is: below `hydra.launcher`, a group refers to the settings as a whole.
    """
    text = setting.lstrip("+")
    key = text.partition("=")[0]
    return f"{ROOT}.{text}" if key in WHOLE_SWEEP and "." not in key else setting


def _spell(record: logging.LogRecord) -> bool:
    record.msg, record.args = spelled(record.getMessage()), ()
    return True


def _store() -> None:
    """Tell Hydra of the configurations that stand in no file."""
    store = ConfigStore.instance()
    launcher = {"_target_": ElasticConfig._target_} | {name: f"${{{name}}}" for name in _names(ElasticConfig)}
    store.store(_NAME, {"defaults": ["elastic", {"override logs": "console"}, "_self_"]})
    store.store(_NAME, launcher, group="hydra/launcher")
    for group in _LOGGING_GROUPS:
        store.store(_NAME, _LOGGING, group=group)


def check_settings(config: DictConfig) -> None:
    """Refuse settings that nothing would read, and a profile that leaves all other settings out."""
    if OmegaConf.select(config, "hydra.launcher.start_method") == INLINE:
        raise ConfigError(
            f"hydra.launcher.start_method={INLINE}: is for Hydra apps: start the script in your debugger itself, or "
            "with hydra.launcher.debug=rank0"
        )
    settings: Any = OmegaConf.to_container(config, resolve=False)
    given = {key: value for key, value in settings.items() if key != "hydra"}
    problems = Problems()
    check_tree(given, ElasticConfig, problems)
    problems.raise_any()
    missing = [name for name in _names(ElasticConfig) if name not in given]
    if missing:
        raise ConfigError(
            f"the configuration lacks {missing[0]} and more: begin its file with the line `defaults: [elastic, _self_]`"
        )


def _names(schema: type) -> list[str]:
    return [field.name for field in dataclasses.fields(schema) if not field.name.startswith("_")]


def _keys() -> list[str]:
    """Return all keys, with those in groups."""
    groups = {name: type(getattr(ElasticConfig(), name)) for name in _names(ElasticConfig)}
    inside = {name: _names(kind) for name, kind in groups.items() if dataclasses.is_dataclass(kind)}
    return [*groups, *(f"{group}.{name}" for group, names in inside.items() for name in names)]


# --- what is wrong with the settings, in one line -----------------------------------------------------------------


def in_one_line(error: Exception) -> str:
    """Say in one line, with what to do, what Hydra says in several about a command line or a file."""
    text = str(error)
    for pattern, say in _MESSAGES.items():
        if (match := re.search(pattern, text, re.DOTALL)) is not None:
            return say(match, error)
    return " ".join(text.split())


def _no_such_key(match: re.Match[str], _: Exception) -> str:
    return f"{match[1]}: there is no such key{nearest(match[1], _keys())}; `elastic-hydra run --cfg` shows all keys"


def _no_such_profile(match: re.Match[str], error: Exception) -> str:
    options = [str(option) for option in getattr(error, "options", None) or ()]
    return (
        f"{match[1]}={match[2]}: there is no such profile{nearest(match[2], options)}; there are {', '.join(options)}"
    )


def _no_such_file(match: re.Match[str], _: Exception) -> str:
    return f"--config-name {match[1]}: there is no {match[1]}.yaml where --config-dir says: correct one of the two"


def _no_value(match: re.Match[str], error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    what = first_line(cause) if isinstance(cause, OmegaConfBaseException) else "is no value for this key"
    return f"{match[1]}: {what}"


def _wrong_in_file(match: re.Match[str], _: Exception) -> str:
    """Say what is wrong with a key of a YAML file."""
    file, what, key = match[1], match[2].splitlines()[0], match[3]
    if what.startswith("Key "):
        what = f"there is no such key{nearest(key, _keys())}"
    return f"{file}.yaml: {key}: {what}; correct it there"


def _several_values(match: re.Match[str], _: Exception) -> str:
    key, value = match[1].split("=", 1)
    return f"{match[1]}: add -m to run it with each of these values, or quote one value: '{key}=\"{value}\"'"


def _for_all(match: re.Match[str], _: Exception) -> str:
    return f"{match[1]}: holds for all runs of a sweep: give one value"


def _no_setting(match: re.Match[str], _: Exception) -> str:
    return f"{match[1]}: is no setting: write KEY=VALUE, and the program behind --"


_MESSAGES: dict[str, Callable[[re.Match[str], Exception], str]] = {
    r"In '([^']*)': \w+ raised while composing config:\n(.*)\n\s*full_key: (\S*)": _wrong_in_file,
    r"Could not override '(.*?)'": _no_such_key,
    r"Could not find '(.*?)/([^/']*)'": _no_such_profile,
    r"Cannot find primary config '(.*?)'": _no_such_file,
    r"Error merging override (.*)": _no_value,
    r"Ambiguous value for argument '(.*?)'\n": _several_values,
    r"Sweeping over Hydra's configuration is not supported : '?(.*?)'?$": _for_all,
    r"Error parsing override '(.*?)'\nmissing EQUAL": _no_setting,
}
"""What Hydra's messages look like, and who says it in one line."""
