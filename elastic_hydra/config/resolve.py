"""From a job's `hydra.launcher` and the machine to what is launched: every check, and every computed default."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from elastic_hydra.config.errors import ConfigError, nearest
from elastic_hydra.config.numa import Cpus, NumaConfig
from elastic_hydra.config.retry import (
    PROGRESS,
    WORDS,
    Action,
    BackoffConfig,
    RetryConfig,
    WatchConfig,
    is_word,
    number_of_bytes,
)
from elastic_hydra.config.schema import ElasticConfig

__all__ = ["Demand", "Launch", "Machine", "resolve"]

ROOT = "hydra.launcher"
RESUME_MODES = ("false", "true", "failed", "interrupted", "all")
START_METHODS = ("warm", "fork", "forkserver", "spawn")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "OFF")

_TIMEOUTS = (
    "join_timeout",
    "last_call_timeout",
    "close_timeout",
    "heartbeat_timeout",
    "keep_alive_interval",
    "keep_alive_max_attempt",
    "read_timeout",
)
_BACKEND_KEYS: dict[str, dict[str, str]] = {
    # What each backend reads, and under which name; torch ignores the others without a word.
    "local": {},
    "c10d": {name: name for name in (*_TIMEOUTS, "is_host")},
    "static": {"join_timeout": "timeout"},
    "etcd": {"join_timeout": "timeout", "last_call_timeout": "last_call_timeout"},
    "etcd-v2": {name: name for name in _TIMEOUTS},
}
_SINCE = {
    # Options that the oldest supported torch does not know, and the version that brought them.
    "virtual_local_rank": (2, 10),
    "signals_to_handle": (2, 10),
    "logs.duplicate_stdout_filters": (2, 10),
    "logs.duplicate_stderr_filters": (2, 10),
}


@dataclass(frozen=True)
class Machine:
    """What the launcher found on this host."""

    cpus: int
    """CPUs that this process may use."""
    gpus: int
    """Accelerators that it sees."""
    torch: tuple[int, int]
    """Version of the installed torch."""
    memory: int = 0
    """Bytes of memory that it may use."""
    backends: Collection[str] = ("local", "c10d", "static", "etcd", "etcd-v2")
    """Rendezvous backends that torch knows."""
    event_handlers: Collection[str] = ("null", "console")
    """Event log handlers that torch knows."""
    has_etcd: bool = False
    """Whether the client package of etcd is installed."""


@dataclass(frozen=True)
class Demand:
    """What a job takes of the host while it runs beside others."""

    gpus: int = 0
    cpus: int | None = None
    """Hardware threads; None: an equal share for each of the jobs that may run at once."""
    memory: int = 0
    """Bytes."""


@dataclass(frozen=True)
class Launch:
    """One job, ready to launch: plain values, all checked."""

    min_nodes: int
    max_nodes: int
    nproc_per_node: int
    start_method: str
    role: str
    backend: str
    endpoint: str
    rdzv_configs: dict[str, Any]
    rendezvous_id: str | None
    local_addr: str | None
    retry: RetryConfig
    watch: WatchConfig
    monitor_interval: float
    shutdown_timeout: int
    exit_barrier_timeout: float
    event_log_handler: str
    return_values: str
    omp_num_threads: int | None
    """None leaves the variable alone."""
    demand: Demand
    numa: NumaConfig
    log_dir: str | None
    redirects: int | dict[int, int]
    tee: int | dict[int, int]
    local_ranks_filter: tuple[int, ...] | None
    line_prefix: str | None
    other_ranks_level: str
    torch_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of torch's LaunchConfig that only newer versions have, as far as this one has them."""

    @property
    def several_nodes(self) -> bool:
        """Whether the job may have more than one node."""
        return self.max_nodes > 1


