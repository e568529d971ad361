"""What a task finds around it, in every rank, and what a sweep leaves on disk and on the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.apps import App, Finished

pytestmark = pytest.mark.system

RESOLVER = """
OmegaConf.register_new_resolver("shout", lambda word: word.upper())
"""

BODY = """
    import spy  # lazily: a module that lies beside the app
    from hydra.utils import get_original_cwd

    log.info("log of rank %s", os.environ["RANK"])
    log.warning("warning of rank %s", os.environ["RANK"])
    print("stdout of rank", os.environ["RANK"])
    print("stderr of rank", os.environ["RANK"], file=sys.stderr)
    config = HydraConfig.get()
    note(
        cwd=os.getcwd(),
        original_cwd=get_original_cwd(),
        now=cfg.now,
        shout=cfg.shout,
        variable=os.environ.get("ELASTIC_HYDRA_VARIABLE"),
        world=os.environ["WORLD_SIZE"],
        threads=os.environ.get("OMP_NUM_THREADS"),
        num=config.job.num,
        id=config.job.id,
        output_dir=config.runtime.output_dir,
        overrides=list(config.overrides.task),
        launcher=config.runtime.choices["hydra/launcher"],
        argv=sys.argv,
    )
    return cfg.x * 10 + int(os.environ["RANK"])
