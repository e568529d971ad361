"""From what a job's configuration says, checked, to what its elastic agent is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from elastic_hydra.elastic.logs import JobLogs, std
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.launcher.api import LaunchConfig
from elastic_hydra.numa.binding import Binding
from elastic_hydra.sweep.console import line_prefix
from elastic_hydra.sweep.job import Attempt

__all__ = ["launch_config"]


def launch_config(
    attempt: Attempt, *, on_verdict: Callable[[Verdict], None], on_bindings: Callable[[Sequence[Binding]], None]
) -> LaunchConfig:
    """Turn a checked job into the configuration of its agent.

    Args:
        attempt: at a job that was composed and checked.
        on_verdict: called when it is decided what follows a failure, before anything does.
        on_bindings: called with the places of the workers before each start of them.
    """
    job = attempt.job
    launch = job.launch
    worker_env = {}
    if launch.omp_num_threads is not None:
        worker_env["OMP_NUM_THREADS"] = str(launch.omp_num_threads)
    ranks = launch.keys.logs.local_ranks_filter
    return LaunchConfig(
        min_nodes=launch.nodes.least,
        max_nodes=launch.nodes.most,
        nproc_per_node=launch.nproc_per_node,
        logs_specs=JobLogs(job.log_dir, std(launch.redirects), std(launch.tee), None if ranks is None else set(ranks)),
        run_id=job.run_id,
        role=launch.keys.role,
        rdzv_endpoint=launch.rendezvous.endpoint,
        rdzv_backend=launch.rendezvous.backend,
        rdzv_configs=launch.rendezvous.configs,
        retry=launch.keys.retry,
        watch=launch.keys.watch,
        history=attempt.restarts,
        elapsed=attempt.age(time.monotonic()),
        on_verdict=on_verdict,
        monitor_interval=launch.keys.monitor_interval,
        start_method=launch.keys.start_method,
        log_line_prefix_template=line_prefix(launch.line_prefix, attempt.label),
        local_addr=launch.keys.rendezvous.local_addr,
        event_log_handler=launch.keys.event_log_handler,
        exit_barrier_timeout=launch.keys.exit_barrier_timeout,
        signals_to_handle=",".join(launch.keys.signals_to_handle),
        checkpoint_timeout=launch.keys.checkpoint_timeout,
        keep_finished=False,  # as under torchrun: a rank that waits for one that has ended gets its error at once
        shutdown_timeout=launch.keys.shutdown_timeout,
        worker_env=worker_env,
        numa=launch.keys.numa,
        slot=attempt.allowance,
        stdin=attempt.stdin,
        gpus_per_worker=launch.gpus_per_worker,
        on_bindings=on_bindings,
        **launch.torch_options,
    )
