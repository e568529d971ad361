"""A JobSet of Kubernetes: one pod per node, which JobSet starts again together when one is lost."""

from __future__ import annotations

from elastic_hydra.render import pod
from elastic_hydra.render.plan import Plan
from elastic_hydra.render.site import Site

__all__ = ["OPTIONS", "jobset"]

OPTIONS = pod.OPTIONS
_MOST_RESTARTS = 100
"""How often pods may be lost; the journal keeps what they have finished."""
_OWN_FAILURE = [1, 2]
"""Exit codes of a launcher whose jobs have failed, or whose settings are refused: the same would come again."""


def jobset(plan: Plan, site: Site) -> str:
    """Write the manifest.

    Args:
        plan: what is launched.
        site: where, with all that a pod needs.

    Raises:
        ConfigError: it cannot be said in one.
    """
    pod.check(plan, site)
    volumes, mounts = pod.volumes(site)
    container = {
        "name": pod.REPLICATED_JOB,
        "image": site.image,
        "command": pod.command(plan, site),
        "resources": pod.resources(site),
        "volumeMounts": mounts,
    }
    template = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": plan.seconds_to_end,
        "containers": [container],
        "volumes": volumes,
    }
    job = {
        "parallelism": plan.nodes.most,
        "completions": plan.nodes.most,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": _OWN_FAILURE}},
            ]
        },
        "template": {"spec": template},
    }
    own_failure = {"name": "ownFailure", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    spec = {
        # A headless service, by which the pods find each other: NAME-node-0-0.NAME is the first.
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": _MOST_RESTARTS, "rules": [own_failure]},
        "replicatedJobs": [{"name": pod.REPLICATED_JOB, "replicas": 1, "template": {"spec": job}}],
    }
    content = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": pod.metadata(site),
        "spec": spec,
    }
    return pod.manifest("jobset", content)
