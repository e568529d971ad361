"""Which jobs a resumed sweep has: their numbers, their directories, and that it comes to its end."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.helpers.apps import App, Finished
from tests.helpers.batches import launch

pytestmark = pytest.mark.system

BODY = """
folder = Path(HydraConfig.get().runtime.output_dir)
with open(folder / "ran", "a") as file:
    file.write(f"{cfg.x}\\n")
return cfg.x
"""


def lines(folder: Path, event: str) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    return [line for line in found if line["event"] == event]


def values(finished: Finished) -> dict[int, Any]:
    """Return the recorded value of each job, each of which has ended once."""
    ends = lines(finished.folder, "end")
    assert len({end["num"] for end in ends}) == len(ends)
    return {end["num"]: end["value"] for end in ends}


def write_record(folder: Path, count: int, task: str = "app") -> None:
    """Leave the journal of a sweep `+x=range(count)` whose jobs have all finished."""
    folder.mkdir()
    written: list[dict[str, Any]] = [{"event": "sweep", "task": task, "resume": False}]
    for num in range(count):
        job = {"overrides": [f"+x={num}"], "config": f"x: {num}\n", "dir": str(folder / str(num))}
        written += [
            {"event": "job", "num": num, **job},
            {"event": "start", "num": num, "attempt": 0},
            {"event": "end", "num": num, "state": "finished", "reason": "", "value": num},
        ]
    with open(folder / "journal.jsonl", "w") as file:
        file.writelines(json.dumps({"v": 1, "time": 0.0, **line}) + "\n" for line in written)


def test_new_jobs_of_a_resumed_sweep_have_a_number_a_directory_and_a_value_each(tmp_path: Path) -> None:
    app = App(tmp_path, BODY)
    assert app.run("+x=1,2").returncode == 0
    extended = app.run("+x=3,2,4,5", "hydra.launcher.resume=true", "hydra.launcher.parallel=2")
    assert extended.returncode == 0, extended.output
    assert "hydra.launcher.resume=true: 1 of 4 jobs is recorded, 3 to run; 1 recorded job is no part" in extended.output
    assert "(4 of 4)" in extended.output
    assert values(extended) == {0: 1, 1: 2, 2: 3, 3: 4, 4: 5}
    ran = {folder.parent.name: folder.read_text().split() for folder in extended.folder.glob("*/ran")}
    assert ran == {"0": ["1"], "1": ["2"], "2": ["3"], "3": ["4"], "4": ["5"]}


def test_a_sweep_of_many_jobs_ends_when_all_of_them_are_recorded(tmp_path: Path) -> None:
    write_record(tmp_path / "sweep", 40)
    resumed = App(tmp_path, BODY).run("+x=range(40)", "hydra.launcher.resume=true")
    assert resumed.returncode == 0, resumed.output
    assert "40 finished" in resumed.output
    assert lines(resumed.folder, "start")[40:] == []


def test_only_the_last_of_many_jobs_is_to_be_run(tmp_path: Path) -> None:
    write_record(tmp_path / "sweep", 40)
    resumed = App(tmp_path, BODY).run("+x=range(41)", "hydra.launcher.resume=true")
    assert resumed.returncode == 0, resumed.output
    assert values(resumed) == {num: num for num in range(41)}


def test_a_job_that_is_refused_late_lets_no_other_start_and_the_table_is_complete(tmp_path: Path) -> None:
    refused = App(tmp_path, BODY).run(f"+x={'1,' * 40}0", "hydra.launcher.nproc_per_node='${oc.select:x,1}'")
    assert refused.returncode == 2, refused.output
    assert "Traceback" not in refused.output
    assert "hydra.launcher.nproc_per_node=0" in refused.output
    ended = len(lines(refused.folder, "end"))
    assert f"{40 - ended} not started" in refused.output


def test_a_recorded_sweep_whose_late_job_is_refused_ends(tmp_path: Path) -> None:
    write_record(tmp_path / "sweep", 40)
    record = tmp_path / "sweep" / "journal.jsonl"
    record.write_text(record.read_text().replace("x: 39", "x: 38"))
    refused = App(tmp_path, BODY).run("+x=range(40)", "hydra.launcher.resume=true")
    assert refused.returncode == 2, refused.output
    assert "job #39 is no longer what it was" in refused.output
    assert "Traceback" not in refused.output


# --- directories ---------------------------------------------------------------------------------------------------

RESOLVERS = """
import itertools
from datetime import datetime
numbers = itertools.count()
OmegaConf.register_new_resolver("turn", lambda: next(numbers))
OmegaConf.register_new_resolver("clock", lambda: datetime.now().strftime("%H%M%S%f"))
"""

CHECKPOINT = """
folder = Path(HydraConfig.get().runtime.output_dir)
checkpoint = folder / "checkpoint"
if checkpoint.exists():
    return checkpoint.read_text()
