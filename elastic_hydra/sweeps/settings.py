"""The settings of a whole sweep, checked before anything of it starts, and against those of its jobs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from elastic_hydra.compat.omegaconf import parent_of, set_parent
from elastic_hydra.config.detach import SbatchConfig
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import LOCAL, HostsConfig, check_duration_on_hosts, check_nodes_on_hosts
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.resolve import resolve
from elastic_hydra.config.tree import as_schema
from elastic_hydra.config.typed import check_resolvable, typed
from elastic_hydra.config.values import sexagesimal
from elastic_hydra.config.whole_sweep import WHOLE_SWEEP, check_whole_sweep, differing, whole_sweep_of
from elastic_hydra.jobs.job import Job
from elastic_hydra.resources.facts import facts_of_this_host
from elastic_hydra.sweeps.summary import known_as

__all__ = ["check_nodes", "check_same", "hosts_keys_of", "sbatch_keys_of", "sweep_settings"]


def sweep_settings(config: DictConfig) -> DictConfig:
    """Return the sweep's `hydra.launcher` with all its keys, those that hold for the whole sweep resolved and checked.

    Args:
        config: of the sweep; it stays as it is, since Hydra compares it with those of the jobs.

    Raises:
        ConfigError: something is wrong; it lists everything that is.
    """
    settings = typed(config.hydra.launcher)
    problems = Problems()
    plain: Any = OmegaConf.to_container(settings, resolve=False)
    for key in WHOLE_SWEEP:
        group, _, name = key.rpartition(".")
        node = settings[group] if group else settings
        check_resolvable(node, problems, f"{group}." if group else "", [name])
        problems.raise_any()
        value = node[name]
        place = plain[group] if group else plain
        place[name] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    check_whole_sweep(whole_sweep_of(plain), problems)
    if not OmegaConf.is_interpolation(settings, "nodes"):
        check_nodes_on_hosts(plain["hosts"]["engine"], settings.nodes, problems)  # before a host is asked for
    if not OmegaConf.is_interpolation(settings.resources, "duration"):
        hosts = plain["hosts"]
        check_duration_on_hosts(hosts["engine"], hosts["timeout_min"], settings.resources.duration, problems)
    if problems.lines:
        _add_what_jobs_would_say(settings, problems)
    problems.raise_any()
    resolved: DictConfig = OmegaConf.create(plain)
    set_parent(resolved, parent_of(settings))
    return resolved


def _add_what_jobs_would_say(settings: DictConfig, problems: Problems) -> None:
    """Add what is wrong with the keys of a job, so that people need not come twice."""
    if settings.hosts.engine != LOCAL:
        return  # it depends on what the hosts have, and none is there yet
    try:
        plain: Any = OmegaConf.to_container(settings, resolve=True)
        resolve(plain, facts_of_this_host(), os.environ)
    except ConfigError as error:
        lines = str(error.args[0]).splitlines()  # with the keys' whole names, as in `problems`
        problems.lines = lines + [line for line in problems.lines if line not in lines]
    except OmegaConfBaseException:
        return  # only a job's own configuration can resolve such an interpolation


def hosts_keys_of(settings: DictConfig) -> HostsConfig:
    """Return `hydra.launcher.hosts` of a sweep.

    Args:
        settings: of the sweep, checked.
    """
    plain: Any = OmegaConf.to_container(settings.hosts, resolve=True)
    return as_schema(HostsConfig, plain)


def sbatch_keys_of(settings: DictConfig) -> SbatchConfig:
    """Return `hydra.launcher.sbatch` of a sweep.

    Args:
        settings: of the sweep, checked.
    """
    plain: Any = OmegaConf.to_container(settings.sbatch, resolve=True)
    return as_schema(SbatchConfig, plain)


def check_same(settings: DictConfig, jobs: Sequence[Job]) -> None:
    """Refuse jobs whose own configuration changes what holds for the whole sweep: it would be ignored.

    Args:
        settings: of the sweep.
        jobs: composed ones.

    Raises:
        ConfigError: it names each such key with all its values.
    """
    sweeps: Any = whole_sweep_of(OmegaConf.to_container(settings, resolve=False))  # type: ignore[arg-type]
    names = {known_as(job.num, job.overrides): job.launch.whole_sweep for job in jobs}
    problems = Problems()
    differing(sweeps, names, problems)
    problems.raise_any()


def check_nodes(value: Any, loader: ConfigLoader) -> None:
    """Refuse a number of nodes that a YAML file has as an unquoted range: YAML takes `1:2` for 62.

    Args:
        value: of `hydra.launcher.nodes`, as it was loaded.
        loader: Hydra's, which knows the files.

    Raises:
        ConfigError: it names the file.
    """
    text = sexagesimal(value)
    if text is None:
        return
    low, high = text.split(":")
    written = re.compile(rf":\s+\+?{low}:0?{high}\s*(?:[,}}#]|$)", re.MULTILINE)
    for path in _yaml_files(loader):
        if written.search(path.read_text(errors="replace")):
            raise ConfigError(
                f'{ROOT}.nodes={value}: YAML reads an unquoted {text} as {value}, and {path} has one: write "{text}" '
                f'for a range, "{value}" for that many nodes'
            )


def _yaml_files(loader: ConfigLoader) -> Iterable[Path]:
    for source in loader.get_sources():
        folders: Iterable[str] = [source.path]
        if source.scheme() == "pkg":
            spec = find_spec(source.path) if source.path else None
            folders = (spec.submodule_search_locations if spec else None) or ()
        for folder in folders:
            if Path(folder).is_dir():
                yield from sorted(path for ending in ("yaml", "yml") for path in Path(folder).rglob(f"*.{ending}"))