class _Problems:
    """Collects all that is wrong, so that it is said at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, key: str, value: object, problem: str) -> None:
        self.lines.append(f"{ROOT}.{key}={value if value is not None else 'null'}: {problem}")

    def require(self, ok: bool, key: str, value: object, problem: str) -> None:
        if not ok:
            self.add(key, value, problem)

    def raise_any(self) -> None:
        if self.lines:
            raise ConfigError("\n".join(self.lines))


def resolve(settings: Mapping[str, Any], machine: Machine, environ: Mapping[str, str]) -> Launch:
    """Check a job's settings and compute what they leave open.

    Args:
        settings: the job's `hydra.launcher`, interpolations resolved.
        machine: this host.
        environ: its environment variables.

    Returns:
        what to launch.

    Raises:
        ConfigError: something is wrong; it lists everything that is.
    """
    problems = _Problems()
    _check_keys(settings, ElasticConfig, "", problems)
    problems.raise_any()
    rendezvous, logs = settings["rendezvous"], settings["logs"]

    min_nodes, max_nodes = _nodes(settings["nodes"], problems)
    parallel = _parallel(settings["parallel"], problems)
    workers = _workers(settings["nproc_per_node"], machine, parallel, problems)
    demand = _demand(settings["resources"], workers, parallel, machine, problems)
    _check_values(settings, machine, problems)
    backend, endpoint, configs = _rendezvous(rendezvous, min_nodes, max_nodes, machine, problems)
    redirects = _streams("logs.redirects", logs["redirects"], workers, problems)
    tee = _streams("logs.tee", logs["tee"], workers, problems)
    cpus = max(1, machine.cpus // (parallel or 1)) if demand.cpus is None else demand.cpus
    threads = _threads(settings["omp_num_threads"], workers, cpus, environ, problems)
    if settings["omp_num_threads"] == "auto" and settings["numa"]["cpus"] != Cpus.none:
        threads = None  # they follow from what each worker is bound to
    options = _torch_options(settings, machine, problems)
    retry = _retry(settings["retry"], problems)
    watch = _watch(settings["watch"], retry, problems)
    problems.raise_any()
    ranks = logs["local_ranks_filter"]
    return Launch(
        min_nodes=min_nodes,
        max_nodes=max_nodes,
        nproc_per_node=workers,
        start_method=settings["start_method"],
        role=settings["role"],
        backend=backend,
        endpoint=endpoint,
        rdzv_configs=configs,
        rendezvous_id=rendezvous["id"],
        local_addr=rendezvous["local_addr"],
        retry=retry,
        watch=watch,
        monitor_interval=settings["monitor_interval"],
        shutdown_timeout=settings["shutdown_timeout"],
        exit_barrier_timeout=settings["exit_barrier_timeout"],
        event_log_handler=settings["event_log_handler"],
        return_values=settings["return_values"],
        omp_num_threads=threads,
        demand=demand,
        numa=NumaConfig(**settings["numa"]),
        log_dir=logs["dir"],
        redirects=redirects,
        tee=tee,
        local_ranks_filter=None if ranks is None else tuple(ranks),
        line_prefix=_line_prefix(logs["line_prefix"], tee, workers),
        other_ranks_level=str(logs["other_ranks_level"]).upper(),
        torch_options=options,
    )


# --- keys and single values --------------------------------------------------------------------------------------


def _check_keys(settings: Mapping[str, Any], schema: type, prefix: str, problems: _Problems) -> None:
    # Hydra refuses unknown keys by itself, except those given with `+`.
    known = {f.name: f for f in dataclasses.fields(schema)}
    for key, value in settings.items():
        if key not in known:
            problems.add(
                prefix + key, value, f"there is no such key{nearest(key, known)}; there are {', '.join(known)}"
            )
            continue
        nested = known[key].default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            _check_keys(value, nested, f"{prefix}{key}.", problems)


def _check_values(settings: Mapping[str, Any], machine: Machine, problems: _Problems) -> None:
    def one_of(key: str, allowed: Collection[str], value: str) -> None:
        problems.require(value in allowed, key, value, f"must be one of {', '.join(allowed)}{nearest(value, allowed)}")

    one_of("start_method", START_METHODS, settings["start_method"])
    one_of("return_values", ("rank0", "all"), settings["return_values"])
    one_of("event_log_handler", sorted(machine.event_handlers), settings["event_log_handler"])
    one_of("logs.other_ranks_level", LEVELS, str(settings["logs"]["other_ranks_level"]).upper())
    one_of("on_failure", ("continue", "stop"), settings["on_failure"])
    one_of("resume", RESUME_MODES, str(settings["resume"]).lower())
    failures = settings["max_failures"]
    if failures is not None and not re.fullmatch(r"\d+|0?\.\d+", str(failures)):
        problems.add("max_failures", failures, "must be a number of jobs, a fraction below 1, or null")
    problems.require(bool(settings["role"]), "role", settings["role"], "must not be empty")
    interval = settings["monitor_interval"]
    problems.require(interval > 0, "monitor_interval", interval, "must be more than 0 (seconds)")
    for key in ("shutdown_timeout", "exit_barrier_timeout", "stagger"):
        problems.require(settings[key] >= 0, key, settings[key], "must be 0 or more (seconds)")
    names = [s.name for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]
    for name in settings["signals_to_handle"]:
        if name not in names:
            problems.add("signals_to_handle", name, f"no signal that can be handled{nearest(name, names)}")
    for rank in settings["logs"]["local_ranks_filter"] or ():
        problems.require(rank >= 0, "logs.local_ranks_filter", rank, "must be local ranks, 0 or more")


def _nodes(value: Any, problems: _Problems) -> tuple[int, int]:
    match = re.fullmatch(r"(-?\d+)(?::(-?\d+))?", str(value).strip())
    if match is None:
        problems.add("nodes", value, "must be a number, or 'MIN:MAX'; in YAML with quotes")
        return 1, 1
    low = int(match[1])
    high = int(match[2] or low)
    if not 1 <= low <= high:
        problems.add("nodes", value, "must be 1 or more, and MIN not more than MAX")
        return 1, 1
    return low, high


def _parallel(value: Any, problems: _Problems) -> int | None:
    """Read `hydra.launcher.parallel`; None is `auto`."""
    if value == "auto":
        return None
    if re.fullmatch(r"\d+", str(value)) and int(value) >= 1:
        return int(value)
    problems.add("parallel", value, "must be 1 or more, or auto")
    return 1


def _workers(value: Any, machine: Machine, parallel: int | None, problems: _Problems) -> int:
    word = str(value).strip().lower()
    if word == "auto":
        # As many as the job's part of the host has GPUs; with parallel=auto the smallest part there is.
        return max(1, machine.gpus // parallel) if parallel else 1
    if word == "cpu":
        return max(1, machine.cpus // (parallel or 1))
    if word == "gpu":
        problems.require(
            machine.gpus > 0, "nproc_per_node", value, "this host has no GPU that torch sees; use cpu or a number"
        )
        return max(1, machine.gpus // (parallel or 1))
    if re.fullmatch(r"\d+", word) and int(word) >= 1:
        return int(word)
    words = ("auto", "cpu", "gpu")
    problems.add("nproc_per_node", value, f"must be 1 or more, or one of {', '.join(words)}{nearest(word, words)}")
    return 1


def _demand(
    settings: Mapping[str, Any], workers: int, parallel: int | None, machine: Machine, problems: _Problems
) -> Demand:
    """Compute what a job holds while others run beside it; a job alone holds nothing, for it has everything."""
    gpus_per_worker = _count("resources.gpus_per_worker", settings["gpus_per_worker"], 0, problems)
    cpus_per_worker = _count("resources.cpus_per_worker", settings["cpus_per_worker"], 1, problems)
    memory = _bytes("resources.memory_per_job", settings["memory_per_job"], problems)
    share = settings["jobs_per_gpu"]
    problems.require(share >= 1, "resources.jobs_per_gpu", share, "must be 1 or more")
    if parallel == 1 or share < 1:
        return Demand()
    gpus = workers * (min(1, machine.gpus) if gpus_per_worker is None else gpus_per_worker)
    cpus: int | None = None
    if cpus_per_worker is not None:
        cpus = workers * cpus_per_worker
    elif parallel is None:
        cpus = max(1, machine.cpus * gpus // (machine.gpus * share)) if gpus and machine.gpus else workers
    for what, wanted, there in (("GPUs", gpus, machine.gpus), ("CPUs", cpus or 0, machine.cpus)):
        if wanted > there:
            key = f"resources.{what[:-1].lower()}s_per_worker"
            each = wanted // workers
            problems.add(
                key, each, f"{workers} workers x {each} = {wanted} {what}, and this host has {there}: it can never run"
            )
    if memory > machine.memory:
        sizes = f"this host has {machine.memory / 1e9:.1f} GB"
        problems.add("resources.memory_per_job", settings["memory_per_job"], f"{sizes}: the job can never run")
    return Demand(gpus, cpus, memory)


def _count(key: str, value: Any, least: int, problems: _Problems) -> int | None:
    if value == "auto":
        return None
    if re.fullmatch(r"\d+", str(value)) and int(value) >= least:
        return int(value)
    problems.add(key, value, f"must be {least} or more, or auto")
    return None


def _bytes(key: str, value: Any, problems: _Problems) -> int:
    if value is None:
        return 0
    size = number_of_bytes(value)
    if size is None:
        problems.add(key, value, "must be a size such as 16GB, 512MiB, or a number of bytes")
        return 0
    return size


def _threads(value: Any, workers: int, cpus: int, environ: Mapping[str, str], problems: _Problems) -> int | None:
    if value is None:
        return None
    if value == "auto":
        return None if "OMP_NUM_THREADS" in environ else max(1, cpus // workers)
    if re.fullmatch(r"\d+", str(value)) and int(value) >= 1:
        return int(value)
    problems.add("omp_num_threads", value, "must be 1 or more, auto, or null")
    return None


def _streams(key: str, value: Any, workers: int, problems: _Problems) -> int | dict[int, int]:
    """Read `3`, `{0: 3}`, or torchrun's `"0:3,1:1"`."""
    pairs: Any = value
    if isinstance(value, str) and ":" in value:
        pairs = dict(pair.split(":", 1) for pair in value.split(",") if ":" in pair)
    items = list(pairs.items()) if isinstance(pairs, Mapping) else [(0, pairs)]
    try:
        read = {int(rank): int(streams) for rank, streams in items}
    except (TypeError, ValueError):
        read = {-1: -1}
    if any(rank < 0 or not 0 <= streams <= 3 for rank, streams in read.items()):
        problems.add(key, value, "must be 0 (nothing), 1 (stdout), 2 (stderr) or 3 (both), or {local rank: number}")
        return 0
    return read if isinstance(pairs, Mapping) else read[0]


