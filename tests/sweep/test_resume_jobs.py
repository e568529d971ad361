"""Which jobs a resumed sweep has: their numbers, their directories, and that it comes to its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.sweep.apps import App, Finished

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
