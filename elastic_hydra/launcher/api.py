"""The interface of `torch.distributed.launcher.api`, with what torch gets wrong put right."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from types import FrameType
from typing import Any

from torch.distributed.elastic import events, metrics
from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec
from torch.distributed.elastic.multiprocessing import LogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousGracefulExitError
from torch.distributed.elastic.utils.logging import get_logger
from torch.distributed.launcher import api as torch_api

from elastic_hydra.compat.torch import AGENT_OPTIONS, event_handlers, for_fields_of
from elastic_hydra.compat.versions import text_of
from elastic_hydra.config.backends import ON_ONE_NODE
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.schema import START_METHODS
from elastic_hydra.config.watch import WatchConfig
from elastic_hydra.config.words import Kind
from elastic_hydra.elastic import rendezvous
from elastic_hydra.elastic.agent import ElasticAgent
from elastic_hydra.elastic.cuda import lacks_cuda_driver
from elastic_hydra.elastic.logs import TemporaryLogs, for_one_launch
from elastic_hydra.elastic.placement import Placer, from_torch
from elastic_hydra.elastic.script import check_program
from elastic_hydra.elastic.starter import Starter
from elastic_hydra.elastic.worker_failure import WorkersFailedError
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.binding import Binding
from elastic_hydra.supervisor import context, standard_input
from elastic_hydra.supervisor.context import Role
from elastic_hydra.supervisor.main_module import stop_if_executed_again
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.pickles import objects_in
from elastic_hydra.supervisor.process_limits import check_open_files
from elastic_hydra.supervisor.process_state import environment, handlers, heard_while_logging

__all__ = ["LaunchConfig", "elastic_launch", "launch_agent"]

logger = get_logger("elastic_hydra.agent")

PRELOAD = ("torch.distributed.launcher.api", __name__)
"""What a warm server in a fresh interpreter imports for its agents and workers."""

_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
_SIGNALS = "TORCHELASTIC_SIGNALS_TO_HANDLE"
_KNOWN_TO_TORCH = {f.name for f in fields(torch_api.LaunchConfig)}
_SINCE_TORCH_2_10 = ("duplicate_stdout_filters", "duplicate_stderr_filters", "virtual_local_rank")
_CHOSEN: Any = object()
"""Stands for `numa_options` that torch need not choose."""
_TORCHS_TIMEOUT = 900
"""Seconds that torch's `LaunchConfig` writes into `rdzv_configs` when the user has given no timeout."""


class _ChosenBackend(str):
    """A backend that the user has not given: `dataclasses.replace` chooses anew."""


class _ChosenTimeout(int):
    """A timeout in seconds that the user has not given, or not by this name: `dataclasses.replace` chooses anew."""


