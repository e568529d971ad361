"""Real workers on this machine, however they are started: what its kernel says of them."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from elastic_hydra import LaunchConfig, elastic_launch
from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Allocator, Cpus, Memory, NumaConfig
from elastic_hydra.elastic.placement import Placement, Placer, from_torch
from elastic_hydra.numa import bind
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.numa.thread_env import Environment
from tests.numa import witness

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="this kernel has no NUMA memory policy"),
]

CPUS = sorted(os.sched_getaffinity(0))
ONE_EACH = NumaConfig(cpus=Cpus.explicit, explicit=[str(CPUS[0]), str(CPUS[-1])], memory=Memory.bind)


def config(start_method: str = "warm", numa: NumaConfig = ONE_EACH, **more: object) -> LaunchConfig:
    return LaunchConfig(1, 1, 2, start_method=start_method, max_restarts=0, numa=numa, **more)  # type: ignore[arg-type]


def policy() -> str:
    """What numa_maps shows of this machine's plan; `default` where a container forbids memory policies."""
    (binding,) = read_machine().plan(NumaConfig(cpus=Cpus.spread, memory=Memory.bind), 1, {})
    pid = os.fork()
    if not pid:
        os._exit(len(bind.apply(Binding(memory="bind", nodes=binding.nodes)).problems))
    refused = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "default" if refused else f"bind:{','.join(map(str, binding.nodes))}"


def assert_bound(seen: dict[str, object], cpu: int) -> None:
    assert (seen["masks"], seen["child"]) == ([str(cpu)], str(cpu))
    assert seen["policy"] == policy()
    assert seen["environ"] == ["1", "1", "1"]


@pytest.mark.smoke
@pytest.mark.parametrize("start_method", ["warm", "fork", "forkserver", "spawn"])
def test_functions_are_bound_with_all_threads_and_children(start_method):
    told: list[tuple[Binding, ...]] = []
    found = elastic_launch(config(start_method, on_bindings=told.append), witness.testify)()
    for rank, cpu in ((0, CPUS[0]), (1, CPUS[-1])):
        assert_bound(found[rank], cpu)
        assert found[rank]["threads"] == 1
    (bindings,) = told
    assert [one.cpus for one in bindings] == [(CPUS[0],), (CPUS[-1],)]


@pytest.mark.smoke
@pytest.mark.parametrize("start_method", ["warm", "spawn"])
def test_scripts_are_bound(tmp_path, monkeypatch, start_method):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command = ["-u", witness.__file__, str(tmp_path)]
    elastic_launch(config(start_method), sys.executable)(*command)
    for rank, cpu in ((0, CPUS[0]), (1, CPUS[-1])):
        assert_bound(json.loads((tmp_path / f"{rank}.json").read_text()), cpu)


def test_what_the_user_set_for_openmp_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = elastic_launch(config(), witness.testify)()
    assert [found[0]["environ"], found[0]["threads"]] == [["2", None, None], 2]


def test_each_worker_says_what_it_lacks_and_one_says_what_all_lack(tmp_path, monkeypatch):
    missing = [Binding(cpus=(CPUS[0], 1000 + rank), memory="bind", nodes=(1000,)) for rank in (0, 1)]
    monkeypatch.setattr(Placer, "place", lambda *_: Placement(tuple(missing), ({}, {})))
    logs = DefaultLogsSpecs(log_dir=str(tmp_path), redirects=Std.ALL)
    elastic_launch(config(logs_specs=logs), os.getpid)()
    for rank in (0, 1):
        (said,) = (path.read_text() for path in tmp_path.glob(f"*/attempt_0/{rank}/stderr.log"))
        assert f"hydra.launcher.numa: the kernel granted CPUs {CPUS[0]}, not {1000 + rank}\n" in said
        assert ("memory policy bind on nodes 1000 was refused" in said) == (rank == 0)


@pytest.mark.parametrize("start_method", ["warm", "spawn"])
def test_a_binding_that_must_be_had_and_is_refused_ends_the_job_with_the_reason(monkeypatch, start_method):
    nowhere = Placement((Binding(cpus=(1000,), required=("cpus",)),) * 2, ({}, {}))
    monkeypatch.setattr(Placer, "place", lambda *_: nowhere)  # as if the CPU had gone since the plan was made
    with pytest.raises(ChildFailedError) as failed:
        elastic_launch(config(start_method), witness.testify)()
    assert isinstance(failed.value.__cause__, bind.BindError)
    assert "hydra.launcher.numa.on_error=error: the kernel refused CPUs 1000" in str(failed.value.__cause__)


def test_an_allocator_is_preloaded_into_new_interpreters(monkeypatch):
    library = "/usr/lib/libtcmalloc_minimal.so.4"  # the loader says that it is not there, and goes on
    monkeypatch.setattr(
        "elastic_hydra.elastic.placement.preload", lambda *_: Environment({"LD_PRELOAD": library}, warnings=())
    )
    settings = replace(ONE_EACH, allocator=Allocator.tcmalloc)
    for start_method, expected in (("warm", None), ("spawn", library)):
        found = elastic_launch(config(start_method, settings), os.getenv)("LD_PRELOAD")
        assert found == {0: expected, 1: expected}


@pytest.mark.parametrize("mode", ["node", "socket", "exclusive", "core-complex"])
def test_torchs_own_options_are_taken_and_need_no_gpu(mode):
    binding = pytest.importorskip("torch.numa.binding")
    options = binding.NumaOptions(affinity_mode=binding.AffinityMode(mode))
    launched = LaunchConfig(1, 1, 1, start_method="warm", max_restarts=0, numa_options=options)
    seen = elastic_launch(launched, witness.testify)()[0]
    (planned,) = read_machine().plan(from_torch(options) or NumaConfig(), 1, {})
    assert planned.cpus
    assert seen["masks"] == [format_list(planned.cpus)]
