"""Whether a running worker group exceeds a limit: decided from what the sampler has measured, without measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elastic_hydra.config.watch import WatchConfig
from elastic_hydra.config.words import Kind
from elastic_hydra.failures.evidence import Overrun

__all__ = ["Look", "Sign", "exceeded", "pause"]

_LONGEST_PAUSE = 5.0
"""Seconds between two looks at most."""
_LONGEST_PAUSE_MEMORY = 1.0
"""Seconds between two looks at most when memory has a limit: memory may grow fast."""
_SHORTEST_PAUSE = 0.02
"""Seconds between two looks at least."""


@dataclass(frozen=True)
class Sign:
    """What was last seen of one worker that still runs; all times on one clock, in seconds."""

    rank: int
    beat: float | None = None
    """When the worker gave its last heartbeat; None: it has given none."""
    output: float | None = None
    """When a look last saw that the worker's output had grown; None: none has."""
    cpu: float | None = None
    """When a look last saw that the worker had used the CPU; None: none has."""
    state: str = ""
    """The state of the process, in words, if it cannot run: stopped, or stuck in the kernel; empty otherwise."""


@dataclass(frozen=True)
class Look:
    """What was seen of a worker group at one moment; times are in seconds on one clock, unless said otherwise."""

    now: float
    """The moment of the look."""
    job_started: float
    group_started: float
    time: float = 0.0
    """The same moment as `now`, in seconds since the epoch."""
    signs: Sequence[Sign] = ()
    """The signs of the workers that still run."""
    last_end: float | None = None
    """When a look last saw that a worker had ended; None: none has. Until then, the worker's signs counted for the
    others as well, so these must not be judged by an earlier moment."""
    memory: int | None = None
    """Bytes that all workers use together; None: not measured."""


def exceeded(config: WatchConfig, look: Look) -> list[Overrun]:
    """Compare what was seen with the limits.

    Args:
        config: the limits.
        look: what was seen.

    Returns:
        the limits that are exceeded, the worst first.
    """
    checks = (_time(config, look), _memory(config, look), _start_up(config, look), _progress(config, look))
    return [overrun for overrun in checks if overrun is not None]


def pause(config: WatchConfig, now: float, job_started: float) -> float | None:
    """Compute the time until the next look.

    Args:
        config: the limits.
        now: the time, in seconds.
        job_started: when the job was started, on the same clock.

    Returns:
        seconds; None: there is no limit, and nobody needs to look.
    """
    pauses = []
    looked_at = [limit for limit in (config.start_up_limit, config.progress_limit) if limit is not None]
    if looked_at or config.memory_limit is not None:
        longest = _LONGEST_PAUSE if config.memory_limit is None else _LONGEST_PAUSE_MEMORY
        usual = min([longest, *(limit / 10.0 for limit in looked_at)])
        pauses.append(max(_SHORTEST_PAUSE, usual if config.interval is None else config.interval))
    if config.time_limit is not None:
        pauses.append(max(0.0, job_started + config.time_limit - now))
    return min(pauses, default=None)


def _time(config: WatchConfig, look: Look) -> Overrun | None:
    ran = look.now - look.job_started
    if config.time_limit is None or ran < config.time_limit:
        return None
    return _overrun(look, Kind.timeout, f"the job has run for {ran:.1f} s: watch.time_limit={config.time_limit:g}")


def _memory(config: WatchConfig, look: Look) -> Overrun | None:
    limit = config.memory_limit_in_bytes()
    if limit is None or look.memory is None or look.memory <= limit:
        return None
    used = f"the workers of this node use {look.memory / 1e9:.2f} GB of memory ({config.memory.value.upper()})"
    return _overrun(look, Kind.oom, f"{used}: watch.memory_limit={limit / 1e9:.2f} GB")


def _start_up(config: WatchConfig, look: Look) -> Overrun | None:
    if config.start_up_limit is None or look.now - look.group_started < config.start_up_limit:
        return None
    silent = [sign.rank for sign in look.signs if sign.beat is None and sign.output is None]
    if not silent:
        return None
    ran = look.now - look.group_started
    words = f"{_ranks(silent)} gave no sign of life (heartbeat or output) within {ran:.1f} s of the start"
    return _overrun(look, Kind.start_up, f"{words}: watch.start_up_limit={config.start_up_limit:g}", silent[0])


def _progress(config: WatchConfig, look: Look) -> Overrun | None:
    if config.progress_limit is None:
        return None
    late = {
        rank: moment
        for rank, moment in _last_progress(config, look).items()
        if look.now - moment >= config.progress_limit
    }
    if not late:
        return None
    # The likely culprit is a process that cannot run, else the one that stood still first.
    states = {sign.rank: sign.state for sign in look.signs}
    unable = [rank for rank in late if states[rank]]
    worst = unable[0] if unable else min(late, key=late.__getitem__)
    state = f" (the process is {states[worst]})" if states[worst] else ""
    words = f"{_ranks(sorted(late))} made no progress ({', '.join(config.progress)})"
    silence = f"for {look.now - late[worst]:.1f} s{state}"
    return _overrun(look, Kind.hang, f"{words} {silence}: watch.progress_limit={config.progress_limit:g}", worst)


def _last_progress(config: WatchConfig, look: Look) -> dict[int, float]:
    """Return when each rank last made progress, as far as is known."""
    beats = [sign.beat for sign in look.signs if sign.beat is not None]
    outputs = [sign.output for sign in look.signs if sign.output is not None]
    progress: dict[int, float] = {}
    for sign in look.signs:
        moments = [look.group_started if look.last_end is None else look.last_end]
        if "heartbeat" in config.progress:
            # Often only rank 0 calls heartbeat(). So a rank that never does is judged by those that do.
            moments += [sign.beat] if sign.beat is not None else beats
        if "output" in config.progress:
            moments += outputs  # often only rank 0 prints, so the output of any rank counts for all
        if "cpu" in config.progress and sign.cpu is not None:
            moments.append(sign.cpu)
        progress[sign.rank] = max(moments)
    return progress


def _overrun(look: Look, kind: Kind, reason: str, rank: int | None = None) -> Overrun:
    return Overrun(kind, reason, rank, look.time, look.now - look.group_started)


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
