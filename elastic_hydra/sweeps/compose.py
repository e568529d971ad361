"""From the overrides of a job to the job: Hydra composes, we check."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

from elastic_hydra.compat.hydra import hydra_config
from elastic_hydra.compat.hydra_loader import compose_to_launch
from elastic_hydra.config.backends import backend_of
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.resolve import Launch, resolve
from elastic_hydra.config.typed import check_resolvable, first_line, resolved, typed
from elastic_hydra.elastic.rendezvous.store_process import host_store, wait_for_store
from elastic_hydra.jobs.folders import may_be_folder, refuse_unwritable
from elastic_hydra.jobs.job import Job, env_set_of
from elastic_hydra.jobs.log_files import check_log_files
from elastic_hydra.sweeps.settings import check_nodes

__all__ = ["compose", "job_of_run", "meet", "task_config", "task_yaml", "teach_parser"]


def compose(
    context: HydraContext,
    sweep_config: DictConfig,
    facts: Sequence[HostFacts],
    num: int,
    overrides: list[str],
    recorded_dir: Path | None = None,
) -> Job:
    """Compose one job, and check how it is to be launched.

    Args:
        context: Hydra's.
        sweep_config: of the sweep.
        facts: of the hosts. The first one on which the job can run says what its keys leave open.
        num: the job's number.
        overrides: the job's.
        recorded_dir: where an earlier launcher has run it; None: it is new.

    Raises:
        ConfigError: it cannot be launched as configured.
    """
    config = compose_to_launch(context.config_loader, sweep_config, overrides)
    with open_dict(config):
        config.hydra.job.id = str(num)
        config.hydra.job.num = num
    _type_launcher(config)
    with hydra_config(config):
        output_dir = _fix_output_dir(num, config, recorded_dir)
    with hydra_config(config):
        launch = _resolve(num, config, facts, context.config_loader)
    job = Job(num, overrides, config, launch, output_dir, _run_id(num, overrides, launch, config))
    _check_output_dir(job, sweep_config)
    _check_log_dir(job)
    return job


def job_of_run(
    context: HydraContext, config: DictConfig, facts: Sequence[HostFacts], num: int, overrides: list[str]
) -> Job:
    """Make the job of a run without `-m`, which Hydra has composed, and check how it is to be launched.

    Args:
        context: Hydra's.
        config: of the run; it has its output directory.
        facts: of the hosts. The first one on which the job can run says what its keys leave open.
        num: what the launcher calls the job; Hydra gives a single run neither a number nor an id.
        overrides: the run's.

    Raises:
        ConfigError: it cannot be launched as configured.
    """
    _type_launcher(config)
    with hydra_config(config):
        launch = _resolve(num, config, facts, context.config_loader)
    output_dir = Path(str(config.hydra.runtime.output_dir))
    job = Job(num, overrides, config, launch, output_dir, _run_id(num, overrides, launch, config), single=True)
    _check_log_dir(job)
    return job


def _type_launcher(config: DictConfig) -> None:
    """Have `hydra.launcher` in a job's configuration with all keys of the schema."""
    launcher = typed(config.hydra.launcher)
    if launcher is not config.hydra.launcher:
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.launcher = launcher


def _check_output_dir(job: Job, sweep_config: DictConfig) -> None:
    """Refuse a directory that cannot be made; below the sweep's own only what is in the way can keep a job from it."""
    sweep = job.config.hydra.sweep
    sweep_dir = os.path.abspath(str(sweep_config.hydra.sweep.dir))
    if not job.output_dir.is_relative_to(sweep_dir) or not may_be_folder(job.output_dir):
        name = "subdir" if os.path.isabs(sweep.subdir) or os.path.abspath(sweep.dir) == sweep_dir else "dir"
        refuse_unwritable(f"job #{job.num}: hydra.sweep.{name}", sweep[name], job.output_dir)


def _check_log_dir(job: Job) -> None:
    if job.launch.keys.logs.dir is not None:
        refuse_unwritable(f"job #{job.num}: hydra.launcher.logs.dir", job.launch.keys.logs.dir, job.log_dir)


def teach_parser(job: Job) -> None:
    """Resolve a job's logging once, before the warm server is forked.

    OmegaConf's parser learns a grammar as it goes: 15 ms for the name of a log file, in every process that starts anew.

    Raises:
        ConfigError: an interpolation leads nowhere, or a file cannot be written.
    """
    try:
        with hydra_config(job.config):
            logging: Any = job.config.hydra.job_logging
            if logging is not None:
                logging = OmegaConf.to_container(logging, resolve=True)
                check_log_files(logging, job.output_dir, f"job #{job.num}: hydra.job_logging")
    except OmegaConfBaseException as error:
        raise ConfigError(f"job #{job.num}: {error.full_key}: {first_line(error)}") from error