@dataclass
class LaunchConfig(torch_api.LaunchConfig):
    """How to launch a job: torch's `LaunchConfig`, and what torch has no place for.

    It may be used for any number of jobs, one after the other or side by side: launching does not change it.
    """

    rdzv_backend: str = ""
    """Empty means `local` for one node without an endpoint, and torch's default, `etcd`, otherwise."""
    exit_barrier_timeout: float = 300.0
    """Seconds that an agent whose workers have finished waits for the other agents."""
    worker_env: dict[str, str] = field(default_factory=dict)
    """Environment variables of every worker, on top of the agent's own."""
    numa: NumaConfig | None = None
    """What workers are bound to; None: what torch's `numa_options` say."""
    slot: Allowance | None = None
    """What the job holds of this host; None: all that this process may use."""
    gpus_per_worker: int = 1
    """GPUs that belong to each worker, in the order of their indices: it is placed at the first of them."""
    on_bindings: Callable[[Sequence[Binding]], None] | None = None
    """Is told what the workers are bound to, by local rank, at every start; in this process."""
    retry: RetryConfig | None = None
    """When a failed worker group is started again; it brings its own `max_restarts`. None: as torch does,
    `max_restarts` times, at once, whatever the cause."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """Limits for time, progress and memory; sizes in bytes."""
    history: tuple[float, ...] = ()
    """When earlier agents of this job have restarted it, on the monotonic clock, in seconds: these count too."""
    elapsed: float = 0.0
    """Seconds that earlier agents of this job have used of `watch.time_limit`."""
    signals_to_handle: str = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"
    """Signals to this process that end the job; the workers get the same one."""
    shutdown_timeout: int | None = None
    """Seconds between SIGTERM and SIGKILL; None: 30, or what torch 2.12 and newer, which has the field, makes of it."""
    duplicate_stdout_filters: list[str] | None = None
    """What lines of teed output must contain to be copied to one file for all workers; torch 2.10 and newer."""
    duplicate_stderr_filters: list[str] | None = None
    """The same for standard error."""
    virtual_local_rank: bool = False
    """Whether each worker sees one GPU only, as number 0, with `LOCAL_RANK=0`; torch 2.10 and newer."""
    stdin: bool = True
    """Whether rank 0 has this process's standard input, a pipe or, if it is in the foreground, its terminal; the other
    workers have none."""
    keep_finished: bool = True
    """Whether a worker whose function has returned stays until those of all workers of its node have, as torch's do:
    what it hosts, such as a store, is there as long as others need it. One that calls `sys.exit()` is gone at once."""
    checkpoint_timeout: float = 30.0
    """Seconds that workers have after a signal such as SIGUSR1, to write a checkpoint, before they get SIGTERM."""
    on_verdict: Callable[[Verdict], None] | None = None
    """Is told every decision about a failure, in this process."""

    def __post_init__(self) -> None:
        # torch writes into the caller's dictionary, makes a folder that it never removes, and asks CUDA for its device
        # count in a way after which this process must not be forked.
        self.rdzv_configs = dict(self.rdzv_configs)
        if self.logs_specs is None:
            self.logs_specs = TemporaryLogs()
        if not self.rdzv_backend or isinstance(self.rdzv_backend, _ChosenBackend):
            one_node = self.max_nodes == 1 and not self.rdzv_endpoint
            self.rdzv_backend = _ChosenBackend(ON_ONE_NODE if one_node else "etcd")
        self._choose_timeout()
        if self.retry is not None:
            self.max_restarts = self.retry.max_restarts
        self._have_torch_fill_in()
        self._check()

    def _check(self) -> None:
        """Refuse what torch would take, and fail on later or pass over in silence."""
        for name in _SINCE_TORCH_2_10:
            if getattr(self, name) and name not in _KNOWN_TO_TORCH:
                what = f"{name}={getattr(self, name)!r}"
                raise ValueError(f"{what}: needs torch 2.10 or newer; {text_of('torch')} is installed")
        for name in self.signals_to_handle.split(","):
            if name.strip() and name.strip() not in signal.Signals.__members__:  # an empty text names none
                known_names = "SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and the others of `kill -l`"
                raise ValueError(f"signals_to_handle={self.signals_to_handle!r}: {name!r} must be one of {known_names}")
        if self.shutdown_timeout is not None and self.shutdown_timeout < 0:
            raise ValueError(f"shutdown_timeout={self.shutdown_timeout}: must be 0 or more (seconds)")
        if self.start_method not in START_METHODS:
            raise ValueError(f"start_method={self.start_method!r}: must be one of {', '.join(START_METHODS)}")
        known = event_handlers()
        if known and self.event_log_handler not in known:
            raise ValueError(f"event_log_handler={self.event_log_handler!r}: must be one of {', '.join(sorted(known))}")

    def _choose_timeout(self) -> None:
        """Have a timeout that is given hold for every backend; torch's dynamic ones know it by another name only."""
        if self.rdzv_timeout != -1:
            self.rdzv_configs["timeout"] = self.rdzv_timeout
        given = self.rdzv_configs.setdefault("timeout", _ChosenTimeout(_TORCHS_TIMEOUT))
        if isinstance(given, _ChosenTimeout):
            return
        if isinstance(self.rdzv_configs.get("join_timeout", _ChosenTimeout()), _ChosenTimeout):
            self.rdzv_configs["join_timeout"] = _ChosenTimeout(given)

    def _have_torch_fill_in(self) -> None:
        """Have torch choose what is not given; it asks CUDA only to choose `numa_options`."""
        asks_in_vain = self.numa_options is None and lacks_cuda_driver()
        if asks_in_vain:
            self.numa_options = _CHOSEN
        with environment(_NVML_CHECK, "1"):
            super().__post_init__()  # type: ignore[no-untyped-call]
        if asks_in_vain:
            self.numa_options = None


# torch's name for it, so its users' one.
class elastic_launch:  # noqa: N801
    """Launch an entry point under an elastic agent, and return each worker's value by global rank.

    Args:
        config: how; torch's `LaunchConfig` is taken as well.
        entrypoint: any callable, or a program.
        health_check_server: torch 2.13 and newer, see there.
    """

    def __init__(
        self,
        config: torch_api.LaunchConfig,
        entrypoint: Callable[..., Any] | str | None,
        health_check_server: Any = None,
    ) -> None:
        self._config = config
        self._entrypoint = entrypoint
        self._health_check_server = health_check_server

    def __call__(self, *args: Any) -> dict[int, Any]:
        """Run it; see `launch_agent`."""
        return launch_agent(self._config, self._entrypoint, list(args), health_check_server=self._health_check_server)


