"""A sweep as a study of Optuna's, so that its plots and its dashboard work on any sweep, grids included."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import TrialState

from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.report.parameters import Plain, parameters, typed
from elastic_hydra.report.table import number

__all__ = ["StudyExists", "add_trials", "make_study"]

_SWEEP = "sweep"
"""The study's attribute that names the directory of its sweep."""
_DECADES = 100
"""A number whose largest value is at least so many times its smallest one is drawn on a logarithmic axis."""


class StudyExists(Exception):
    """The storage has a study of that name which was not made from this sweep."""


def make_study(sweep: SweepOverview, url: str, name: str, maximize: bool) -> optuna.Study:
    """Make a study without trials. An earlier one of the same sweep is replaced.

    Args:
        sweep: the sweep.
        url: of the storage, as `sqlite:///study.db`.
        name: of the study.
        maximize: whether larger values are better.

    Raises:
        StudyExists: there is another study of that name.
        Exception: whatever the storage raises when it cannot be used.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    storage = optuna.storages.get_storage(url)
    try:
        earlier = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        pass
    else:
        if earlier.user_attrs.get(_SWEEP) != sweep.folder:
            raise StudyExists(name)
        optuna.delete_study(study_name=name, storage=storage)
    direction = "maximize" if maximize else "minimize"
    study = optuna.create_study(study_name=name, storage=storage, direction=direction)
    for key, fact in {_SWEEP: sweep.folder, "command": list(sweep.command), "host": sweep.host}.items():
        study.set_user_attr(key, fact)
    return study


def add_trials(study: optuna.Study, sweep: SweepOverview, jobs: Iterable[JobOverview]) -> None:
    """Add a trial for each job: its parameters, value, state and times, and what else is known as attributes.

    Args:
        study: the study.
        sweep: the sweep.
        jobs: its jobs, in their order; all of them are looked at before the first trial is added.
    """
    given = {job.num: parameters(job.overrides) for job in sweep.jobs.values()}
    names = dict.fromkeys(name for job in given.values() for name in job)
    columns = {name: _column([job[name] for job in given.values() if name in job]) for name in names}
    for job in jobs:
        values = {name: columns[name][1](text) for name, text in given[job.num].items()}
        study.add_trial(_trial(sweep, job, values, {name: columns[name][0] for name in values}))


def _column(texts: Sequence[str]) -> tuple[Any, Callable[[str], Plain]]:
    """Return the distribution of a parameter, and what makes a text one of its values.

    Args:
        texts: the parameter's values in all jobs that have it.
    """
    values = [typed(text) for text in texts]
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        plain = all(isinstance(value, bool) for value in values)
        choices = dict.fromkeys(values if plain else texts)
        return optuna.distributions.CategoricalDistribution(list(choices)), typed if plain else str
    low, high = min(numbers), max(numbers)
    log = low > 0 and high >= _DECADES * low
    whole = all(isinstance(value, int) for value in numbers)
    return (_int_range if whole else _float_range)(low, high, log), typed if whole else float


def _int_range(low: Any, high: Any, log: bool) -> Any:
    if hasattr(optuna.distributions, "IntDistribution"):  # Optuna 3 and newer
        return optuna.distributions.IntDistribution(low, high, log=log)
    of_optuna_2 = optuna.distributions
    return of_optuna_2.IntLogUniformDistribution(low, high) if log else of_optuna_2.IntUniformDistribution(low, high)


def _float_range(low: float, high: float, log: bool) -> Any:
    if hasattr(optuna.distributions, "FloatDistribution"):
        return optuna.distributions.FloatDistribution(low, high, log=log)
    of_optuna_2 = optuna.distributions
    return of_optuna_2.LogUniformDistribution(low, high) if log else of_optuna_2.UniformDistribution(low, high)


def _trial(
    sweep: SweepOverview, job: JobOverview, values: Mapping[str, Plain], distributions: Mapping[str, Any]
) -> Any:
    state, value = _state_of(sweep, job), number(job.value)
    facts: dict[str, Any] = {"job": job.num, "state": sweep.state_of(job), "dir": job.dir}
    if job.started is not None:
        facts |= {"attempts": job.attempt + 1, "restarts": job.restarts}
    if job.reason:
        facts |= {"kind": job.kind, "reason": job.reason}
    if value is None and job.value is not None:
        facts["value"] = job.value
    trial = optuna.trial.create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=dict(values),
        distributions=dict(distributions),
        user_attrs=facts,
    )
    trial.datetime_start = _local_time(job.started)
    trial.datetime_complete = _local_time(job.ended if job.ended is not None else sweep.last_event)
    if not state.is_finished():
        trial.datetime_complete = None
    return trial


def _state_of(sweep: SweepOverview, job: JobOverview) -> TrialState:
    """Return the state of a trial: one that is complete has a number, and Optuna has no other word for what stopped."""
    states = {"running": TrialState.RUNNING, "waiting": TrialState.WAITING, "not started": TrialState.WAITING}
    if job.state == "finished" and number(job.value) is not None:
        return TrialState.COMPLETE
    return states.get(sweep.state_of(job), TrialState.FAIL)


def _local_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds)
