"""Two hosts never run one sweep at once: a launcher that cannot reach the directory ends before another one begins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from elastic_hydra.journal import owner
from elastic_hydra.journal.owner import Owner
from elastic_hydra.sweeps.slurm_job import SlurmJob
from tests.helpers.launching import Script, is_alive, script

ELSEWHERE = Owner("a", 0.3, "7", 0, host="other", boot="other")


# --- who waits for whom -------------------------------------------------------------------------------------------


def awaited(folder: Path, job: SlurmJob | None, *, meanwhile: Owner | str | None = None) -> tuple[list[str], str]:
    """Return what is said while a launcher waits, and who keeps it out, if another one does something meanwhile."""
    journal, said = folder / "journal.jsonl", []
    job = job or SlurmJob("", 0)

    def say(text: str) -> None:
        said.append(text)
        if isinstance(meanwhile, Owner):
            owner.write(journal, meanwhile)
        elif meanwhile == "ends":
            owner.remove(journal, ELSEWHERE.id)

    other = owner.await_end(journal, job.id, job.restarts, say)
    return said, "" if other is None else str(other)


def test_nobody_is_awaited_where_there_is_no_record(tmp_path: Path) -> None:
    assert awaited(tmp_path, None) == ([], "")
    owner.write(tmp_path / "journal.jsonl", Owner("a", 600.0, "7"))  # on this host, whose lock says more
    assert awaited(tmp_path, None) == ([], "")
    (tmp_path / "journal.owner").write_text("{}")
    assert awaited(tmp_path, None) == ([], "")


def test_another_node_of_the_same_life_of_the_job_is_not_awaited(tmp_path: Path) -> None:
    owner.write(tmp_path / "journal.jsonl", ELSEWHERE)
    assert awaited(tmp_path, SlurmJob("7", 0)) == ([], "")


@pytest.mark.parametrize("job", [None, SlurmJob("7", 1), SlurmJob("8", 0)])
def test_a_record_that_stands_still_is_awaited_to_its_end(tmp_path: Path, job: SlurmJob | None) -> None:
    owner.write(tmp_path / "journal.jsonl", ELSEWHERE)
    said, refused = awaited(tmp_path, job)
    who = f"the launcher on host other (pid {os.getpid()}, Slurm job 7)"
    assert said == [f"waiting until {who} says that it has ended, or has been silent for 0.3 s"]
    assert refused == ""


def test_who_says_that_it_has_ended_is_not_awaited_any_longer(tmp_path: Path) -> None:
    owner.write(tmp_path / "journal.jsonl", replace(ELSEWHERE, lasts=600.0))
    said, refused = awaited(tmp_path, None, meanwhile="ends")
    assert (len(said), refused) == (1, "")


def test_who_renews_its_record_is_at_work(tmp_path: Path) -> None:
    renewed = replace(ELSEWHERE, lasts=600.0, renewals=1)
    owner.write(tmp_path / "journal.jsonl", replace(ELSEWHERE, lasts=600.0))
    _, refused = awaited(tmp_path, None, meanwhile=renewed)
    assert refused.startswith("the launcher on host other")


def test_an_earlier_life_of_the_same_job_is_awaited_though_it_renews(tmp_path: Path) -> None:
    owner.write(tmp_path / "journal.jsonl", ELSEWHERE)
    said, refused = awaited(tmp_path, SlurmJob("7", 1), meanwhile=replace(ELSEWHERE, renewals=1))
    assert (len(said), refused) == (1, "")


# --- processes ----------------------------------------------------------------------------------------------------

LAUNCHER = """
import os, signal, sys, time
from pathlib import Path
from elastic_hydra import timeouts
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps import lease
from elastic_hydra.sweeps.slurm_job import SlurmJob

folder, life, length = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
job = SlurmJob("7", life)
timeouts.LEASE = length
timeouts.AGENT_MARGIN = timeouts.SERVER_MARGIN = 0.0
print("asks", flush=True)
lease.await_other_host(folder / "journal.jsonl", "hydra.sweep.dir", job)
journal = Journal(folder)
lease.keep(journal.path, "hydra.sweep.dir", job, 0.0)
print("works", flush=True)
sys.stdin.read() if len(sys.argv) == 4 else time.sleep(600)
"""


def record(folder: Path) -> Owner | None:
    return owner.owner_of(folder / "journal.jsonl")


@pytest.mark.system
def test_an_end_in_order_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    with script(tmp_path, LAUNCHER, str(tmp_path / "sweep"), "0", "600") as launcher:
        assert launcher.words(2) == ["asks", "works"]
        found = record(tmp_path / "sweep")
        assert found is not None
        assert (found.pid, found.slurm_job) == (launcher.process.pid, "7")
        assert launcher.process.wait(60) == 0
        assert record(tmp_path / "sweep") is None


@pytest.mark.system
def test_the_end_of_a_launcher_that_is_killed_is_said_when_nobody_holds_the_lock(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    with script(tmp_path, LAUNCHER, str(tmp_path / "sweep"), "0", "600", "stay") as launcher:
        launcher.words(2)
        launcher.process.kill()
        launcher.process.wait()
        while record(tmp_path / "sweep") is not None:
            time.sleep(0.02)


@pytest.mark.system
def test_a_launcher_that_another_one_has_replaced_is_killed(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    with script(tmp_path, LAUNCHER, str(tmp_path / "sweep"), "0", "20", "stay") as launcher:
        launcher.words(2)
        owner.write(tmp_path / "sweep" / "journal.jsonl", ELSEWHERE)
        assert launcher.process.wait(60) == -signal.SIGKILL
        assert "the launcher on host other" in launcher.stderr
    assert record(tmp_path / "sweep") == ELSEWHERE


def on_host(name: str) -> list[str]:
    """Return a command that runs another one under a host name of its own, where a cut hides what is shared."""
    return ["unshare", "--uts", "--mount", "--propagation", "private", "sh", "-c", f'hostname {name}; exec "$@"', "sh"]


@pytest.fixture
def hosts() -> None:
    """Skip where there can be no hosts."""
    done = subprocess.run([*on_host("a"), "true"], capture_output=True, text=True, check=False)
    if shutil.which("nsenter") is None or done.returncode != 0:
        pytest.skip(f"hosts need namespaces: {done.stderr.strip()}")


def launcher_on(host: str, folder: Path, shared: Path, life: int) -> Script:
    folder.mkdir()
    return Script(folder, LAUNCHER, str(shared), str(life), "5", "stay", command=[*on_host(host), sys.executable])


@pytest.mark.system
@pytest.mark.usefixtures("hosts")
def test_a_life_that_is_cut_off_has_ended_when_the_next_one_begins(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    old = launcher_on("n1", tmp_path / "n1", shared, 0)
    new = None
    try:
        old.words(2)
        new = launcher_on("n2", tmp_path / "n2", shared, 1)
        assert new.words(1) == ["asks"]
        (shared / "journal.lock").unlink()  # as if it held on the old host only
        # The cable is cut: what was shared is not there any more on the old host.
        cut = ["nsenter", f"--target={old.process.pid}", "--mount", "mount", "-t", "tmpfs", "cut", str(shared)]
        subprocess.run(cut, check=False)  # on a busy machine, the lease may be over already
        assert new.words(1, timeout=200.0) == ["works"]
        assert not is_alive(old.process.pid)
        assert old.process.wait() == -signal.SIGKILL
        assert "waiting until the launcher on host n1" in new.stderr
        found = record(shared)
        assert found is not None
        assert (found.host, found.restarts) == ("n2", 1)
    finally:
        for each in [old, *([new] if new else [])]:
            each.end()