checkpoint.write_text(f"{cfg.x}")
raise RuntimeError("interrupted")
"""


@pytest.mark.parametrize(
    "place",
    [
        ["hydra.sweep.subdir='${clock:}/${x}'"],
        ["hydra.sweep.subdir='${now:%H%M%S%f}_${hydra.job.num}'"],
        ["hydra.sweep.subdir='${oc.env:PLACE}/${hydra.job.num}'"],
        ["hydra.sweep.subdir='${oc.env:PLACE}${turn:}'"],
    ],
)
def test_a_resumed_job_finds_its_checkpoint_wherever_its_directory_would_be_now(
    tmp_path: Path, place: list[str]
) -> None:
    app = App(tmp_path, CHECKPOINT, before=RESOLVERS)
    assert app.run("+x=a,b", *place, environ={"PLACE": "here"}).returncode == 1
    resumed = app.run("+x=b,a", *place, "hydra.launcher.resume=true", environ={"PLACE": "there"})
    assert resumed.returncode == 0, resumed.output
    assert [end["value"] for end in lines(resumed.folder, "end")[2:]] == ["b", "a"]
    assert len(list(resumed.folder.rglob("checkpoint"))) == 2


def test_a_job_has_one_directory_also_where_a_resolver_is_not_cached(tmp_path: Path) -> None:
    app = App(tmp_path, BODY, before=RESOLVERS)
    finished = app.run("+x=1,2", "hydra.sweep.subdir='${turn:}'")
    assert finished.returncode == 0, finished.output
    made = {folder for folder in finished.folder.iterdir() if folder.is_dir()}
    assert {Path(job["dir"]) for job in lines(finished.folder, "job")} == made
    assert all((folder / "ran").exists() and (folder / ".hydra").exists() for folder in made)


def test_a_sweep_that_has_been_moved_is_resumed_where_it_is(tmp_path: Path) -> None:
    app = App(tmp_path, CHECKPOINT)
    first = app.run("+x=a,b")
    moved = tmp_path / "moved"
    first.folder.rename(moved)
    resumed = app.run("+x=a,b", f"hydra.sweep.dir={moved}", "hydra.launcher.resume=true")
    assert resumed.returncode == 0, resumed.output
    assert not first.folder.exists()


@pytest.mark.parametrize("place", ["same", "'${oc.select:x}'", "'seed_${oc.select:seed}'"])
def test_two_jobs_with_one_directory_are_refused_before_anything_starts(tmp_path: Path, place: str) -> None:
    refused = App(tmp_path, BODY).run("+x=1,2,1", "+seed=5", f"hydra.sweep.subdir={place}")
    assert refused.returncode == 2, refused.output
    assert "jobs #0 (+x=1 +seed=5) and #" in refused.output
    assert not (refused.folder / "journal.jsonl").exists()


def test_a_directory_that_a_late_job_has_as_well_is_refused_before_anything_starts(tmp_path: Path) -> None:
    place = "hydra.sweep.subdir='seed_${oc.select:seed}/${hydra:job.name}'"
    refused = App(tmp_path, BODY).run("+x=1,2", "+seed=range(40)", place)
    assert refused.returncode == 2, refused.output
    assert "jobs #0 (+x=1 +seed=0) and #40 (+x=2 +seed=0) have the same directory" in refused.output
    assert not (refused.folder / "journal.jsonl").exists()


def test_a_new_job_does_not_get_the_directory_of_a_recorded_one(tmp_path: Path) -> None:
    app = App(tmp_path, BODY)
    place = "hydra.sweep.subdir='${oc.select:place,p}'"
    assert app.run("+x=1", place).returncode == 0
    refused = app.run("+x=2", place, "hydra.launcher.resume=true")
    assert refused.returncode == 2, refused.output
    assert "jobs #0 (+x=1) and #1 (+x=2) have the same directory" in refused.output
    advised = app.run("+x=2", "hydra.sweep.subdir='job_${hydra.job.num}'", "hydra.launcher.resume=true")
    assert advised.returncode == 0, advised.output


def test_a_launcher_that_ends_while_another_one_starts_is_not_overlooked(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    write_record(folder, 1, task="task")

    def meddle() -> str:
        with open(folder / "journal.jsonl", "a") as file:
            file.write(json.dumps({"v": 1, "event": "stop", "reason": "SIGTERM"}) + "\n")
        return "there"

    OmegaConf.register_new_resolver("meddle", meddle, replace=True)
    with pytest.raises(SystemExit, match="2"):
        launch(print, folder, "hydra.launcher.resume=true", "hydra.sweep.subdir='${meddle:}'")
    assert lines(folder, "sweep")[1:] == []


def test_a_killed_sweep_of_many_jobs_goes_on_with_two_at_once_and_repeats_none(tmp_path: Path) -> None:
    body = """
    folder = Path(HydraConfig.get().runtime.output_dir)
    with open(folder / "ran", "a") as file:
        file.write(f"{cfg.x}\\n")
    if cfg.x == 4 and not Path("once").exists():
        Path("once").touch()
        print("waiting", flush=True)
        time.sleep(600)
    return cfg.x
    """
    app = App(tmp_path, body)
    with app.started("+x=range(6)", "hydra.launcher.parallel=2") as running:
        running.wait_for("waiting")
        running.signal(signal.SIGKILL)
        running.wait_for_launcher()
        assert running.survivors() == []
    done = values(Finished(0, "", tmp_path / "sweep"))
    resumed = app.run("+x=range(8)", "hydra.launcher.parallel=2", "hydra.launcher.resume=true")
    assert resumed.returncode == 0, resumed.output
    assert values(resumed) == {num: num for num in range(8)}
    ran = {int(path.parent.name): path.read_text().split() for path in resumed.folder.glob("*/ran")}
    assert {num: set(xs) for num, xs in ran.items()} == {num: {str(num)} for num in range(8)}
    assert all(len(ran[num]) == 1 for num in done)
