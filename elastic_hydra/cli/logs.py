"""`elastic-hydra logs`: what the workers of a job have written, or the launcher."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.arguments import DIRECTORY, JOB
from elastic_hydra.cli.errors import UserError
from elastic_hydra.overview.follow import Follower
from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.log_files import rank_folder, ranks_in, restarts_in
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import shown_path

__all__ = ["command"]

_INTERVAL = 0.25
"""Seconds between two looks of `--follow`."""
_ALL = "all"


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="DIR")
@click.argument("job", type=JOB, metavar="[JOB]", required=False)
@click.option("-r", "--rank", metavar="R", help="Show this rank, or `all`. Default: the one that failed, or 0.")
@click.option("-a", "--attempt", type=click.IntRange(min=1), metavar="A", help="Show this attempt; 1 is the first.")
@click.option("--restart", type=click.IntRange(min=0), metavar="N", help="Show the files of restart_N.")
@click.option("-f", "--follow", is_flag=True, help="Show what follows, too, until the job has ended.")
@click.option("--launcher", is_flag=True, help="Show the output of a launcher that was detached from its terminal.")
@click.option("-g", "--grep", metavar="REGEX", help="Show only lines in which this regular expression matches.")
def command(
    directory: str,
    job: int | None,
    rank: str | None,
    attempt: int | None,
    restart: int | None,
    follow: bool,
    launcher: bool,
    grep: str | None,
) -> None:
    """Show what the workers of a job have written.

    Shown is what they have written since they were started last, unless another start is asked for. DIR is the
    directory of the sweep. JOB may be left out where there is only one.
    """
    follower = sweeps.opened(sweeps.find(directory))[0]
    shown = _Shown(_compiled(grep), prefixed=rank == _ALL)
    if launcher:
        if any(given is not None for given in (job, rank, attempt, restart)):
            raise UserError("--launcher: its output is about all jobs: leave JOB, --rank, --attempt and --restart out")
        _show_launcher(follower, shown, follow=follow)
        return
    chosen = sweeps.job_of(follower.overview, job)
    while True:
        going = follow and follower.overview.state_of(chosen) in ("running", "waiting")
        if not (going and not restarts_in(chosen.log_dir)):  # with --follow, a job may have yet to start
            number = _restart(follower.overview, chosen, attempt, restart)
            shown.show(chosen.log_dir, number, _ranks(chosen, number, rank))
        if not going:
            break
        time.sleep(_INTERVAL)
        sweeps.read(follower)
        chosen = sweeps.job_of(follower.overview, chosen.num)
    if not shown.has_files():
        raise UserError(_why_no_files(follower.overview, chosen))
    shown.end()


def _show_launcher(follower: Follower, shown: _Shown, *, follow: bool) -> None:
    """Show the output of the launcher, until it has ended if it is followed."""
    while True:
        sweep = follower.overview
        if not sweep.output:
            where = f" on {sweep.host}" if sweep.host else ""
            raise UserError(
                f"--launcher: the output of the launcher of {shown_path(sweep.folder)} went to where it was "
                f"started{where}; only with hydra.launcher.detach it goes to a file"
            )
        going = follow and sweep.state in ("submitted", "running")
        shown.show_file(sweep.output)
        if not going:
            break
        time.sleep(_INTERVAL)
        sweeps.read(follower)
    if not shown.has_files():
        raise UserError(f"{shown_path(sweep.output)} is gone: somebody has removed it")
    shown.end()


def _compiled(grep: str | None) -> re.Pattern[bytes] | None:
    try:
        return None if grep is None else re.compile(grep.encode())
    except re.error as error:
        hint = "put \\ before signs such as ( or ["
        raise UserError(f"--grep={grep}: this is no regular expression ({error}); {hint}") from None


def _restart(sweep: SweepOverview, job: JobOverview, attempt: int | None, restart: int | None) -> int:
    """Return which start of the workers is shown: the number of its folder.

    Raises:
        UserError: there are no files of it.
    """
    there = restarts_in(job.log_dir)
    if not there:
        raise UserError(_why_no_files(sweep, job))
    if restart is not None:
        if restart not in there:
            raise UserError(f"--restart={restart}: #{job.num} has {_some('restart', there)}")
        return restart
    if attempt is None:
        return there[-1]
    first, behind = _part_of(job, attempt)
    of_attempt = [number for number in there if first <= number < behind]
    if not of_attempt:
        raise UserError(f"--attempt={attempt}: the workers of #{job.num} have written nothing in it")
    return of_attempt[-1]


def _part_of(job: JobOverview, attempt: int) -> tuple[int, float]:
    """Return the number of the first folder of an attempt, and that behind its last one."""
    firsts = job.first_restarts
    if not 1 <= attempt <= job.attempt + 1:
        made = "1 attempt" if job.attempt == 0 else f"{job.attempt + 1} attempts"
        raise UserError(f"--attempt={attempt}: there was {made} at #{job.num}; 1 is the first")
    first = firsts.get(attempt - 1)
    if first is None:
        raise UserError(
            f"--attempt={attempt}: this journal does not say which files are whose; choose with --restart=N, of which "
            f"the newest is {restarts_in(job.log_dir)[-1]}"
        )
    return first, firsts.get(attempt, float("inf"))


def _why_no_files(sweep: SweepOverview, job: JobOverview) -> str:
    state = sweep.state_of(job)
    if job.started is None:
        return f"#{job.num} has no logs: it was not started yet ({state}); `elastic-hydra explain` says why"
    why = "hydra/launcher/logs=console sends all to the console, or they were removed"
    return f"#{job.num} has no files in {shown_path(job.log_dir)}: {why}"


def _ranks(job: JobOverview, restart: int, rank: str | None) -> list[int]:
    """Return the ranks that are shown.

    Raises:
        UserError: a rank has no files.
    """
    there = ranks_in(job.log_dir, restart)
    if rank == _ALL:
        return there
    if rank is None:
        failed = job.state == "failed" and job.failed_rank in there
        return [job.failed_rank] if failed and job.failed_rank is not None else there[:1]
    if not rank.isdecimal() or int(rank) not in there:
        raise UserError(f"--rank={rank}: #{job.num} has logs of {_some('rank', there)}; or say --rank=all")
    return [int(rank)]


def _some(word: str, numbers: Sequence[int]) -> str:
    """Name numbers in a few words: `rank 0 to 3`."""
    if not numbers:
        return f"no {word}"
    return f"{word} {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")


class _Shown:
    """Writes what is new in files of workers to standard output.

    Args:
        pattern: what a line must have to be shown; None: all lines are.
        prefixed: whether each line begins with its rank.
    """

    def __init__(self, pattern: re.Pattern[bytes] | None, *, prefixed: bool) -> None:
        self._pattern = pattern
        self._prefixed = prefixed
        self._tails: dict[str, _Tail] = {}
        self._restart: int | None = None
        self._last = "stdout"
        """The stream whose lines were written last."""

    def show(self, log_dir: str, restart: int, ranks: Sequence[int]) -> None:
        """Write what is new of some ranks.

        Args:
            log_dir: where the workers of the job write.
            restart: which start of the workers it is about.
            ranks: the workers.
        """
        if restart != self._restart:
            self._pass_on_all(self._tails.values())
            self.end()
            if self._restart is not None:
                self._write(f"==> restart_{restart} <==\n".encode())
            self._restart = restart
        tails = []
        for rank in ranks:
            for stream in ("stdout", "stderr"):
                path = f"{rank_folder(log_dir, restart, rank)}/{stream}.log"
                tails.append(self._tails.setdefault(path, _Tail(path, rank, stream)))
        self._pass_on_all(tails)

    def show_file(self, path: str) -> None:
        """Write what is new in a file that is no worker's."""
        self._pass_on_all([self._tails.setdefault(path, _Tail(path, 0, "stdout"))])

    def has_files(self) -> bool:
        """Whether any of the files that are shown is there."""
        return any(map(os.path.exists, self._tails))

    def _pass_on_all(self, tails: Iterable[_Tail]) -> None:
        by_line = self._prefixed or self._pattern is not None
        for tail in tails:
            for data in tail.lines() if by_line else tail.parts():
                self._pass_on(tail, data)

    def end(self) -> None:
        """Write what has no end of line yet: nothing follows."""
        for tail in self._tails.values():
            if rest := tail.rest():
                self._pass_on(tail, rest + b"\n")

    def _pass_on(self, tail: _Tail, data: bytes) -> None:
        if self._pattern is not None and not self._pattern.search(data):
            return
        if self._prefixed:
            data = f"rank {tail.rank}: ".encode() + data
        elif tail.stream != self._last:
            self._write(f"==> {tail.stream} <==\n".encode())
            self._last = tail.stream
        self._write(data)

    def _write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class _Tail:
    """Reads what is new in the file of a worker."""

    def __init__(self, path: str, rank: int, stream: str) -> None:
        self._path = Path(path)
        self.rank = rank
        self.stream = stream
        self._position = 0
        self._part = b""
        """The begin of a line that has no end yet."""

    def parts(self) -> Iterator[bytes]:
        """Yield what is new, in parts of any length; a file that is not there has nothing."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._position)
                while data := file.read(1 << 20):
                    self._position += len(data)
                    yield data
        except FileNotFoundError:
            return  # this stream goes to the console only

    def lines(self) -> Iterator[bytes]:
        """Yield the new lines that are whole."""
        for data in self.parts():
            *lines, self._part = (self._part + data).split(b"\n")
            for line in lines:
                yield line + b"\n"

    def rest(self) -> bytes:
        """Return the begin of a line that has no end, and forget it."""
        rest, self._part = self._part, b""
        return rest