def launch_agent(
    config: torch_api.LaunchConfig,
    entrypoint: Callable[..., Any] | str | None,
    args: list[Any],
    health_check_server: Any = None,
) -> dict[int, Any]:
    """Run an elastic agent for one job in this process, until the job's workers on this node have ended.

    Args:
        config: how; it is not changed. torch's own is taken as well.
        entrypoint: any callable, or a program.
        args: its arguments; `${local_rank}` in strings is replaced.
        health_check_server: torch 2.13 and newer, see there.

    Returns:
        `{global rank: value}` of this node's workers; None as the value for a program.

    Raises:
        ChildFailedError: a worker failed and no restart was left. Its `__cause__` is the first worker's own exception.
        RendezvousGracefulExitError: the job runs without this node.
        SignalException: this process got one of `signals_to_handle`.
        FileNotFoundError, PermissionError: the program does not exist, or is none.
    """
    stop_if_executed_again()
    if entrypoint is None or not (callable(entrypoint) or isinstance(entrypoint, str)):
        raise ValueError(f"entrypoint={entrypoint!r}: must be a callable or the name of a program")
    config = _ours(config)
    if isinstance(entrypoint, str):
        check_program(entrypoint, config.worker_env.get("PATH"))
    check_open_files(config.nproc_per_node)
    logs_specs = for_one_launch(config.logs_specs or TemporaryLogs())
    shared = {f"object {number}": part for number, part in enumerate(objects_in((entrypoint, *args)))}
    timeout = 30.0 if config.shutdown_timeout is None else float(config.shutdown_timeout)
    keep_logs = False
    with (
        environment(_SIGNALS, config.signals_to_handle),
        handlers(config.signals_to_handle, _stop_once()),
        heard_while_logging(SignalException),
        open_server(config.start_method, shared, timeout, preload=PRELOAD) as server,
    ):
        logger.info("workers are started by a server %s", server.reason)
        prefix = "" if config.log_line_prefix_template == "" else None
        numa = config.numa or from_torch(config.numa_options)
        placer = Placer(numa, config.slot, config.gpus_per_worker, config.on_bindings)
        starter = Starter(
            server,
            config.start_method,
            timeout,
            line_prefix=prefix,
            worker_env=config.worker_env,
            watch=config.watch,
            placer=placer,
            stdin=config.stdin and (context.current().role is Role.agent or standard_input.is_ours()),
            checkpoint_timeout=config.checkpoint_timeout,
            keep_finished=config.keep_finished,
        )
        try:
            return _run(config, entrypoint, args, logs_specs, starter, health_check_server)
        except BaseException as error:
            _let_go_of_locals(error)
            if isinstance(error, ChildFailedError) and isinstance(logs_specs, TemporaryLogs):
                keep_logs = True
                weakref.finalize(error, logs_specs.remove)  # its error files are read as long as it is passed on
            raise
        finally:
            if isinstance(logs_specs, TemporaryLogs) and not keep_logs:
                logs_specs.remove()


def _run(
    config: LaunchConfig,
    entrypoint: Callable[..., Any] | str,
    args: list[Any],
    logs_specs: LogsSpecs,
    starter: Starter,
    health_check_server: Any,
) -> dict[int, Any]:
    starter.server.prepare(config.nproc_per_node)  # they are forked while this process prepares all the rest
    handler = rendezvous.create(config)
    spec = _spec(config, entrypoint, args, handler)
    agent = _agent(config, spec, logs_specs, starter, health_check_server)
    close_rendezvous = True
    try:
        metrics.initialize_metrics(metrics.MetricsConfig(config.metrics_cfg))
        result = _succeeded_or_failed(agent.run(), config)
        events.record(agent.get_event_succeeded(), config.event_log_handler)
        if result.is_failed():
            raise WorkersFailedError(_name(entrypoint, args), result.failures, agent.verdict)
        return result.return_values
    except ChildFailedError:
        close_rendezvous = not _is_tried_again(agent.verdict, config)
        raise
    except Exception as error:
        # It is this node that ends, not the job. A closed rendezvous would end it for nodes that can go on without this
        # one, or, after a signal, wait for another in its place.
        close_rendezvous = config.min_nodes == config.max_nodes and not isinstance(error, SignalException)
        agent.leave(_reason(error))
        events.record(agent.get_event_failed(), config.event_log_handler)
        raise
    finally:
        agent.close_peers()
        if close_rendezvous:
            handler.shutdown()
        else:
            handler.leave()


