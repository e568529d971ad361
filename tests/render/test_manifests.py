"""Manifests are what the published schemas of JobSet and TrainJob say, and their commands arrive as they are."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.nodes import Nodes
from elastic_hydra.render import pod
from elastic_hydra.render.command import Command
from elastic_hydra.render.jobset import jobset
from elastic_hydra.render.plan import Plan
from elastic_hydra.render.site import Site
from elastic_hydra.render.trainjob import trainjob
from tests.render.plans import NASTY, SITE, plan, recorded, words_by_chance

IN_PODS = replace(SITE, image="registry/train:1", pvc="data", mem="64G", namespace="team", queue="gpus")
CLI = "import sys; from elastic_hydra.cli.main import main; sys.exit(main())"
RUN = ("elastic-hydra", "run", "nodes=2", "nproc_per_node=1", "--", "train.py")
WRITERS: Sequence[Callable[[Plan, Site], str]] = (jobset, trainjob)


def of_pods(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of the pods of a JobSet."""
    spec: dict[str, Any] = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    return spec


def known_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what the published schema knows of a manifest; what is of a wrong type, or missing, is refused."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    schemas = {"JobSet": models.JobsetV1alpha2JobSet, "TrainJob": models.TrainerV1alpha1TrainJob}
    known: dict[str, Any] = schemas[manifest["kind"]].from_dict(manifest).to_dict()
    return known


def command_of(text: str) -> list[str]:
    """Return the command of the container, as it stands in a manifest."""
    manifest = yaml.safe_load(text)
    if manifest["kind"] == "TrainJob":
        command: list[str] = manifest["spec"]["trainer"]["command"]
    else:
        command = of_pods(manifest)["template"]["spec"]["containers"][0]["command"]
    return command


