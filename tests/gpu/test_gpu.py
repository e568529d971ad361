"""What a job gets and does on a real GPU; skipped, saying so, on a host without one."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from elastic_hydra import LaunchConfig
from elastic_hydra.journal.writer import FILE_NAME
from elastic_hydra.numa import nvml
from elastic_hydra.resources.facts import facts_of_this_host
from elastic_hydra.supervisor.fork_safety import fork_hazard
from tests.helpers.apps import App, Finished
from tests.helpers.launching import in_a_fork


def gpus() -> list[nvml.Gpu]:
    """Return the GPUs that the driver knows; CUDA itself is not asked, since this process is forked."""
    return nvml.read_gpus(nvml.load())


pytestmark = [
    pytest.mark.system,
    pytest.mark.gpu,
    pytest.mark.skipif(not gpus(), reason="this host has no NVIDIA GPU"),
]


@pytest.fixture(autouse=True)
def _sees_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what `tests/conftest.py` does to all tests."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


TORCH = "import torch\nimport torch.distributed as dist\n"


def ends(sweep: Finished) -> dict[int, dict[str, Any]]:
    """Return what the journal says of the ends of jobs, by number."""
    events = [json.loads(line) for line in (sweep.folder / FILE_NAME).read_text().splitlines()]
    return {event["num"]: event for event in events if event["event"] == "end"}


def use_nvml_and_cuda() -> tuple[int, float]:
    return len(gpus()), torch.ones(3, device="cuda").sum().item()


def hazard_and_forks_of_a_launcher() -> tuple[str | None, set[tuple[int, float]]]:
    """Do what a launcher does before it forks, and use the GPU in many forks of this process."""
    LaunchConfig(1, 1, nproc_per_node=facts_of_this_host().gpus, rdzv_backend="local")
    return fork_hazard(), {in_a_fork(use_nvml_and_cuda) for _ in range(10)}


def test_a_launcher_that_has_counted_gpus_is_forked_and_its_forks_use_them() -> None:
    assert in_a_fork(hazard_and_forks_of_a_launcher) == (None, {(len(gpus()), 3.0)})


def hazard_of_one_that_asked_cuda() -> str | None:
    torch.cuda.is_available()
    return fork_hazard()


def test_a_process_that_has_asked_cuda_itself_is_not_forked() -> None:
    assert in_a_fork(hazard_of_one_that_asked_cuda) == "it has initialized CUDA"


def test_workers_that_are_forked_from_the_warm_server_use_cuda_and_nccl(tmp_path: Path) -> None:
    body = """
    dist.init_process_group("nccl")
    here = torch.full((4,), float(cfg.x), device="cuda")
    dist.all_reduce(here)
    note(sum=here.sum().item(), device=str(here.device))
    dist.destroy_process_group()
    """
    sweep = App(tmp_path, body, before=TORCH).run("+x=1,2,3", "hydra.launcher.nproc_per_node=gpu")
    assert sweep.returncode == 0, sweep.output
    for job, number in enumerate((1, 2, 3)):
        assert sweep.seen(job, 0) == {"sum": 4.0 * number, "device": "cuda:0"}
    assert "fresh interpreter" not in sweep.output, "the launcher, which has counted GPUs, can still be forked"


def test_two_ranks_share_a_gpu_that_neither_owns(tmp_path: Path) -> None:
    body = """
    dist.init_process_group("gloo")
    here = torch.full((4,), float(os.environ["RANK"]) + 1.0, device="cuda")
    dist.all_reduce(here)
    note(sum=here.sum().item())
    dist.destroy_process_group()
    """
    shared = ["hydra.launcher.nproc_per_node=2", "hydra.launcher.resources.gpus_per_worker=0"]
    sweep = App(tmp_path, body, before=TORCH).run("+x=1", *shared)
    assert sweep.returncode == 0, sweep.output
    assert [sweep.seen(0, rank) for rank in (0, 1)] == [{"sum": 12.0}] * 2


def test_a_worker_that_is_started_again_uses_cuda_again(tmp_path: Path) -> None:
    body = """
    here = torch.ones(1 << 20, device="cuda")
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    note(sum=here.sum().item())
    """
    sweep = App(tmp_path, body, before=TORCH).run("+x=1", "hydra/launcher/retry=restart")
    assert sweep.returncode == 0, sweep.output
    assert sweep.seen(0, 0) == {"sum": float(1 << 20)}
    assert ends(sweep)[0]["restarts"] == 1


def test_a_gpu_without_memory_left_is_told_as_such_and_not_tried_again(tmp_path: Path) -> None:
    body = """
    free, total = torch.cuda.mem_get_info()
    torch.empty(2 * total, dtype=torch.uint8, device="cuda")
    """
    sweep = App(tmp_path, body, before=TORCH).run("+x=1", "hydra/launcher/retry=transient")
    assert sweep.returncode != 0
    end = ends(sweep)[0]
    assert (end["state"], end["kind"], end["restarts"]) == ("failed", "oom", 0), sweep.output
    assert "CUDA out of memory" in sweep.output


def test_an_assertion_in_a_kernel_ends_one_job_and_spoils_the_gpu_for_none(tmp_path: Path) -> None:
    body = """
    index = torch.tensor([5 if cfg.x == 1 else 0], device="cuda")
    torch.zeros(2, device="cuda")[index].sum().item()
    note(fine=True)
    """
    sweep = App(tmp_path, body, before=TORCH).run("+x=1,2", "hydra.launcher.on_failure=continue")
    states = {num: end["state"] for num, end in ends(sweep).items()}
    assert states == {0: "failed", 1: "finished"}, sweep.output
    assert "device-side assert" in sweep.output
    assert sweep.seen(1, 0) == {"fine": True}


def test_jobs_share_a_gpu_when_they_may_and_have_cpus_of_their_own(tmp_path: Path) -> None:
    body = """
    other = Path(HydraConfig.get().sweep.dir) / f"here.{3 - cfg.x}"
    (Path(HydraConfig.get().sweep.dir) / f"here.{cfg.x}").touch()
    here = torch.ones(8, device="cuda")
    while not other.exists():  # both jobs run at once, or this test ends by its limit
        time.sleep(0.01)
    note(gpus=os.environ["CUDA_VISIBLE_DEVICES"], cpus=sorted(os.sched_getaffinity(0)), sum=here.sum().item())
    """
    both = ["hydra.launcher.parallel=2", "hydra.launcher.resources.jobs_per_gpu=2", "hydra/launcher/numa=node"]
    sweep = App(tmp_path, body, before=TORCH).run("+x=1,2", *both)
    assert sweep.returncode == 0, sweep.output
    first, second = sweep.seen(0, 0), sweep.seen(1, 0)
    assert first["gpus"] == second["gpus"] == "0"
    assert first["sum"] == second["sum"] == 8.0
    assert not set(first["cpus"]) & set(second["cpus"])


def test_jobs_that_do_not_share_a_gpu_have_it_one_after_the_other(tmp_path: Path) -> None:
    body = """
    here = torch.ones(8, device="cuda")
    began = time.time()
    time.sleep(0.2)
    note(began=began, ended=time.time())
    """
    one_each = ["hydra.launcher.parallel=auto", "hydra.launcher.resources.gpus_per_worker=1"]
    sweep = App(tmp_path, body, before=TORCH).run("+x=1,2,3", *one_each)
    assert sweep.returncode == 0, sweep.output
    times = sorted((sweep.seen(job, 0) for job in range(3)), key=lambda seen: float(seen["began"]))
    assert all(before["ended"] <= after["began"] for before, after in itertools.pairwise(times))


def test_the_next_job_finds_the_memory_of_the_last_one_free(tmp_path: Path) -> None:
    body = """
    free, total = torch.cuda.mem_get_info()
    note(free=free, total=total)
    kept = torch.empty(total // 2, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    os.kill(os.getpid(), signal.SIGKILL)  # the driver has to clean up after it
    """
    sweep = App(tmp_path, body, before=TORCH).run("+x=1,2,3", "hydra.launcher.on_failure=continue")
    seen = [sweep.seen(job, 0) for job in range(3)]
    assert all(found["free"] > 0.9 * seen[0]["free"] for found in seen), json.dumps(seen)


def test_an_app_that_touches_cuda_at_import_is_launched_without_forks_of_it(tmp_path: Path) -> None:
    body = """
    note(sum=torch.ones(3, device="cuda").sum().item())
    """
    sweep = App(tmp_path, body, before=TORCH + "torch.zeros(1, device='cuda')\n").run("+x=1,2")
    assert sweep.returncode == 0, sweep.output
    assert [sweep.seen(job, 0)["sum"] for job in (0, 1)] == [3.0, 3.0]
    assert "from a fresh interpreter (this process cannot be forked: it has initialized CUDA)" in sweep.output


def test_a_dry_run_and_a_binding_name_the_gpu(tmp_path: Path) -> None:
    address = gpus()[0].address.lower()[4:]  # the driver writes eight digits of the domain
    app = App(tmp_path, "note(gpu=torch.cuda.is_available())", before=TORCH)
    sweep = app.run("+x=1", "hydra/launcher/numa=node", "hydra.launcher.dry_run=true")
    assert sweep.returncode == 0, sweep.output
    assert address in sweep.output


def test_more_workers_than_gpus_share_them_unless_each_wants_one(tmp_path: Path) -> None:
    several = f"hydra.launcher.nproc_per_node={len(gpus()) + 1}"
    app = App(tmp_path, "note()")
    sweep = app.run("+x=1", several)
    assert sweep.returncode == 0, sweep.output
    refused = app.run("+x=1", several, "hydra.launcher.resources.gpus_per_worker=1")
    assert refused.returncode == 2
    assert "hydra.launcher.resources.gpus_per_worker=1" in refused.output
    assert "it can never run" in refused.output
    sharing = app.run("+x=1,2", several, "hydra.launcher.parallel=2", "hydra.launcher.resources.gpus_per_worker=0")
    assert sharing.returncode == 0, sharing.output