def _let_go_of_locals(error: BaseException | None) -> None:
    """Clear the local variables of the frames that a failed launch has left in its exception's traceback.

    Whoever keeps the exception, as a notebook does, would keep the rendezvous and its store alive with them, and the
    next launch at the same endpoint would get that store, where the rendezvous is closed and the node ranks are taken.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__


def _is_tried_again(verdict: Verdict | None, config: LaunchConfig) -> bool:
    """Whether all nodes may make a further attempt at a job, and meet again: only one of them was told to stop."""
    preempted = verdict is not None and verdict.failure.kind is Kind.preempted
    return preempted and config.retry is not None and config.retry.max_attempts > 1


def _reason(error: Exception) -> str:
    if isinstance(error, SignalException):
        return f"stopped by {error.sigval.name}"
    return f"{type(error).__name__}: {error}"


def _succeeded_or_failed(result: RunResult | None, config: LaunchConfig) -> RunResult:
    if result is None:
        raise RendezvousGracefulExitError(
            f"the job runs without this node: its rendezvous was complete with {config.max_nodes} nodes, or was closed"
        )
    return result


def _ours(config: torch_api.LaunchConfig) -> LaunchConfig:
    if isinstance(config, LaunchConfig):
        return config
    given = {f.name: getattr(config, f.name) for f in fields(config) if f.init}
    if config.rdzv_timeout == -1 and config.rdzv_configs.get("timeout") == _TORCHS_TIMEOUT:
        given["rdzv_configs"] = {key: value for key, value in config.rdzv_configs.items() if key != "timeout"}
    return LaunchConfig(**given)


def _stop_once() -> Callable[[int, FrameType | None], None]:
    """Make a signal handler that ends the job; the same signal again changes nothing, except for Ctrl-C."""
    had: set[int] = set()

    def stop(number: int, _: FrameType | None) -> None:
        if number in had and number != signal.SIGINT:
            return
        had.add(number)
        raise SignalException(f"process {os.getpid()} got {signal.Signals(number).name}", signal.Signals(number))

    return stop


class _Spec(WorkerSpec):
    def get_entrypoint_name(self) -> str:
        return _name(self.entrypoint, list(self.args))


def _spec(config: LaunchConfig, entrypoint: Callable[..., Any] | str, args: list[Any], handler: Any) -> WorkerSpec:
    values = {
        "role": config.role,
        "local_world_size": config.nproc_per_node,
        "entrypoint": entrypoint,
        "args": tuple(args),
        "rdzv_handler": handler,
        "max_restarts": config.max_restarts,
        "monitor_interval": config.monitor_interval,
        "local_addr": config.local_addr,
        "event_log_handler": config.event_log_handler,
    }
    same_name = ("numa_options", "duplicate_stdout_filters", "duplicate_stderr_filters", "virtual_local_rank")
    values |= for_fields_of(WorkerSpec, {name: getattr(config, name) for name in same_name})
    return _Spec(**values)


def _agent(
    config: LaunchConfig, spec: WorkerSpec, logs_specs: LogsSpecs, starter: Starter, health_check_server: Any
) -> ElasticAgent:
    optional = {"shutdown_timeout": int(starter.shutdown_timeout), "health_check_server": health_check_server}
    if health_check_server is not None and "health_check_server" not in AGENT_OPTIONS:
        raise ValueError("health_check_server needs torch 2.13 or newer")
    return ElasticAgent(
        spec=spec,
        logs_specs=logs_specs,
        starter=starter,
        retry=config.retry,
        history=config.history,
        elapsed=config.elapsed,
        on_verdict=config.on_verdict,
        exit_barrier_timeout=config.exit_barrier_timeout,
        log_line_prefix_template=config.log_line_prefix_template,
        **{name: value for name, value in optional.items() if name in AGENT_OPTIONS},
    )


def _name(entrypoint: Callable[..., Any] | str | None, args: list[Any]) -> str:
    """Name an entry point for people: the function, the program, or the script that Python runs."""
    if isinstance(entrypoint, str):
        if entrypoint == sys.executable:
            return next((str(arg) for arg in args if not str(arg).startswith("-")), "")
        return entrypoint
    name = getattr(entrypoint, "__qualname__", None) or getattr(entrypoint, "__name__", None)
    inner = getattr(entrypoint, "func", None)  # a partial
    return str(name) if name else _name(inner, args) if callable(inner) else type(entrypoint).__qualname__
