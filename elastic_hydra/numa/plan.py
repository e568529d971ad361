"""Which CPUs each worker of a job gets: a pure function of the machine, what the job may use, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from elastic_hydra.config.numa import Cpus, NumaConfig, OnError, check_numa
from elastic_hydra.config.problems import Problems
from elastic_hydra.numa import layout
from elastic_hydra.numa.advice import advice
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.anchor import anchors
from elastic_hydra.numa.binding import Binding, Place, bindings
from elastic_hydra.numa.carve import reserve
from elastic_hydra.numa.errors import NumaError, Refusal, setting_error
from elastic_hydra.numa.topology import Device, Topology


def plan(
    topology: Topology,
    allowance: Allowance,
    settings: NumaConfig,
    workers: int,
    devices: Sequence[Device] = (),
) -> tuple[Binding, ...]:
    """Decide what each worker of a job is bound to.

    Args:
        topology: The machine.
        allowance: What the job may use: the whole allowance of the process, or the slot that the job holds.
        settings: `hydra.launcher.numa`.
        workers: Workers on this host, 1 or more.
        devices: The accelerators that the workers see, by index; worker i uses the i-th, as under torchrun.

    Returns:
        One binding per local rank. With `on_error=warn`, bindings that cannot be planned as asked have no CPUs, and
        name the problem.

    Raises:
        NumaError: The workers cannot be bound as asked; the text names the key and what would work.
    """

    def bind(settings: NumaConfig, workers: int) -> tuple[Binding, ...]:
        _check(settings, workers)
        usable = _usable(topology, allowance, settings)
        return bindings(topology, usable, settings, _places(topology, usable, settings, workers, devices))

    def fits(settings: NumaConfig, workers: int) -> bool:
        try:
            return bool(bind(settings, workers))
        except NumaError:
            return False

    problem: NumaError
    try:
        return bind(settings, workers)
    except Refusal as refusal:
        cores = topology.cores(allowance.cpus & topology.cpus.keys())
        problem = refusal.advised(advice(refusal.key, settings, workers, cores, fits))
    except NumaError as error:
        problem = error
    if settings.on_error != OnError.warn:
        raise problem
    return unbound(topology, allowance, settings, workers, str(problem))


def unbound(
    topology: Topology, allowance: Allowance, settings: NumaConfig, workers: int, problem: str
) -> tuple[Binding, ...]:
    """Bindings of workers that are not bound, because of a problem; with `threads=auto` they share the job's cores.

    Args:
        topology: The machine.
        allowance: What the job may use.
        settings: `threads` is read.
        workers: Workers on this host.
        problem: Why they are not bound, in words.

    Returns:
        One binding per local rank, without CPUs and memory policy.
    """
    free = NumaConfig(threads="auto" if settings.threads == "auto" else None)
    places = [Place(frozenset(), "not bound, see the problem")] * max(1, workers)
    return tuple(replace(binding, problem=problem) for binding in bindings(topology, allowance, free, places))


def _check(settings: NumaConfig, workers: int) -> None:
    """Refuse settings that no machine could follow: settings that are made in Python arrive here unchecked.

    Raises:
        NumaError: Settings are wrong; the text names all of them, and what they may be.
    """
    problems = Problems()
    check_numa(settings, problems)
    if workers < 1:
        problems.add("numa.cpus", settings.cpus, f"{workers} workers; at least 1")
    if problems.lines:
        raise NumaError("\n".join(problems.lines))


def _usable(topology: Topology, allowance: Allowance, settings: NumaConfig) -> Allowance:
    """The part of an allowance that workers may use.

    Its CPUs are online and not reserved; with `smt=false` it has one hardware thread per core.
    """
    online = replace(allowance, cpus=allowance.cpus & topology.cpus.keys())
    if not online.cpus:
        raise setting_error("cpus", settings.cpus, "none of the CPUs that this job may use is online")
    usable = reserve(topology, online, settings.reserve_cores)
    if settings.smt:
        return usable
    return replace(usable, cpus=frozenset(min(core) for core in topology.groups("core", usable.cpus)))


def _places(
    topology: Topology, usable: Allowance, settings: NumaConfig, workers: int, devices: Sequence[Device]
) -> list[Place]:
    if settings.cpus == Cpus.explicit:
        return layout.explicit(usable.cpus, settings, workers)
    wished = anchors(topology, usable.cpus, settings, workers, devices)
    if settings.cpus == Cpus.none:
        return [Place(frozenset(), "not bound to CPUs", anchor.device) for anchor in wished]
    lay_out = layout.spread if settings.cpus == Cpus.spread else layout.units
    return lay_out(topology, usable.cpus, settings, wished)
