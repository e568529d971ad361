"""Runs one job by the Python interface: `launch.py ENDPOINT NODES script|function KEY=VALUE…`, pairs for rendezvous."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import app

from elastic_hydra.launcher.api import LaunchConfig, elastic_launch


def main(endpoint: str, nodes: str, kind: str, *pairs: str) -> None:
    """Launch the training of `app.py`."""
    low, _, high = nodes.partition(":")
    configs: dict[str, Any] = dict(pair.split("=") for pair in pairs)
    backend = configs.pop("backend", "c10d")
    restarts = int(configs.pop("max_restarts", 0))
    config = LaunchConfig(
        min_nodes=int(low),
        max_nodes=int(high or low),
        nproc_per_node=1,
        run_id="job",
        rdzv_backend=backend,
        rdzv_endpoint=endpoint,
        rdzv_configs=configs,
        max_restarts=restarts,
        monitor_interval=0.1,
    )
    with open(os.environ["NODES_EVENTS"], "a") as file:
        line = {"event": "agent", "pid": os.getpid(), "at": time.time(), "host": os.environ["NODES_HOST"]}
        file.write(json.dumps(line) + "\n")
    if kind == "script":
        result = elastic_launch(config, sys.executable)(app.__file__, "train")
    else:
        result = elastic_launch(config, app.train)(100_000, 0.05)
    print("result", result)


if __name__ == "__main__":
    main(*sys.argv[1:])
