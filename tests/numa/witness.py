"""What the kernel says of a worker: run by the worker, as its first act, as a function or as a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHILD = "import sys; print(open('/proc/self/status').read())"


def testify() -> dict[str, Any]:
    """Compute, and return the CPUs of all threads and of a child, the memory policy, and thread counts."""
    import torch

    matrix = torch.ones(512, 512)
    assert float((matrix @ matrix).sum()) > 0
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "pid": os.getpid(),
        "masks": sorted({_cpus(path.read_text()) for path in Path("/proc/self/task").glob("*/status")}),
        "child": _cpus(child),
        "policy": Path("/proc/self/numa_maps").read_text().split()[1],
        "threads": torch.get_num_threads(),
        "environ": [os.environ.get(name) for name in names],
    }


def _cpus(status: str) -> str:
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list:"))


if __name__ == "__main__":
    Path(sys.argv[1], f"{os.environ['LOCAL_RANK']}.json").write_text(json.dumps(testify()))