def expanded(word: str, variables: dict[str, str]) -> str:
    """Return a word of a command as a kubelet starts it: `$(NAME)` is a variable if there is one, `$$` is `$`."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, word)


@pytest.mark.parametrize("nodes", [Nodes(), Nodes(4, 4)], ids=["one node", "four nodes"])
@pytest.mark.parametrize("site", [IN_PODS, replace(SITE, image="i", pvc="p", gpus_per_node=0)], ids=["all", "least"])
@pytest.mark.parametrize("write", WRITERS)
def test_a_manifest_is_what_the_published_schema_says(
    tmp_path: Path, write: Callable[[Plan, Site], str], site: Site, nodes: Nodes
) -> None:
    manifest = yaml.safe_load(write(plan(tmp_path, NASTY, nodes), site))
    assert known_of(manifest) == manifest


def test_the_schemas_know_a_mistake() -> None:
    misspelt = {"kind": "JobSet", "spec": {"network": {"enableDNSHostname": True}}}
    assert known_of(misspelt)["spec"] == {"network": {}}
    with pytest.raises(ValueError, match="enableDNSHostnames"):
        known_of({"kind": "JobSet", "spec": {"network": {"enableDNSHostnames": "yes"}}})
    with pytest.raises(ValueError, match="runtimeRef"):
        known_of({"kind": "TrainJob", "spec": {"trainer": {}}})


@pytest.mark.system
@pytest.mark.parametrize("write", WRITERS)
def test_every_argument_arrives_as_it_is(tmp_path: Path, write: Callable[[Plan, Site], str]) -> None:
    for words in ([*NASTY], *words_by_chance()):
        command = command_of(write(plan(tmp_path, words), IN_PODS))
        subprocess.run(
            [expanded(word, {"HOME": "spoilt", "id": "spoilt"}) for word in command], cwd=tmp_path, check=True
        )
        given = recorded(tmp_path)
        assert given[given.index("--") :] == ["--", "train.py", *words]


@pytest.mark.parametrize("write", WRITERS)
def test_pods_meet_at_the_first_one_and_write_to_the_volume(tmp_path: Path, write: Callable[[Plan, Site], str]) -> None:
    text = write(plan(tmp_path, nodes=Nodes(4, 4)), IN_PODS)
    assert "not tried on a cluster" in text.splitlines()[0]
    settings = command_of(text)[1:]
    assert settings[: settings.index("--")] == [
        "run",
        "nodes=2",
        "rendezvous=static",
        "rendezvous.endpoint=train-node-0-0.train:29500",
        "rendezvous.node_rank=${oc.env:JOB_COMPLETION_INDEX}",
        "rendezvous.id=train",
        "hydra.run.dir=/sweeps/outputs/now",
        "hydra.launcher.resume=true",
    ]
    assert yaml.safe_load(text)["metadata"] == {
        "name": "train",
        "namespace": "team",
        "labels": {"kueue.x-k8s.io/queue-name": "gpus"},
    }


def test_a_jobset_has_a_pod_for_each_node_and_ends_when_the_sweep_itself_has_failed(tmp_path: Path) -> None:
    manifest = yaml.safe_load(jobset(plan(tmp_path, nodes=Nodes(4, 4)), IN_PODS))
    job = of_pods(manifest)
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (4, 4, "Indexed")
    assert job["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [1, 2]
    assert manifest["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    assert manifest["spec"]["network"]["publishNotReadyAddresses"]
    pods = job["template"]["spec"]
    assert pods["terminationGracePeriodSeconds"] == 48
    (container,) = pods["containers"]
    assert container["resources"] == {"requests": {"cpu": "8", "memory": "64Gi"}, "limits": {"nvidia.com/gpu": "2"}}
    assert {volume["name"] for volume in pods["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


def test_a_trainjob_says_how_many_nodes_and_workers_its_runtime_starts(tmp_path: Path) -> None:
    spec = yaml.safe_load(trainjob(plan(tmp_path, nodes=Nodes(4, 4)), replace(IN_PODS, runtime="ours")))["spec"]
    assert spec["runtimeRef"] == {"name": "ours"}
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (4, 2)
    unknown = yaml.safe_load(trainjob(replace(plan(tmp_path), workers=None), IN_PODS))["spec"]
    assert unknown["runtimeRef"] == {"name": "torch-distributed"}
    assert "numProcPerNode" not in unknown["trainer"]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("My_Train", "my-train"), ("7b", "run-7b"), ("-x-", "x"), ("é", "run"), ("a" * 60, "a" * 40), ("train", "train")],
)
def test_a_name_is_made_that_kubernetes_allows(name: str, allowed: str) -> None:
    assert pod.name_of(name) == allowed


def test_what_no_manifest_can_say_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^nodes=2:4: the pods of a manifest have a fixed number: set one number$"):
        jobset(plan(tmp_path, nodes=Nodes(2, 4)), IN_PODS)
    with pytest.raises(ConfigError, match=r"^--name My_Train: must have small letters"):
        trainjob(plan(tmp_path), replace(IN_PODS, name="My_Train"))
    with pytest.raises(ConfigError, match=r"^/data/x: is not below /sweeps, where the volume is"):
        jobset(replace(plan(tmp_path), folder="/data/x"), IN_PODS)
    assert "hydra.run.dir=/data/x" in command_of(
        jobset(replace(plan(tmp_path), folder="/data/x"), replace(IN_PODS, mount_path="/data"))
    )
    with pytest.raises(ConfigError, match=r"^the command has 207 words, and a manifest at most 128"):
        trainjob(plan(tmp_path, ["x"] * 200), IN_PODS)


@pytest.mark.system
@pytest.mark.parametrize("write", WRITERS)
def test_the_commands_of_two_pods_are_one_launch(tmp_path: Path, write: Callable[[Plan, Site], str]) -> None:
    (tmp_path / "train.py").write_text(
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "print('world of', dist.get_world_size())\n"
        "dist.destroy_process_group()\n"
    )
    launch = replace(
        plan(tmp_path, nodes=Nodes(2, 2)), command=Command("train", "", "elastic-hydra", RUN[1:2], RUN[2:])
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    site = replace(IN_PODS, mount_path=str(tmp_path))
    command = [
        word.replace("train-node-0-0.train:29500", f"127.0.0.1:{port}") for word in command_of(write(launch, site))
    ]
    pods = []
    for index in ("0", "1"):
        # What Kubernetes sets, and Kubeflow Trainer with it.
        of_pod = {"JOB_COMPLETION_INDEX": index, "PET_NODE_RANK": index, "PET_NNODES": "2", "PET_NPROC_PER_NODE": "1"}
        of_pod |= {"PET_MASTER_ADDR": "train-node-0-0.train", "PET_MASTER_PORT": "29400"}
        environ = {**os.environ, **(of_pod if write is trainjob else {"JOB_COMPLETION_INDEX": index})}
        words = [sys.executable, "-c", CLI, *command[1:]]
        pods.append(subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True))
    said = [pod.communicate()[0] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0]
    assert said == ["world of 2\n"] * 2
