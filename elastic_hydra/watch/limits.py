"""Whether a running worker group exceeds a limit: a decision about what was seen, without looking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elastic_hydra.config.watch import WatchConfig
from elastic_hydra.config.words import Kind
from elastic_hydra.failures.evidence import Overrun

__all__ = ["Look", "Sign", "exceeded", "pause"]

_LONGEST_PAUSE = 5.0
_LONGEST_PAUSE_MEMORY = 1.0
_SHORTEST_PAUSE = 0.02


@dataclass(frozen=True)
class Sign:
    """What was last seen of one worker that still runs; all times on one clock, in seconds."""

    rank: int
    beat: float | None = None
    """Its last heartbeat."""
    output: float | None = None
    """When its output was last seen to have grown."""
    cpu: float | None = None
    """When it was last seen to have used the CPU."""
    state: str = ""
    """What the operating system says of it, if that is remarkable: `stopped`."""


@dataclass(frozen=True)
class Look:
    """What was seen of a worker group."""

    now: float
    job_started: float
    group_started: float
    time: float = 0.0
    """The same moment as `now`, in seconds since the epoch."""
    signs: Sequence[Sign] = ()
    """Of the workers that still run."""
    last_end: float | None = None
    """When a worker was last seen to have ended; what it did before speaks for the others no more."""
    memory: int | None = None
    """Bytes that all of them use; None: not measured."""


def exceeded(config: WatchConfig, look: Look) -> list[Overrun]:
    """Compare what was seen with the limits.

    Returns:
        what is exceeded, the worst first.
    """
    checks = (_time(config, look), _memory(config, look), _start_up(config, look), _progress(config, look))
    return [overrun for overrun in checks if overrun is not None]


def pause(config: WatchConfig, now: float, job_started: float) -> float | None:
    """Compute how long nobody needs to look.

    Args:
        config: the limits.
        now: the time.
        job_started: on the same clock.

    Returns:
        seconds; None: nothing is limited.
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
    what = f"{_ranks(silent)} gave no sign of life (heartbeat or output) within {ran:.1f} s of the start"
    return _overrun(look, Kind.start_up, f"{what}: watch.start_up_limit={config.start_up_limit:g}", silent[0])


def _progress(config: WatchConfig, look: Look) -> Overrun | None:
    if config.progress_limit is None:
        return None
    beats = [sign.beat for sign in look.signs if sign.beat is not None]
    outputs = [sign.output for sign in look.signs if sign.output is not None]
    since: dict[int, float] = {}
    for sign in look.signs:
        seen = [look.group_started if look.last_end is None else look.last_end]
        if "heartbeat" in config.progress:
            # Often rank 0 alone calls heartbeat(): then it speaks for all.
            seen += [sign.beat] if sign.beat is not None else beats
        if "output" in config.progress:
            seen += outputs  # often rank 0 alone prints
        if "cpu" in config.progress and sign.cpu is not None:
            seen.append(sign.cpu)
        since[sign.rank] = max(seen)
    late = {rank: at for rank, at in since.items() if look.now - at >= config.progress_limit}
    if not late:
        return None
    # If all stand still, the one that stood still first is the likely culprit.
    worst = min(late, key=lambda rank: late[rank])
    states = {sign.rank: sign.state for sign in look.signs}
    odd = next((rank for rank in late if states[rank]), None)
    worst = worst if odd is None else odd
    state = f" (the process is {states[worst]})" if states[worst] else ""
    what = f"{_ranks(sorted(late))} made no progress ({', '.join(config.progress)})"
    silence = f"for {look.now - late[worst]:.1f} s{state}"
    return _overrun(look, Kind.hang, f"{what} {silence}: watch.progress_limit={config.progress_limit:g}", worst)


def _overrun(look: Look, kind: Kind, reason: str, rank: int | None = None) -> Overrun:
    return Overrun(kind, reason, rank, look.time, look.now - look.group_started)


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
