"""A batch script for Slurm, in whose place the launcher runs, which goes back into the queue when its time is over."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from elastic_hydra.render.plan import Plan
from elastic_hydra.render.site import Site

__all__ = ["OPTIONS", "needed", "sbatch"]

OPTIONS = (
    "name",
    "gpus_per_node",
    "cpus_per_task",
    "mem",
    "time",
    "partition",
    "account",
    "qos",
    "constraint",
    "setup",
)
"""What the script has a place for."""
_HEAD = """\
#!/bin/bash
# Written by `elastic-hydra plan --render sbatch`, and not tried on your cluster: read it before you submit it.
# It names the directory that it writes to: when it is submitted again, it runs what has not finished there."""
_LEFT_BEHIND = (
    "SLURM_EXPORT_ENV",
    "SLURM_LABELIO",
    "SLURM_STDINMODE",
    "SLURM_STDOUTMODE",
    "SLURM_UNBUFFEREDIO",
    "SLURM_EXCLUSIVE",
    "SLURM_PROLOG",
    "SLURM_GPUS",
    "SLURM_GPUS_PER_TASK",
    "SLURM_TRES_PER_TASK",
    "SLURM_CPUS_PER_TASK",
    "SRUN_CPUS_PER_TASK",
)
"""Variables of a shell, or of a job around it, that change what `srun` does, and that no option of its overrides."""
_BEFORE_SRUN = f"""
# What srun would take over from a shell or from the job, and what would give the step less than all of its nodes.
unset {" ".join(_LEFT_BEHIND)}"""
_SRUN = ("srun", "--ntasks-per-node=1", "--overlap", "--export=ALL", "--cpu-bind=none", "--mem=0", "--mpi=none")


def needed(plan: Plan) -> dict[str, str]:
    """Return the fields that must be known, and what they are."""
    return {
        "gpus_per_node": f"{plan.workers or 'N'}, or 0: none",
        "cpus_per_task": "hardware threads of each node; Slurm may give 1 otherwise",
    }


def sbatch(plan: Plan, site: Site) -> str:
    """Write the script.

    Args:
        plan: what is launched.
        site: where, with all that is `needed`.
    """
    parts = [_HEAD, *_directives(plan, site), "", "set -e", f"cd {shlex.quote(plan.cwd)}", *site.setup]
    further = [] if plan.has_requeue else [f"{plan.command.key('requeue')}=auto"]
    if plan.nodes.most == 1:
        return "\n".join([*parts, "", _continued(["exec", *plan.words(further)]), ""])
    if not plan.has_endpoint:  # srun tells each launcher which node it is, and where the first one is
        further.insert(0, f"{plan.command.group('rendezvous')}=environment")
    return "\n".join([*parts, _BEFORE_SRUN, "", _continued(["exec", *_srun(plan, site), *plan.words(further)]), ""])


def _directives(plan: Plan, site: Site) -> list[str]:
    least, most = plan.nodes
    told = plan.checkpoint_timeout + plan.seconds_to_end
    said = {
        "job-name": site.name,
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "nodes": str(least) if least == most else f"{least}-{most}",
        "ntasks-per-node": "1",
        "cpus-per-task": str(site.cpus_per_task),
        "gpus-per-node": str(site.gpus_per_node) if site.gpus_per_node else None,
        "mem": site.mem,
        "time": site.time,
        "signal": f"B:USR1@{told}",
        "open-mode": "append",
    }
    goes_back = not plan.has_requeue or plan.requeue == "auto"
    flags = ["--requeue" if goes_back else "--no-requeue", *(["--no-kill"] if least < most else [])]
    return [f"#SBATCH --{name}={value}" for name, value in said.items() if value] + [
        f"#SBATCH {flag}" for flag in flags
    ]


def _srun(plan: Plan, site: Site) -> list[str]:
    """Return what starts one launcher on each node, and lets the others go on when one ends."""
    words = [*_SRUN, "--kill-on-bad-exit=0", "--wait=0"]
    words += [f"--gpus-per-node={site.gpus_per_node}"] if site.gpus_per_node else []
    return words + (["--no-kill"] if plan.nodes.least < plan.nodes.most else [])


def _continued(words: Sequence[str]) -> str:
    """Write a command, a word on each line."""
    return " \\\n    ".join(map(shlex.quote, words))