def _line_prefix(value: str | None, tee: int | dict[int, int], workers: int) -> str | None:
    """Say what teed lines begin with: with the output of one rank only, a prefix would only break progress bars."""
    if value is not None:
        return value
    teed = [rank for rank in range(workers) if (tee.get(rank, 0) if isinstance(tee, dict) else tee)]
    return None if len(teed) > 1 else ""


def _torch_options(settings: Mapping[str, Any], machine: Machine, problems: _Problems) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, since in _SINCE.items():
        group, _, name = key.rpartition(".")
        value = settings[group][name] if group else settings[name]
        default = getattr(ElasticConfig(), name) if not group else []
        if machine.torch >= since:
            options[name] = ",".join(value) if name == "signals_to_handle" else value
        elif value != default:
            problems.add(
                key,
                value,
                f"needs torch {since[0]}.{since[1]} or newer; {machine.torch[0]}.{machine.torch[1]} is installed",
            )
    return options


# --- retry and watch ---------------------------------------------------------------------------------------------


def _retry(settings: Mapping[str, Any], problems: _Problems) -> RetryConfig:
    backoff = settings["backoff"]
    for key, least in (("max_restarts", 0), ("max_attempts", 1)):
        problems.require(settings[key] >= least, f"retry.{key}", settings[key], f"must be {least} or more")
    for key in ("window", "min_uptime"):
        value = settings[key]
        ok = value is None or value > 0 or (key == "min_uptime" and value == 0)
        allowed = "must be more than 0 (seconds), or null" if key == "window" else "must be 0 or more (seconds)"
        problems.require(ok, f"retry.{key}", value, allowed)
    for key, least in (("initial", 0), ("factor", 1), ("maximum", 0)):
        problems.require(backoff[key] >= least, f"retry.backoff.{key}", backoff[key], f"must be {least} or more")
    problems.require(0 <= backoff["jitter"] <= 1, "retry.backoff.jitter", backoff["jitter"], "must be from 0 to 1")
    if backoff["maximum"] < backoff["initial"]:
        problem = f"must not be less than initial={backoff['initial']:g}"
        problems.add("retry.backoff.maximum", backoff["maximum"], problem)
    for key in ("only_on", "never_on"):
        for word in settings[key]:
            if not is_word(word):
                known = [*WORDS, *(number.name for number in signal.Signals)]
                what = f"must be exception classes, exit codes, signals (SIGBUS), or of {', '.join(WORDS)}"
                problems.add(f"retry.{key}", word, what + nearest(word, known))
    return RetryConfig(**{**settings, "backoff": BackoffConfig(**backoff)})


