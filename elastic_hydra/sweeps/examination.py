"""The examination of a host before its first job: a process looks at it, and the launcher judges what was found."""

from __future__ import annotations

import os

from omegaconf import DictConfig

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.hosts.connection import HostConnection
from elastic_hydra.hosts.time_left import time_left
from elastic_hydra.resources.examine import Examined, examine, unfit
from elastic_hydra.resources.host import Host
from elastic_hydra.supervisor.forked import ProcessSpec, current_umask
from elastic_hydra.supervisor.packed_error import unpack
from elastic_hydra.supervisor.process import Process
from elastic_hydra.sweeps.token_file import TokenFile

__all__ = ["fit_host", "outcome_of", "start_examination"]


def start_examination(connection: HostConnection, token_file: TokenFile) -> Process:
    """Start the process that looks at a host.

    Args:
        connection: to the host, which is ready.
        token_file: that the host should see.
    """
    spec = ProcessSpec(None, dict(connection.environment), os.getcwd(), current_umask())
    return connection.start(spec, (examine, (str(token_file.path), time_left)))


def outcome_of(examination: Process) -> Examined | ConfigError | str:
    """Return what an examination has found; text: why it has found nothing, which may be otherwise the next time."""
    outcome = examination.outcome()
    if outcome is not None and outcome.error is not None:
        error = unpack(outcome.error)
        if isinstance(error, FileNotFoundError) and error.filename:
            shared = "the app must be in a folder that all hosts share with the launcher"
            return ConfigError(f"it does not see {error.filename}: {shared}")
        return f"it cannot be examined: {type(error).__name__}: {error}"
    if outcome is None or examination.exitcode != 0:
        why = examination.refused or examination.fate or f"exit code {examination.exitcode}"
        return f"it cannot be examined: {why}"
    found: Examined = outcome.value
    return found


def fit_host(
    name: str, examined: Examined | ConfigError, connection: HostConnection, token_file: TokenFile, settings: DictConfig
) -> Host:
    """Return a host with what was found on it.

    Args:
        name: what it is called.
        examined: what was found, or why it can never be a host.
        connection: to it.
        token_file: that it should see.
        settings: the sweep's `hydra.launcher`.

    Raises:
        ConfigError: no job can run there; it says why.
    """
    if isinstance(examined, ConfigError):
        raise examined
    if why := unfit(examined, token_file.token, token_file.folder, token_file.key):
        raise ConfigError(why)
    return Host.elsewhere(name, settings, examined, connection.environment)
