"""The agent of a node other than the first one: a job has one directory, one log and one set of callbacks."""

from __future__ import annotations

import copy

from omegaconf import DictConfig, open_dict, read_write

from elastic_hydra.compat.hydra import hydra_config
from elastic_hydra.jobs.job import Job
from elastic_hydra.jobs.log_files import append_only, for_node

__all__ = ["for_other_node"]


def for_other_node(job: Job, rank: int) -> DictConfig:
    """Return a job's configuration for Hydra's `run_job` in the agent of a node other than the first one.

    It writes no `.hydra`, logs into a file of its own, and says little on the console, where the first node's agent
    says the same.

    Args:
        job: the job. Its workers on this node append to log files that the first node's agent has truncated.
        rank: of the node.
    """
    append_only(job.config)
    config = copy.deepcopy(job.config)
    logging = config.hydra.job_logging
    if logging is not None:
        with hydra_config(config):
            logging = for_node(logging, rank, job.launch.keys.logs.other_ranks_level, str(job.output_dir))
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.output_subdir, config.hydra.job_logging = None, logging
    return config