def _watch(settings: Mapping[str, Any], retry: RetryConfig, problems: _Problems) -> WatchConfig:
    for key in ("time_limit", "start_up_limit", "progress_limit", "interval"):
        value = settings[key]
        problems.require(value is None or value > 0, f"watch.{key}", value, "must be more than 0 (seconds), or null")
    memory = None if settings["memory_limit"] is None else number_of_bytes(settings["memory_limit"])
    if settings["memory_limit"] is not None and not memory:
        what = "must be a size such as 16GB, 512MiB, or a number of bytes, more than 0"
        problems.add("watch.memory_limit", settings["memory_limit"], what)
    for word in settings["progress"]:
        if word not in PROGRESS:
            problems.add("watch.progress", word, f"must be of {', '.join(PROGRESS)}{nearest(word, PROGRESS)}")
    if not settings["progress"]:
        problems.add("watch.progress", "[]", f"must be at least one of {', '.join(PROGRESS)}")
    watch = WatchConfig(**{**settings, "memory_limit": memory})
    if watch.is_on() and watch.action is Action.restart and retry.max_restarts == 0:
        why = f"nothing is restarted with {ROOT}.retry.max_restarts=0: pick a retry profile"
        problems.add("watch.action", "restart", why)
    return watch


# --- rendezvous --------------------------------------------------------------------------------------------------


