"""The command: run benchmarks, print their tables, and write all values as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
from pathlib import Path

from tests.benchmarks import harness, report

BENCHMARKS = {
    "groups": "one group of two gloo workers, start to end, against a bare fork and torch's elastic_launch",
    "sweeps": "sweeps of 8 x 2, 8 x 1 and 32 x 1 trivial jobs, against torchrun in a loop and other launchers",
    "deaths": "a killed worker: until the agent knows, and until the group runs again",
    "slots": "jobs side by side: how much faster a sweep gets",
    "bound": "thread counts and bindings: a training step",
    "workers": "groups of 1 to 64 workers",
    "memory": "what a worker takes, forked and spawned",
    "length": "a sweep of hundreds of jobs: what grows",
    "shortcuts": "what each shortcut through Hydra gains",
    "unused": "what the plugin adds to a Hydra app that does not use it",
    "idle": "CPU of an agent whose workers run",
    "hosts": "processes and jobs on another host, against those at home",
    "slurm": "two hosts of two slots on a Slurm cluster against one slot, beside submitit's launcher",
    "many_hosts": "a launcher with a hundred hosts: its decisions, and its signs of life",
    "status": "looking at a sweep of ten jobs, and of ten thousand",
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure what launching costs. All values are of this machine; trust the ratios.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="benchmarks:\n" + "\n".join(f"  {name:9} {what}" for name, what in BENCHMARKS.items()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; none: all")
    parser.add_argument("--rounds", type=int, help="how often each way is measured; default: enough for each benchmark")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values there")
    options = parser.parse_args()
    if unknown := set(options.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")

    harness.adopt_orphans()
    about = report.machine()
    print(report.describe(about), flush=True)
    tables = []
    for name in options.names or BENCHMARKS:
        harness.progress(f"{name}: {BENCHMARKS[name]}")
        module = importlib.import_module(f"tests.benchmarks.{name}")
        busy, own = _busy(), _own()
        found = module.run(options.rounds)
        elapsed_busy = _busy() - busy
        for table in found:
            table.others = max(0.0, elapsed_busy[0] - (_own() - own)) / elapsed_busy[1]
            print(table.text(), flush=True)
            tables.append(table.json())
        if options.json is not None:
            options.json.write_text(json.dumps({"machine": about, "tables": tables}, indent=1) + "\n")


class _Ticks(tuple[float, float]):
    """CPU seconds that were used, and that there were."""

    def __sub__(self, other: tuple[float, float]) -> tuple[float, float]:
        return self[0] - other[0], self[1] - other[1]


def _busy() -> _Ticks:
    """Return the CPU seconds that all processes together have used since the machine's start, and all there were."""
    with open("/proc/stat") as file:
        values = [int(word) / os.sysconf("SC_CLK_TCK") for word in file.readline().split()[1:9]]
    return _Ticks((sum(values) - values[3] - values[4], sum(values)))


def _own() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