"""

OVERRIDES = [
    "hydra.launcher.nproc_per_node=2",
    "+hydra.job.env_set.ELASTIC_HYDRA_VARIABLE='of the job'",
    "+now=${now:%H-%M-%S-%f}",
    "+shout=${shout:word}",
    "+x=1,2",
]

VARIANTS = {
    "warm": (True, ["hydra.job.chdir=true"]),
    "warm, main() unguarded": (False, ["hydra.job.chdir=false", "hydra.launcher.logs.other_ranks_level=WARNING"]),
    "spawn": (True, ["hydra.job.chdir=false", "hydra.launcher.start_method=spawn"]),
    "spawn, main() unguarded": (False, ["hydra.job.chdir=true", "hydra.launcher.start_method=spawn"]),
    "forkserver, main() unguarded": (False, ["hydra.job.chdir=true", "hydra.launcher.start_method=forkserver"]),
}


@pytest.fixture(scope="module", params=list(VARIANTS.values()), ids=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> tuple[bool, list[str]]:
    guarded, overrides = request.param
    return guarded, overrides


@pytest.fixture(scope="module")
def sweep(variant: tuple[bool, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    guarded, overrides = variant
    app = App(tmp_path_factory.mktemp("app"), BODY, before=RESOLVER, guarded=guarded)
    finished = app.run(*OVERRIDES, *overrides)
    assert finished.returncode == 0, finished.output
    return finished


def test_there_is_one_output_directory_per_job_with_what_hydra_writes(sweep: Finished) -> None:
    jobs = sorted(path.name for path in sweep.folder.iterdir() if path.is_dir())
    assert jobs == ["0", "1"]
    for job in jobs:
        written = {path.name for path in (sweep.folder / job / ".hydra").iterdir()}
        assert written == {"config.yaml", "hydra.yaml", "overrides.yaml"}
        assert f"+x={int(job) + 1}" in (sweep.folder / job / ".hydra" / "overrides.yaml").read_text()


def test_callbacks_run_once_per_job_and_get_rank_0_s_value(sweep: Finished) -> None:
    assert len(sweep.calls("multirun_start")) == len(sweep.calls("multirun_end")) == 1
    assert sweep.calls("multirun_start") == sweep.calls("multirun_end")  # both in the launcher
    assert sweep.calls("job_start") == [["0"], ["1"]]
    assert sweep.calls("job_end") == [["0", "COMPLETED", "10"], ["1", "COMPLETED", "20"]]


def test_every_rank_sees_the_same_configuration(sweep: Finished) -> None:
    for job in (0, 1):
        first, second = sweep.seen(job, 0), sweep.seen(job, 1)
        assert first == second
        assert (first["num"], first["id"], first["world"]) == (job, str(job), "2")
        assert first["output_dir"] == str(sweep.folder / str(job))
        assert f"+x={job + 1}" in first["overrides"]
        assert first["shout"] == "WORD"
        assert first["launcher"] == "elastic"
        assert "hydra/launcher=elastic" in first["argv"]
    assert sweep.seen(0, 0)["now"] != sweep.seen(1, 0)["now"]


def test_env_set_reaches_the_workers(sweep: Finished) -> None:
    assert {sweep.seen(job, rank)["variable"] for job in (0, 1) for rank in (0, 1)} == {"of the job"}


def test_chdir_is_the_user_s_choice(sweep: Finished, variant: tuple[bool, list[str]]) -> None:
    app = sweep.folder.parent
    wanted = sweep.folder / "0" if "hydra.job.chdir=true" in variant[1] else app
    assert {sweep.seen(0, rank)["cwd"] for rank in (0, 1)} == {str(wanted)}
    assert sweep.seen(0, 1)["original_cwd"] == str(app)


def test_rank_0_logs_to_the_console_and_to_the_job_s_log(sweep: Finished) -> None:
    assert sweep.output.count("log of rank 0") == 2
    assert (sweep.folder / "0" / "app.log").read_text().count("log of rank 0") == 1


def test_other_ranks_log_to_files_of_their_own_and_to_the_console_as_configured(
    sweep: Finished, variant: tuple[bool, list[str]]
) -> None:
    assert "of rank 1" not in (sweep.folder / "0" / "app.log").read_text()
    own = (sweep.folder / "0" / "app.rank1.log").read_text()
    assert own.count("log of rank 1") == own.count("warning of rank 1") == 1
    assert "of rank 0" not in own
    written = _workers_file(sweep, 1, "stdout") + _workers_file(sweep, 1, "stderr")
    shown = "hydra.launcher.logs.other_ranks_level=WARNING" in variant[1]
    assert "log of rank 1" not in written
    assert ("warning of rank 1" in written) == shown


def test_the_workers_output_is_in_files_and_rank_0_s_on_the_console_too(sweep: Finished) -> None:
    for rank in (0, 1):
        assert f"stdout of rank {rank}" in _workers_file(sweep, rank, "stdout")
        assert f"stderr of rank {rank}" in _workers_file(sweep, rank, "stderr")
    assert sweep.output.count("stdout of rank 0") == sweep.output.count("stderr of rank 0") == 2
    assert "stdout of rank 1" not in sweep.output


def _workers_file(sweep: Finished, rank: int, stream: str) -> str:
    return (sweep.folder / "0" / "logs" / "restart_0" / f"rank_{rank}" / f"{stream}.log").read_text()


def test_the_launcher_says_what_it_does_and_nothing_that_looks_like_trouble(sweep: Finished) -> None:
    assert "Launching 2 jobs, each with 2 workers per node" in sweep.output
    assert "#0 : +now=" in sweep.output
    lines = [line for line in sweep.output.splitlines() if "of rank 0" not in line]
    assert not [line for line in lines if "Traceback" in line or "[ERROR]" in line or "[WARNING]" in line]


# --- other ways to start an app ----------------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["warm", "spawn"])
def test_an_app_that_runs_as_a_module_with_relative_imports(tmp_path: Path, start_method: str) -> None:
    body = """
        from .beside import Point

        note(where=__name__, package=__package__)
        return Point(1, cfg.x)
    """
    app = App(tmp_path, body, before="from . import beside", module="package.inner.app")
    (tmp_path / "package" / "inner" / "beside.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Point:\n    x: int\n    y: int\n"
    )
    finished = app.run("+x=7", f"hydra.launcher.start_method={start_method}")
    assert finished.returncode == 0, finished.output
    assert finished.calls("job_end") == [["0", "COMPLETED", "Point(x=1,", "y=7)"]]
    assert (finished.folder / "0" / "app.log").exists()


def test_two_sweeps_on_one_host_do_not_meet(tmp_path: Path) -> None:
    body = """
        import torch
        import torch.distributed as dist

        dist.init_process_group("gloo")
        mine = torch.tensor([float(cfg.x)])
        for _ in range(20):
            everyone = mine.clone()
            dist.all_reduce(everyone)
            assert everyone.item() == cfg.x * dist.get_world_size(), everyone
        dist.destroy_process_group()
        return everyone.item()
    """
    app = App(tmp_path, body)
    two = "hydra.launcher.nproc_per_node=2"
    with app.started(two, "+x=1,2", name="one") as one, app.started(two, "+x=10,20", name="other") as other:
        assert [one.finish().returncode, other.finish().returncode] == [0, 0], one.output + other.output
        values = sorted(float(call[2]) for call in Finished(0, "", other.folder).calls("job_end"))
    assert values == [2.0, 4.0, 20.0, 40.0]
