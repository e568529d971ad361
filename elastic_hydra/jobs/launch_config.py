"""From what a job's configuration says, checked, to what its elastic agent is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from elastic_hydra.compat.torch import for_fields_of
from elastic_hydra.config.debug import rank_of
from elastic_hydra.elastic.debugging import Debug
from elastic_hydra.elastic.launch_config import LaunchConfig
from elastic_hydra.elastic.logs import JobLogs, std
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.jobs.console import line_prefix
from elastic_hydra.jobs.job import Attempt
from elastic_hydra.numa.binding import Binding
from elastic_hydra.watch.stacks import Written

__all__ = ["launch_config"]


def launch_config(
    attempt: Attempt,
    *,
    on_programs: Callable[[], None],
    on_verdict: Callable[[Verdict], None],
    on_bindings: Callable[[Sequence[Binding]], None],
    on_stacks: Callable[[Mapping[int, Written]], None],
) -> LaunchConfig:
    """Turn a checked job into the configuration of its agent; keys that both know by one name pass as they are.

    Args:
        attempt: at a job that was composed and checked.
        on_programs: called when all workers run, if they run a program.
        on_verdict: called when it is decided what follows a failure, before anything does.
        on_bindings: called with the places of the workers before each start of them.
        on_stacks: called with what the workers have written when somebody has asked for their stacks.
    """
    job = attempt.job
    launch, keys = job.launch, job.launch.keys
    threads = launch.omp_num_threads
    ranks = keys.logs.local_ranks_filter
    debugged = rank_of(keys.debug)
    filtered = None if ranks is None else {*ranks, *([] if debugged is None else [debugged])}
    same_names = for_fields_of(LaunchConfig, vars(keys))
    node, run_id, meeting = attempt.node, job.run_id, launch.rendezvous
    if node is not None:
        run_id = node.run_id
        meeting = replace(
            meeting, endpoint=node.endpoint, configs={**meeting.configs, "rank": node.rank, "is_host": False}
        )
    computed = {
        "min_nodes": launch.nodes.least,
        "max_nodes": launch.nodes.most,
        "nproc_per_node": launch.nproc_per_node,
        "rdzv_backend": meeting.backend,
        "rdzv_endpoint": meeting.endpoint,
        "rdzv_configs": meeting.configs,
        "local_addr": keys.rendezvous.local_addr,
        "logs_specs": JobLogs(
            job.log_dir,
            std(launch.redirects),
            std(launch.tee),
            filtered,
            first_restart=None if node is None else node.first_restart,
        ),
        "log_line_prefix_template": line_prefix(launch.line_prefix, attempt.label),
        "duplicate_stdout_filters": keys.logs.duplicate_stdout_filters,
        "duplicate_stderr_filters": keys.logs.duplicate_stderr_filters,
        "signals_to_handle": ",".join(keys.signals_to_handle),
        "worker_env": {} if threads is None else {"OMP_NUM_THREADS": str(threads)},
        "debug": None if keys.debug is None else Debug(debugged, attempt.terminal, attempt.foreground),
        "gpus_per_worker": launch.gpus_per_worker,
        "keep_finished": False,  # as under torchrun: who waits for a rank that has ended learns of it at once
    }
    of_the_job = {
        "run_id": run_id,
        "history": attempt.restarts,
        "elapsed": attempt.age(time.monotonic()),
        "slot": attempt.allowance,
        "stdin": attempt.stdin,
    }
    told = {"on_programs": on_programs, "on_verdict": on_verdict, "on_bindings": on_bindings, "on_stacks": on_stacks}
    return LaunchConfig(**same_names | computed | of_the_job | told)
