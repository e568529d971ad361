"""The files that Hydra's job logging writes, when a job has several processes: agent, rank 0, and the other ranks."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.jobs.folders import refuse_unwritable

__all__ = ["append_only", "check_log_files", "for_node", "for_rank", "truncated_once"]

_FILE_KEY = re.compile(r"(file|path|file_?name)$", re.IGNORECASE)
"""What handlers call the argument that is their file: `filename`, but also `path`, `log_file`, `file_path`."""
_NOT_FILES = ("class", "()", "formatter", "level", "filters", "stream", "mode", "encoding")


def for_rank(logging_config: DictConfig, rank: int, console_level: str, output_dir: str) -> DictConfig:
    """Return the job logging of a rank other than 0: files of its own, and its console silent below a level.

    Args:
        logging_config: `hydra.job_logging`.
        rank: the worker's.
        console_level: `hydra.launcher.logs.other_ranks_level`, in capitals or not.
        output_dir: of the job.
    """
    return _apart(logging_config, f"rank{rank}", console_level, output_dir)


def for_node(logging_config: DictConfig, rank: int, console_level: str, output_dir: str) -> DictConfig:
    """Return the job logging of the agent of a node other than 0, see `for_rank`; `rank` is the node's."""
    return _apart(logging_config, f"node{rank}", console_level, output_dir)


def _apart(logging_config: DictConfig, whose: str, console_level: str, output_dir: str) -> DictConfig:
    config: Any = OmegaConf.to_container(logging_config, resolve=True)
    for handler in (config.get("handlers") or {}).values():
        keys = list(_file_keys(handler))
        for key in keys:
            handler[key] = _own_file(handler[key], whose, output_dir)
        if not keys:
            handler["level"] = _higher(handler.get("level", logging.NOTSET), console_level.upper())
    created = OmegaConf.create(config)
    assert isinstance(created, DictConfig)
    return created


def check_log_files(config: dict[str, Any], output_dir: Path, key: str) -> None:
    """Refuse files of the job logging that cannot be opened: each of the job's processes would fail at it.

    Args:
        config: `hydra.job_logging`, resolved.
        output_dir: of the job, which need not be there yet.
        key: of the logging's configuration, for the message.

    Raises:
        ConfigError: it names the handler's key.
    """
    for name, handler in (config.get("handlers") or {}).items():
        for file_key in _file_keys(handler):
            path, full_key = Path(handler[file_key]), f"{key}.handlers.{name}.{file_key}"
            if not path.is_absolute() or path.parent == output_dir or os.access(path, os.W_OK):
                continue
            if file_key == "filename" and not path.parent.is_dir() and not path.is_relative_to(output_dir):
                raise ConfigError(f"{full_key}={path}: there is no folder {path.parent}; make it, or choose another")
            refuse_unwritable(full_key, str(path), path.parent)


def append_only(config: DictConfig) -> list[Path]:
    """Have the files of a job's logging opened to append from now on, and return those that were to be truncated.

    Args:
        config: of the job; its `hydra.job_logging` is changed.
    """
    found = []
    handlers = (config.hydra.job_logging or {}).get("handlers") or {}
    for handler in handlers.values():
        if str(handler.get("mode", "a"))[0] in "wx":
            with read_write(handler), open_dict(handler):
                handler.mode = "a" + str(handler.mode)[1:]
            found += [Path(str(handler[key])) for key in _file_keys(handler)]
    return found


def truncated_once(config: DictConfig) -> None:
    """Let the workers append to files with `mode: w`, which this process, the job's agent, has just truncated.

    Each process that truncated them again would take away what the others have written; and what this one writes goes
    to their ends from now on, too.

    Args:
        config: of the job; its `hydra.job_logging` is changed.
    """
    paths = append_only(config)
    if not paths:
        return
    for path in paths:
        others = re.compile(re.escape(path.stem) + r"\.rank\d+" + re.escape(path.suffix))
        for other in path.parent.iterdir() if path.is_file() else ():
            if others.fullmatch(other.name):
                other.unlink(missing_ok=True)
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for handler in {handler for logger in (logging.root, *loggers) for handler in logger.handlers}:
        if isinstance(handler, logging.FileHandler) and handler.mode[0] in "wx":
            handler.mode = "a" + handler.mode[1:]  # a handler may open its file later, or once more
            if handler.stream is not None:
                number = handler.stream.fileno()
                fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_APPEND)


def _file_keys(handler: Any) -> Iterator[str]:
    for key, value in handler.items():
        if key not in _NOT_FILES and isinstance(value, (str, os.PathLike)) and _FILE_KEY.search(str(key)):
            yield key


def _own_file(name: str, whose: str, output_dir: str) -> str:
    """Return the file beside rank 0's, or in the job's directory where that is impossible; devices are left alone."""
    path = Path(name)
    # /dev/stderr may lead to a regular file, which belongs to whoever started this process: it keeps its name.
    is_device = (path.is_relative_to("/dev") and not path.is_relative_to("/dev/shm")) or path.is_relative_to("/proc")
    if is_device or (path.exists() and not path.is_file()):
        return name
    folder = path.parent
    if folder.is_dir() and not os.access(folder, os.W_OK):
        folder = Path(output_dir)
    return str(folder / f"{path.stem}.{whose}{path.suffix}")


def _higher(level: int | str, console_level: str) -> int | str:
    if console_level == "OFF":
        return logging.CRITICAL + 1
    number = level if isinstance(level, int) else logging.getLevelName(level.upper())
    least: int = logging.getLevelName(console_level)
    return max(number, least) if isinstance(number, int) else console_level
