"""One agent from its rendezvous to its end: made from a `LaunchConfig`, run, and taken leave of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.distributed.elastic import events, metrics
from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec
from torch.distributed.elastic.multiprocessing import LogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousGracefulExitError

from elastic_hydra.compat.torch import AGENT_OPTIONS, for_fields_of
from elastic_hydra.compat.versions import lack_of_torch, version_of
from elastic_hydra.config.words import Kind
from elastic_hydra.elastic import rendezvous
from elastic_hydra.elastic.agent import ElasticAgent
from elastic_hydra.elastic.entrypoint import name_of
from elastic_hydra.elastic.launch_config import LaunchConfig
from elastic_hydra.elastic.starter import Starter
from elastic_hydra.elastic.worker_failure import WorkersFailedError
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.supervisor.signal_queue import interruptibly

__all__ = ["run_agent"]


def run_agent(
    config: LaunchConfig,
    entrypoint: Callable[..., Any] | str,
    args: list[Any],
    logs_specs: LogsSpecs,
    starter: Starter,
    health_check_server: Any,
) -> dict[int, Any]:
    """Run an agent in this process until the job's workers on this node have ended.

    Args:
        config: how.
        entrypoint: any callable, or a program.
        args: its arguments.
        logs_specs: where the workers of this launch write.
        starter: how they are started.
        health_check_server: torch 2.13 and newer, see there.

    Returns:
        `{global rank: value}` of this node's workers.

    Raises:
        WorkersFailedError: a worker failed and no restart was left.
        RendezvousGracefulExitError: the job runs without this node.
    """
    starter.server.prepare(config.nproc_per_node)  # they are forked while this process prepares all the rest
    handler = interruptibly(rendezvous.create, config)
    spec = _spec(config, entrypoint, args, handler)
    agent = _agent(config, spec, logs_specs, starter, health_check_server)
    close_rendezvous = True
    try:
        metrics.initialize_metrics(metrics.MetricsConfig(config.metrics_cfg))
        result = _succeeded_or_failed(agent.run(), config)
        events.record(agent.get_event_succeeded(), config.event_log_handler)
        if result.is_failed():
            raise WorkersFailedError(name_of(entrypoint, args), result.failures, agent.verdict)
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


class _Spec(WorkerSpec):
    def get_entrypoint_name(self) -> str:
        return name_of(self.entrypoint, list(self.args))


def _spec(config: LaunchConfig, entrypoint: Callable[..., Any] | str, args: list[Any], handler: Any) -> WorkerSpec:
    values = {
        "local_world_size": config.nproc_per_node,
        "entrypoint": entrypoint,
        "args": tuple(args),
        "rdzv_handler": handler,
    }
    return _Spec(**for_fields_of(WorkerSpec, vars(config)) | values)


def _agent(
    config: LaunchConfig, spec: WorkerSpec, logs_specs: LogsSpecs, starter: Starter, health_check_server: Any
) -> ElasticAgent:
    optional = {"shutdown_timeout": config.shutdown_timeout, "health_check_server": health_check_server}
    if health_check_server is not None and (lack := lack_of_torch("health_check_server", version_of("torch"))):
        raise ValueError(f"health_check_server {lack}")
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
