"""A host with eight GPUs on two nodes, as a sweep shares it out; nothing runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.numa import Cpus, OnError
from elastic_hydra.config.resolve import Launch
from elastic_hydra.config.resources import Demand
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.resources import allocator
from elastic_hydra.resources.slots import Slot
from tests.config.settings import launch, settings
from tests.numa.machines import machine, write

Make = Callable[..., tuple[allocator.Allocator, Launch]]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes the host and a job from changed settings."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root = write(tmp_path, machine([list(range(24)), list(range(24, 48))], threads=2, gpus=[0] * 4 + [1] * 4))
    there = read_machine(root)
    gpus = HostFacts(cpus=96, gpus=8, torch=(2, 9), memory=1 << 40)

    def make(**changed: Any) -> tuple[allocator.Allocator, Launch]:
        made = allocator.Allocator(OmegaConf.create(settings(**changed)), gpus, "n1", there, os.environ)
        return made, launch(gpus, **changed)

    return make


@pytest.mark.parametrize("reserved", [0, 1, 3])
@pytest.mark.parametrize("jobs_per_gpu", [1, 3, 4])
def test_with_auto_every_gpu_has_as_many_jobs_as_it_may(made: Make, reserved: int, jobs_per_gpu: int) -> None:
    keys = {"numa__reserve_cores": reserved, "resources__jobs_per_gpu": jobs_per_gpu, "numa__cpus": Cpus.node}
    this, wanted = made(parallel="auto", nproc_per_node=1, **keys)
    this.fitted(wanted, {})
    slots, taken, far = this.slots(), [], 0
    while (slot := slots.take(wanted.demand)) is not None:
        taken.append(slot)
        (binding,) = this.bindings(wanted, {}, slot)
        assert f"its GPU is on node {slot.gpus[0] // 4}" in binding.why
        far += "is nearest" in binding.why
    assert len(taken) == 8 * jobs_per_gpu
    # Parts are even first: of 45 cores, the 21 of one node are less than 16 of 32 parts.
    assert far == ((reserved, jobs_per_gpu) == (3, 4))


@pytest.mark.parametrize(
    "keys",
    [
        {"parallel": 100, "nproc_per_node": 1, "numa__cpus": Cpus.node},
        {"parallel": 100, "nproc_per_node": 2, "numa__cpus": Cpus.spread},
        {"parallel": 100, "nproc_per_node": 2, "numa__cpus": Cpus.spread, "numa__cores_per_worker": 3},
        {"parallel": "auto", "nproc_per_node": 2, "numa__cpus": Cpus.spread, "resources__jobs_per_gpu": 7},
    ],
)
def test_the_number_of_jobs_side_by_side_that_is_named_works(made: Make, keys: dict[str, Any]) -> None:
    keys = {**keys, "numa__exclusive": True}
    this, wanted = made(**keys)
    with pytest.raises(NumaError, match="exclusive=true lets none share one; at most") as refused:
        this.fitted(wanted, {})
    (most,) = map(int, re.findall(r"at most (\d+)", str(refused.value)))
    this, wanted = made(**{**keys, "parallel": most})
    this.fitted(wanted, {})
    this, wanted = made(**{**keys, "numa__exclusive": False})
    this.fitted(wanted, {})


def test_the_number_of_instances_that_is_named_works(made: Make) -> None:
    keys = {"parallel": "auto", "numa__cpus": Cpus.spread, "numa__cores_per_worker": 5, "resources__gpus_per_worker": 0}
    this, wanted = made(nproc_per_node=50, **keys)
    with pytest.raises(NumaError, match=r"takes 5 cores of one node.* at most 8"):
        this.fitted(wanted, {})
    this, wanted = made(nproc_per_node=8, **keys)
    this.fitted(wanted, {})


def test_what_never_fits_is_said_with_what_it_needs(made: Make) -> None:
    keys = {"parallel": "auto", "numa__reserve_cores": 1, "resources__cpus_per_worker": 96}
    where = "and this host never has that free (hydra.launcher.resources, numa.reserve_cores)"
    for more, needed in [({}, "1 GPUs and 96 CPUs"), ({"resources__gpus_per_worker": 0}, "96 CPUs")]:
        this, wanted = made(nproc_per_node=1, **keys, **more)
        with pytest.raises(NumaError, match=f"^{re.escape(f'the job needs {needed}, {where}')}$"):
            this.fitted(wanted, {})


def test_a_job_that_may_start_unbound_holds_less_where_it_would_not_fit(made: Make) -> None:
    keys: dict[str, Any] = {"numa__cpus": Cpus.explicit, "numa__explicit": ["900"], "resources__gpus_per_worker": 0}
    this, wanted = made(nproc_per_node=1, parallel="auto", **keys)
    with pytest.raises(NumaError, match="900"):
        this.fitted(wanted, {})
    for parallel, cpus in [("auto", 1), (2, None)]:
        this, wanted = made(nproc_per_node=1, parallel=parallel, numa__on_error=OnError.warn, **keys)
        assert this.fitted(wanted, {}).demand == Demand(cpus=cpus)


def test_reserved_cores_that_the_host_does_not_have_are_refused_or_told_by_the_workers(made: Make) -> None:
    with pytest.raises(ConfigError, match="reserve_cores"):
        made(numa__reserve_cores=48)
    this, _ = made(numa__reserve_cores=48, numa__on_error=OnError.warn, parallel="auto")
    slot = this.slots().take(Demand(cpus=96))
    assert slot is not None


def test_an_agent_s_environment_names_the_gpus_that_its_job_holds(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    this, _ = made()
    assert "CUDA_VISIBLE_DEVICES" not in this.environment(Slot())
    monkeypatch.setenv("ONE_MORE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    environ = this.environment(Slot((0, 2)))
    assert (environ["CUDA_VISIBLE_DEVICES"], environ["ONE_MORE"]) == ("4,6", "1")
    assert this.environment(Slot())["CUDA_VISIBLE_DEVICES"] == "4,5,6"


def test_a_slot_names_its_host(made: Make) -> None:
    this, wanted = made(parallel="auto", nproc_per_node=1)
    slot = this.slots().take(wanted.demand)
    assert slot is not None
    assert slot.host == this.host == "n1"
    assert this.bindings(wanted, {}, slot) == ()  # nothing is bound with numa=none


def test_a_host_says_what_it_could_serve_if_it_were_idle(made: Make) -> None:
    this, _ = made(parallel="auto", nproc_per_node=1)
    for demand, served in [
        (Demand(gpus=8), True),
        (Demand(gpus=9), False),
        (Demand(cpus=96), True),
        (Demand(cpus=97), False),
        (Demand(listed=("500",)), False),
    ]:
        assert this.serves(demand) is served, demand
        assert this.serves(demand) is served, demand


def test_the_agents_of_another_host_get_that_hosts_environment(made: Make) -> None:
    this, _ = made(parallel="auto")
    there = allocator.Allocator(
        this._settings, this._facts, "n2", this._machine, {"A": "1", "CUDA_VISIBLE_DEVICES": "4,5"}
    )
    assert there.environment(Slot(host="n2")) == {"A": "1", "CUDA_VISIBLE_DEVICES": "4,5"}
    assert there.environment(Slot(gpus=(1,), host="n2")) == {"A": "1", "CUDA_VISIBLE_DEVICES": "5"}
