"""What manifests for Kubernetes have in common: one pod per node, in which a launcher runs."""

from __future__ import annotations

import os
import re
from typing import Any

import yaml

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.render.plan import Plan
from elastic_hydra.render.site import Site

__all__ = [
    "OPTIONS",
    "REPLICATED_JOB",
    "check",
    "command",
    "manifest",
    "metadata",
    "name_of",
    "needed",
    "resources",
    "volumes",
]

OPTIONS = ("name", "gpus_per_node", "cpus_per_task", "mem", "image", "pvc", "mount_path", "namespace", "queue")
"""What all manifests have a place for."""
REPLICATED_JOB = "node"
"""Name of the pods of a launch, as Kubeflow Trainer has it; its containers have the same one."""
_PORT = 29500
"""Where nodes meet. Each pod has a network of its own."""
_HEAD = """\
# Written by `elastic-hydra plan --render {kind}`, and not tried on a cluster: read it before you create it.
# It names the directory that it writes to: when it is created again, it runs what has not finished there.
"""
_MOUNT_PATH = "/sweeps"
_QUEUE = "kueue.x-k8s.io/queue-name"
_GPU = "nvidia.com/gpu"
_LONGEST_COMMAND = 128
"""Words of a command that the custom resources allow."""
_LONGEST_NAME = 40
"""Of a label in DNS, 63 characters, to which JobSet appends names and numbers of pods."""


def needed(plan: Plan) -> dict[str, str]:
    """Return the fields that must be known, and what they are."""
    return {
        "gpus_per_node": f"{plan.workers or 'N'}, or 0: none",
        "image": "a container image that has the app and elastic-hydra",
        "pvc": "the volume claim that keeps the sweep's directory; without one it is gone when a pod ends",
    }


def check(plan: Plan, site: Site) -> None:
    """Refuse what no manifest can say.

    Raises:
        ConfigError: with what to do.
    """
    least, most = plan.nodes
    if least < most:
        raise ConfigError(
            f"{plan.command.key('nodes')}={least}:{most}: the pods of a manifest have a fixed number: set one number"
        )
    name = site.name or ""
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"--name {name}: must have small letters, digits and hyphens, begin with a letter, and be at most "
            f"{_LONGEST_NAME} characters long"
        )


def name_of(name: str) -> str:
    """Return a name that Kubernetes allows: `my-train` for `My_Train`."""
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (found if found[:1].isalpha() else f"run-{found}")[:_LONGEST_NAME].strip("-")


def metadata(site: Site) -> dict[str, Any]:
    """Return name, namespace and queue."""
    said: dict[str, Any] = {"name": site.name}
    if site.namespace is not None:
        said["namespace"] = site.namespace
    if site.queue is not None:
        said["labels"] = {_QUEUE: site.queue}
    return said


def command(plan: Plan, site: Site) -> list[str]:
    """Return the command of a pod's container.

    Raises:
        ConfigError: it cannot be said.
    """
    further = [] if plan.nodes.most == 1 or plan.has_endpoint else _rendezvous(plan, site)
    mounted = site.mount_path or _MOUNT_PATH
    folder = os.path.normpath(os.path.join(mounted, plan.folder))
    if os.path.commonpath([mounted, folder]) != mounted:
        raise ConfigError(
            f"{plan.folder}: is not below {mounted}, where the volume is: set another one, or --mount-path"
        )
    words = plan.words(further, here=False, folder=folder)
    if len(words) > _LONGEST_COMMAND:
        raise ConfigError(
            f"the command has {len(words)} words, and a manifest at most {_LONGEST_COMMAND}: put overrides into a file"
        )
    return [_escaped(word) for word in words]


def resources(site: Site) -> dict[str, Any]:
    """Return what a pod takes of its node."""
    requests = {}
    if site.cpus_per_task:
        requests["cpu"] = str(site.cpus_per_task)
    if site.mem:
        requests["memory"] = f"{site.mem}i"  # where Slurm has G, Kubernetes has Gi
    limits = {_GPU: str(site.gpus_per_node)} if site.gpus_per_node else {}
    return {name: amounts for name, amounts in (("requests", requests), ("limits", limits)) if amounts}


def volumes(site: Site) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes of a pod, and where its container has them.

    `/dev/shm` of a container has 64 MB otherwise, too little for what loads data.
    """
    return (
        [
            {"name": "sweeps", "persistentVolumeClaim": {"claimName": site.pvc}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
        [
            {"name": "sweeps", "mountPath": site.mount_path or _MOUNT_PATH},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    )


def manifest(kind: str, content: dict[str, Any]) -> str:
    """Write a manifest.

    Args:
        kind: as `--render` has it.
        content: of the manifest.
    """
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    return _HEAD.format(kind=kind) + text


def _rendezvous(plan: Plan, site: Site) -> list[str]:
    """Return the overrides with which the pods meet at the first one, by its name and their numbers."""
    pod = f"{site.name}-{REPLICATED_JOB}-0-0.{site.name}"
    return [
        f"{plan.command.group('rendezvous')}=static",
        f"{plan.command.key('rendezvous.endpoint')}={pod}:{_PORT}",
        f"{plan.command.key('rendezvous.node_rank')}=${{oc.env:JOB_COMPLETION_INDEX}}",
        f"{plan.command.key('rendezvous.id')}={site.name}",  # it would come from the settings, which differ by the rank
    ]


def _escaped(word: str) -> str:
    """Write a word so that Kubernetes makes no variable of it: it takes `$(NAME)` for one, and `$$` for `$`."""
    return re.sub(r"\$(?=[$(])", "$$", word)
