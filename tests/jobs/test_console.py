"""What a person sees of a sweep while it runs: whose each line is, how it goes on, and each reason where it belongs."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.helpers.apps import App, Finished

pytestmark = pytest.mark.system

LOSES_A_PEER = """
    import torch.distributed as dist

    rank = int(os.environ["RANK"])
    log.info("log of rank %s", rank)
    print("output of rank", rank)
    dist.init_process_group("gloo")
    dist.barrier()
    if rank == 1 and cfg.x == 2:
        raise ValueError("the loss\\nis nan")
    dist.barrier()
    dist.destroy_process_group()
    return cfg.x / 3
"""
TWO = "hydra.launcher.nproc_per_node=2"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    app = App(tmp_path_factory.mktemp("console"), LOSES_A_PEER)
    return app.run("+x=1,2,3", "+how=slow", TWO, "hydra.launcher.parallel=3", "hydra/launcher/logs=all")


@pytest.mark.smoke
def test_with_several_jobs_at_once_each_line_says_whose_it_is(sweep: Finished) -> None:
    for job in (0, 1, 2):
        assert f"#{job} rank 0: output of rank 0" in sweep.output
        assert f"#{job} rank 1: output of rank 1" in sweep.output
        assert re.search(rf"^#{job} rank 0: .*log of rank 0$", sweep.output, re.MULTILINE)


def test_a_jobs_end_is_a_line_with_its_value_and_the_progress(sweep: Finished) -> None:
    assert re.search(r"#0 finished: 0\.333333 in \d+\.\d s \(\d of 3\)", sweep.output)
    assert re.search(r"#1 failed after .*: rank 1 raised ValueError: the loss; is nan.*\(\d of 3\)", sweep.output)


def test_a_reason_is_said_when_it_happens_and_once_in_the_table(sweep: Finished) -> None:
    assert sweep.output.count("rank 1 raised ValueError: the loss; is nan") == 2
    assert "[ERROR]" not in sweep.output
    log = (sweep.folder / "1" / "app.log").read_text()
    assert log.count("rank 1 raised ValueError: the loss; is nan") == 1


def test_ranks_that_died_of_anothers_death_do_not_say_so_on_the_console(sweep: Finished) -> None:
    told = [line for line in sweep.output.splitlines() if line.startswith("#1 rank ")]
    assert [line for line in told if "rank 1: " in line and "ValueError" in line]
    assert not [line for line in told if "#1 rank 0: " in line and "Error" in line]


def test_the_first_lines_say_where_the_output_goes_and_the_last_what_became_of_it(sweep: Finished) -> None:
    first = next(line for line in sweep.output.splitlines() if "Launching 3 jobs" in line)
    assert first.endswith("output: sweep")
    assert "all with +how=slow" in sweep.output
    assert (sweep.folder / "results.csv").read_text().startswith("job,state,value,seconds,attempts,restarts,+x,+how,")
    assert (sweep.folder / "summary.txt").read_text().startswith("2 finished, 1 failed\n")


def test_one_job_at_a_time_needs_no_names(tmp_path: Path) -> None:
    finished = App(tmp_path, "print('output')\nreturn 1.0").run("+x=1,2", TWO)
    assert finished.output.count("\noutput\n") == 2
    assert " on host " not in finished.output


def test_a_sweep_of_many_batches_has_one_beginning_and_one_end(tmp_path: Path) -> None:
    finished = App(tmp_path, "return cfg.x").run("+x=1,2,3", "hydra.sweeper.max_batch_size=1")
    assert finished.output.count("Launching") == 1
    assert finished.output.count("finished: ") == 3
    assert "3 finished" in finished.output
    assert len((finished.folder / "results.csv").read_text().splitlines()) == 4


def test_a_sweep_of_many_batches_that_ends_by_a_failure_shows_its_table(tmp_path: Path) -> None:
    finished = App(tmp_path, "return 1 / cfg.x").run("+x=1,0,3", "hydra.sweeper.max_batch_size=1")
    assert finished.returncode == 1
    assert "1 finished, 1 failed" in finished.output
    assert (finished.folder / "summary.txt").read_text().startswith("1 finished, 1 failed\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_shows_no_stack_and_no_signal_of_torch(number: int, tmp_path: Path) -> None:
    app = App(tmp_path, "print('ready', flush=True)\ntime.sleep(600)")
    with app.started("+x=1,2", TWO) as running:
        running.wait_for("ready")
        running.signal(number)
        finished = running.finish()
    assert "Traceback" not in finished.output
    assert "death signal" not in finished.output
    assert f"{signal.Signals(number).name}: stopping #0" in finished.output
    stderr = (finished.folder / "0/logs/restart_0/rank_0/stderr.log").read_text()
    assert ("KeyboardInterrupt" in stderr) == (number == signal.SIGINT)


def test_a_console_that_is_not_utf_8_loses_no_line(tmp_path: Path) -> None:
    app = App(tmp_path, "os.write(1, 'one ü two\\n'.encode())\nraise ValueError('naïve 🏖 value')")
    finished = app.run("+x='é',b", environ={"PYTHONIOENCODING": "ascii"})
    assert "Logging error" not in finished.output
    assert "2 failed" in finished.output
    assert re.search(r"one (ü|\\xfc) two", finished.output)
    assert "#0 failed after" in finished.output
    assert "raised ValueError: na\\xefve \\U0001f3d6 value" in finished.output


def test_a_very_long_message_is_cut_where_people_read_and_whole_in_the_log(tmp_path: Path) -> None:
    app = App(tmp_path, "raise ValueError('first ' + 'x' * 200_000 + ' last')")
    finished = app.run("+x=1")
    lines = [line for line in finished.output.splitlines() if "#0 failed after" in line]
    assert len(lines) == 1
    assert len(lines[0]) < 1000
    assert "first xxx" in lines[0]
    assert "xxx last" in lines[0]
    assert "x" * 200_000 in (finished.folder / "0/logs/restart_0/rank_0/stderr.log").read_text()
