"""What the sweeper gets back for each job: the value, or the job's own exception, and where it happened."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from tests.helpers.batches import launch, notes, rank

pytestmark = pytest.mark.system

TWO = "hydra.launcher.nproc_per_node=2"


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_the_return_value_is_rank_0_s(tmp_path: Path) -> None:
    (job,) = launch(lambda cfg: float(cfg.x) + rank(), tmp_path, TWO, "hydra.job.chdir=true", jobs=[["+x=1.5"]])
    assert job.status is JobStatus.COMPLETED
    assert job.return_value == 1.5
    assert job.overrides == ["+x=1.5"]
    assert job.working_dir == str(tmp_path / "0")


def test_all_values_are_there_for_those_who_ask(tmp_path: Path) -> None:
    (job,) = launch(lambda cfg: rank() * 10, tmp_path, TWO, "hydra.launcher.return_values=all")
    assert job.return_value == {0: 0, 1: 10}


@pytest.mark.smoke
def test_each_job_has_as_many_workers_as_its_own_configuration_says(tmp_path: Path) -> None:
    jobs = launch(
        lambda cfg: int(os.environ["WORLD_SIZE"]),
        tmp_path,
        "+trainer.devices=1",
        "hydra.launcher.nproc_per_node=${trainer.devices}",
        jobs=[["trainer.devices=1"], ["trainer.devices=3"], ["trainer.devices=2"]],
    )
    assert [job.return_value for job in jobs] == [1, 3, 2]


def test_jobs_are_numbered_from_where_the_sweeper_says_and_returned_in_order(tmp_path: Path) -> None:
    jobs = launch(lambda cfg: cfg.x, tmp_path, jobs=[["+x=3"], ["+x=1"], ["+x=2"]])
    assert [job.return_value for job in jobs] == [3, 1, 2]
    assert [job.hydra_cfg.hydra.job.num for job in jobs if job.hydra_cfg is not None] == [0, 1, 2]


@pytest.mark.smoke
def test_random_numbers_are_not_the_same_in_every_worker(tmp_path: Path) -> None:
    def draw(cfg: Any) -> tuple[float, ...]:
        import random

        import numpy as np
        import torch

        return random.random(), float(np.random.random()), torch.rand(1).item()

    jobs = launch(draw, tmp_path, TWO, "hydra.launcher.return_values=all", jobs=[[], []])
    draws = [job.return_value[rank] for job in jobs for rank in (0, 1)]
    for source in range(3):
        assert len({draw[source] for draw in draws}) == 4


# --- failures ----------------------------------------------------------------------------------------------------


NOTHING: dict[str, int] = {}


class OddError(Exception):
    """Has a constructor that does not take what it gives to its base, and an attribute of its own."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"odd {code}")
        self.code = code
        self.detail = detail


def _end(cfg: Any) -> Any:
    """End in the way that `cfg.way` names; with two ranks, it is rank 1 that does."""
    if cfg.way == "well":
        return "fine"
    if rank() != int(os.environ["WORLD_SIZE"]) - 1:
        time.sleep(600)
    return WAYS[cfg.way]()


def _raise() -> None:
    try:
        NOTHING["missing"]
    except KeyError as error:
        raise OddError(7, detail="of the job") from error


def _raise_from_the_library() -> None:
    import torch

    torch.zeros(2) @ torch.zeros(3)


def _raise_a_local_class() -> None:
    class LocalError(RuntimeError):
        pass

    raise LocalError("defined in a function")


def _raise_what_the_launcher_cannot_import() -> None:
    folder = Path(os.environ["ELASTIC_HYDRA_ONLY_THERE"])
    (folder / "only_in_the_worker.py").write_text("class Hidden(Exception):\n    pass\n")
    sys.path.insert(0, str(folder))
    import only_in_the_worker  # type: ignore[import-not-found]

    raise only_in_the_worker.Hidden("nobody else knows me")


def _raise_what_does_not_pickle() -> None:
    error = ValueError("with a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


WAYS: dict[str, Any] = {
    "raise": _raise,
    "library": _raise_from_the_library,
    "local_class": _raise_a_local_class,
    "not_importable": _raise_what_the_launcher_cannot_import,
    "not_picklable": _raise_what_does_not_pickle,
    "value_not_picklable": threading.Lock,
    "system_exit": lambda: sys.exit(3),
    "system_exit_text": lambda: sys.exit("enough"),
    "keyboard_interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "os_exit": lambda: os._exit(5),
    "os_exit_0": lambda: os._exit(0),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "well": None,
}

Jobs = dict[str, JobReturn]


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """One batch in which each job ends in another way, and the last one well."""
    folder = tmp_path_factory.mktemp("ends")
    overrides = [
        f"hydra.launcher.nproc_per_node={request.param}",
        f"+hydra.job.env_set.ELASTIC_HYDRA_ONLY_THERE={folder}",
    ]
    jobs = launch(_end, folder / "sweep", *overrides, jobs=[[f"+way={way}"] for way in WAYS])
    assert len(jobs) == len(WAYS)
    return dict(zip(WAYS, jobs, strict=True))


FAILED = [way for way in WAYS if way != "well"]


@pytest.mark.parametrize("way", FAILED)
def test_however_a_job_ends_it_has_failed_and_says_where(ended: Jobs, way: str) -> None:
    job = ended[way]
    assert job.status is JobStatus.FAILED
    error = job._return_value
    text = f"{error}\n{notes(error)}"
    if sys.version_info >= (3, 11):
        rank = int(job.hydra_cfg.hydra.launcher.nproc_per_node) - 1
        assert re.search(rf"rank {rank}\b", text), text
        assert "on host" not in text, "there is one"
        logs = Path(text.rpartition("its logs: ")[2].strip())
        assert logs.is_dir()
        assert logs.is_relative_to(job.hydra_cfg.hydra.sweep.dir)


def test_the_jobs_after_it_run(ended: Jobs) -> None:
    assert ended["well"].status is JobStatus.COMPLETED
    assert ended["well"].return_value == "fine"


def test_the_sweeper_gets_the_original_exception(ended: Jobs) -> None:
    with pytest.raises(OddError, match="odd 7") as caught:
        _ = ended["raise"].return_value
    assert (caught.value.code, caught.value.detail) == (7, "of the job")


def test_its_traceback_shows_the_worker_s_frames(ended: Jobs) -> None:
    error = ended["raise"]._return_value
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames][-2:] == ["_end", "_raise"]
    assert frames[-1].filename == __file__
    assert "raise OddError" in (frames[-1].line or "")