def task_config(config: DictConfig) -> DictConfig:
    """Return a copy of a job's configuration without `hydra`: what its task function gets."""
    copied = config.copy()
    with read_write(copied), open_dict(copied):
        del copied["hydra"]
    return copied


def task_yaml(job: Job) -> str:
    """Return a job's configuration without `hydra` as YAML, its interpolations not resolved."""
    # `task_config` would copy Hydra's part, which is large, only to delete it from the copy.
    keys: Any = [str(key) for key in job.config if key != "hydra"]
    return OmegaConf.to_yaml(OmegaConf.masked_copy(job.config, keys))


def meet(job: Job) -> None:
    """Host the store where the nodes of this sweep meet, if it is this node that shall; agents only connect to it."""
    launch = job.launch
    backend = backend_of(launch.rendezvous.backend)
    if not launch.several_nodes or not launch.rendezvous.endpoint or not backend.one_of_them_hosts:
        return
    host, port = parse_rendezvous_endpoint(launch.rendezvous.endpoint, default_port=0)
    wanted = launch.rendezvous.configs.get("is_host")
    if backend.has_node_ranks and not launch.is_gang:
        wanted = launch.rendezvous.configs["rank"] == 0
    key = f"hydra.launcher.rendezvous.endpoint={launch.rendezvous.endpoint}"
    try:
        hosted = host_store(host, port, wanted)
    except OSError as error:
        raise ConfigError(f"{key}: this node cannot host the store there: {error}") from error
    try:
        if not hosted:
            timeout = launch.rendezvous.configs.get(backend.keys["join_timeout"], 600)
            wait_for_store(host, port, float(timeout))
    except OSError as error:
        raise ConfigError(f"{key}: {error}") from error
    launch.rendezvous.configs["is_host"] = False


def _fix_output_dir(num: int, config: DictConfig, recorded_dir: Path | None) -> Path:
    """Find out a job's directory, once, and write it into the configuration in which `run_job` looks for it.

    What is behind the keys may say something else each time it is asked, and something else than it did when the job
    ran before: an environment variable, the time, a resolver that is not cached.
    """
    sweep, key = config.hydra.sweep, f"job #{num}: hydra.sweep"
    sweep_dir = str(resolved(sweep, "dir", f"{key}.dir"))
    subdir = str(resolved(sweep, "subdir", f"{key}.subdir")) if recorded_dir is None else ""
    output_dir = recorded_dir or Path(os.path.abspath(os.path.join(sweep_dir, subdir)))
    if recorded_dir is not None:
        if not output_dir.is_relative_to(os.path.abspath(sweep_dir)):
            sweep_dir = str(output_dir.parent)
        subdir = os.path.relpath(output_dir, sweep_dir)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir, config.hydra.sweep.subdir = sweep_dir, subdir
        config.hydra.runtime.output_dir = str(output_dir)
    return output_dir


def _resolve(num: int, config: DictConfig, facts: Sequence[HostFacts], loader: ConfigLoader) -> Launch:
    try:
        settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        environ = {**os.environ, **env_set_of(config)}
        check_nodes(settings["nodes"], loader)
        return _resolve_on_one(settings, facts, environ)
    except OmegaConfBaseException as error:
        problems = Problems()
        check_resolvable(config.hydra.launcher, problems)
        problems.raise_any()
        raise ConfigError(f"job #{num}: {error.full_key}: {first_line(error)}") from error


def _resolve_on_one(settings: dict[str, Any], facts: Sequence[HostFacts], environ: dict[str, str]) -> Launch:
    """Resolve settings on the first host where that works.

    Raises:
        ConfigError: what is wrong on the first host, as it works on none.
    """
    first, *others = facts
    try:
        return resolve(settings, first, environ)
    except ConfigError:
        for of_host in others:
            with contextlib.suppress(ConfigError):
                return resolve(settings, of_host, environ)
        raise


_OF_ONE_NODE = ("rendezvous.node_rank", "rendezvous.local_addr", "rendezvous.is_host")
"""Keys that differ from node to node. `elastic-hydra run` has them, as all launch settings, among the overrides."""


def _run_id(num: int, overrides: list[str], launch: Launch, config: DictConfig) -> str:
    """Name a job's rendezvous: unlike any other's on one node, the same for all launchers on several."""
    if not launch.launcher_per_node:
        return f"{uuid.uuid4().hex}-{num}"
    name = launch.keys.rendezvous.id
    if name is None:
        same = [override for override in overrides if override.lstrip("+").partition("=")[0] not in _OF_ONE_NODE]
        parts = [str(config.hydra.job.name), str(config.hydra.job.config_name), *same]
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"{name}-{num}"
