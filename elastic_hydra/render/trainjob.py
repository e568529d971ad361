"""A TrainJob of Kubeflow Trainer: what a runtime of the cluster does not say, which an administrator has made."""

from __future__ import annotations

from typing import Any

from elastic_hydra.render import pod
from elastic_hydra.render.plan import Plan
from elastic_hydra.render.site import Site

__all__ = ["OPTIONS", "trainjob"]

OPTIONS = (*pod.OPTIONS, "runtime")
_RUNTIME = "torch-distributed"
"""The runtime for torch that Kubeflow Trainer itself brings."""
_MANAGER = "elastic-hydra"


def trainjob(plan: Plan, site: Site) -> str:
    """Write the manifest.

    Args:
        plan: what is launched.
        site: where, with all that a pod needs.

    Raises:
        ConfigError: it cannot be said in one.
    """
    pod.check(plan, site)
    trainer: dict[str, Any] = {
        "image": site.image,
        "command": pod.command(plan, site),
        "numNodes": plan.nodes.most,
        "resourcesPerNode": pod.resources(site),
    }
    if plan.workers is not None:
        trainer["numProcPerNode"] = plan.workers
    content = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": pod.metadata(site),
        "spec": {
            "runtimeRef": {"name": site.runtime or _RUNTIME},
            "trainer": trainer,
            "runtimePatches": [{"manager": _MANAGER, "trainingRuntimeSpec": _patch(plan, site)}],
        },
    }
    return pod.manifest("trainjob", content)


def _patch(plan: Plan, site: Site) -> dict[str, Any]:
    """Return what the pods need beyond what a TrainJob says of its trainer."""
    volumes, mounts = pod.volumes(site)
    spec = {
        "terminationGracePeriodSeconds": plan.seconds_to_end,
        "volumes": volumes,
        "containers": [{"name": pod.REPLICATED_JOB, "volumeMounts": mounts}],
    }
    pods = {"name": pod.REPLICATED_JOB, "template": {"spec": {"template": {"spec": spec}}}}
    return {"template": {"spec": {"replicatedJobs": [pods]}}}