def test_its_chain_comes_with_it(ended: Jobs) -> None:
    error = ended["raise"]._return_value
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args == ("missing",)
    text = "".join(traceback.format_exception(error))
    assert "The above exception was the direct cause" in text
    assert 'NOTHING["missing"]' in text


def test_an_exception_of_a_library_is_itself(ended: Jobs) -> None:
    assert type(ended["library"]._return_value) is RuntimeError
    assert "size" in str(ended["library"]._return_value)


def test_a_class_defined_in_a_function_keeps_its_name_and_base(ended: Jobs) -> None:
    error = ended["local_class"]._return_value
    assert type(error).__name__ == "LocalError"
    assert isinstance(error, RuntimeError)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("not_importable", "only_in_the_worker.Hidden: nobody else knows me"),
        ("not_picklable", "ValueError: with a lock"),
    ],
)
def test_an_exception_that_cannot_travel_is_named_and_keeps_its_frames(ended: Jobs, way: str, words: str) -> None:
    error = ended[way]._return_value
    assert words in f"{type(error).__name__}: {error}"
    assert any(frame.filename == __file__ for frame in traceback.extract_tb(error.__traceback__))


def test_a_value_that_cannot_travel_is_a_failure_that_names_its_type_and_rank(ended: Jobs) -> None:
    text = str(ended["value_not_picklable"]._return_value)
    assert "lock" in text
    assert "rank" in text


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("keyboard_interrupt", "KeyboardInterrupt in a worker"),
        ("system_exit", "exit code 3"),
        ("system_exit_text", "enough"),
        ("os_exit", "exit code 5"),
        ("os_exit_0", "without a result"),
        ("killed", "SIGKILL"),
        ("segfault", "SIGSEGV"),
    ],
)
def test_an_end_without_an_exception_of_its_own_is_described(ended: Jobs, way: str, words: str) -> None:
    error = ended[way]._return_value
    assert isinstance(error, Exception)  # what ends a job must not end the sweeper
    assert words in str(error)


def test_sys_exit_0_is_a_good_end(tmp_path: Path) -> None:
    (job,) = launch(lambda cfg: sys.exit(0), tmp_path)
    assert job.status is JobStatus.COMPLETED
    assert job.return_value is None


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, "SIG37")])
def test_an_agent_that_is_killed_takes_its_workers_along_and_nobody_else(
    tmp_path: Path, number: int, name: str
) -> None:
    def task(cfg: Any) -> Any:
        (tmp_path / f"worker.{cfg.x}").write_text(str(os.getpid()))
        if cfg.x == 0:
            os.kill(int((tmp_path / "sweep" / "0" / "agent.pid").read_text()), number)
            time.sleep(600)
        return cfg.x

    spy = ["+hydra.callbacks.spy._target_=tests.sweeps.test_returns.AgentPid"]
    jobs = launch(task, tmp_path / "sweep", *spy, jobs=[["+x=0"], ["+x=1"]])
    assert [job.status for job in jobs] == [JobStatus.FAILED, JobStatus.COMPLETED]
    assert f"was lost: it was killed by {name}" in str(jobs[0]._return_value)
    assert not Path(f"/proc/{(tmp_path / 'worker.0').read_text()}").exists()


class AgentPid:
    """A callback that writes down the agent's process id."""

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        """See Hydra."""
        (Path(config.hydra.runtime.output_dir) / "agent.pid").write_text(str(os.getpid()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


@pytest.mark.smoke
def test_a_failure_before_the_task_is_that_job_s_only(tmp_path: Path) -> None:
    jobs = launch(lambda cfg: cfg.y, tmp_path, "+y=${nowhere.to.be.found}", jobs=[["+x=1"], ["+x=2", "++y=3"]])
    assert [job.status for job in jobs] == [JobStatus.FAILED, JobStatus.COMPLETED]
    assert type(jobs[0]._return_value).__name__ == "InterpolationKeyError"


@pytest.mark.smoke
def test_nothing_starts_when_any_job_cannot_be_launched_as_configured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    devices = ["+devices=1", "hydra.launcher.nproc_per_node=${devices}"]
    with pytest.raises(SystemExit) as caught:
        launch(lambda cfg: None, tmp_path / "sweep", *devices, jobs=[["devices=1"], ["devices=0"]])
    assert caught.value.code == 2
    assert "hydra.launcher.nproc_per_node=0: must be 1 or more" in capfd.readouterr().err
    assert not (tmp_path / "sweep" / "0").exists()


def test_a_process_with_threads_launches_all_the_same(tmp_path: Path) -> None:
    """Such a process cannot be forked: a fresh interpreter must know the task by its pickle."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        (job,) = launch(lambda cfg: cfg.x + rank(), tmp_path, TWO, jobs=[["+x=5"]])
    finally:
        stop.set()
        thread.join()
    assert job.return_value == 5