def _rendezvous(
    settings: Mapping[str, Any], min_nodes: int, max_nodes: int, machine: Machine, problems: _Problems
) -> tuple[str, str, dict[str, Any]]:
    backend, endpoint = settings["backend"], settings["endpoint"].strip()
    if backend not in machine.backends:
        known = sorted(machine.backends)
        problems.add("rendezvous.backend", backend, f"must be one of {', '.join(known)}{nearest(backend, known)}")
        return backend, endpoint, {}
    if backend.startswith("etcd"):
        problems.require(
            machine.has_etcd, "rendezvous.backend", backend, "needs etcd's client: pip install python-etcd"
        )
    if backend == "local" and max_nodes > 1:
        problems.add(
            "rendezvous.backend", backend, f"is for one node, and nodes is up to {max_nodes}: pick c10d, static or etcd"
        )
    endpoint = _endpoint(backend, endpoint, max_nodes, problems)
    configs = _backend_configs(settings, backend, problems)
    if backend == "static":
        configs["rank"] = _node_rank(settings["node_rank"], min_nodes, max_nodes, problems)
    elif settings["node_rank"] is not None:
        problems.add(
            "rendezvous.node_rank", settings["node_rank"], f"only static has node ranks; {backend} hands them out"
        )
    return backend, endpoint, configs


def _endpoint(backend: str, endpoint: str, max_nodes: int, problems: _Problems) -> str:
    if backend == "local":
        problems.require(
            not endpoint, "rendezvous.endpoint", endpoint, "local has none: pick c10d, static or etcd, or drop it"
        )
        return ""
    if not endpoint:
        if backend.startswith("etcd") or (max_nodes > 1 and backend in ("c10d", "static")):
            where = "node 0's HOST:PORT" if backend == "static" else "the HOST:PORT where the nodes meet"
            problems.add("rendezvous.endpoint", "''", f"{backend} needs {where}, the same on every node")
        return "127.0.0.1:0" if backend in ("c10d", "static") else ""
    host, colon, port = endpoint.rpartition(":")
    if backend in ("c10d", "static") and not (colon and host and port.isdigit() and int(port) < 65536):
        problems.add("rendezvous.endpoint", endpoint, "must be HOST:PORT, the port a number below 65536")
    if colon and port == "0" and max_nodes > 1:
        problems.add("rendezvous.endpoint", endpoint, "port 0 means any free port, which the other nodes cannot know")
    return endpoint


def _backend_configs(settings: Mapping[str, Any], backend: str, problems: _Problems) -> dict[str, Any]:
    configs = dict(settings["configs"])
    names = _BACKEND_KEYS.get(backend, {name: name for name in _TIMEOUTS})
    reads = f"it reads {', '.join(names)}" if names else "it reads none"
    for key in (*_TIMEOUTS, "is_host"):
        value = settings[key]
        if value is None:
            continue
        if key not in names:
            problems.add(f"rendezvous.{key}", value, f"the backend {backend} would ignore it; {reads}")
        elif key != "is_host" and value < 1:
            problems.add(f"rendezvous.{key}", value, "must be 1 or more")
        else:
            configs[names[key]] = value
    if "timeout" in settings["configs"] and backend in ("c10d", "etcd-v2", "local"):
        what = f"the backend {backend} would ignore it"
        hint = "" if backend == "local" else f"; set {ROOT}.rendezvous.join_timeout"
        problems.add("rendezvous.configs.timeout", configs["timeout"], what + hint)
    return configs


def _node_rank(rank: int | None, min_nodes: int, max_nodes: int, problems: _Problems) -> int:
    if min_nodes != max_nodes:
        problems.add("nodes", f"{min_nodes}:{max_nodes}", "static has a fixed number of nodes; c10d and etcd can grow")
    if rank is None:
        if max_nodes > 1:
            problems.add("rendezvous.node_rank", None, f"static needs it on every node: 0 to {max_nodes - 1}")
        return 0
    problems.require(0 <= rank < max_nodes, "rendezvous.node_rank", rank, f"must be 0 to {max_nodes - 1}")
    return rank
