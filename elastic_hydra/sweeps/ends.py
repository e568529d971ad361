"""What has become of the jobs of a batch: into the journal, onto the console, and back to Hydra's sweeper."""

from __future__ import annotations

import logging
import random
import time
from typing import Any

from hydra.core.utils import JobReturn

from elastic_hydra.compat.hydra import returned
from elastic_hydra.failures.classify import Failure
from elastic_hydra.failures.policy import Decision, decide_attempt, in_time
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.errors import JobError
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.journal import events, reader
from elastic_hydra.journal.reader import Recorded
from elastic_hydra.journal.writer import Journal
from elastic_hydra.overview.words import duration, shown_path
from elastic_hydra.sweeps import returns
from elastic_hydra.sweeps.failure_limit import FailureLimit
from elastic_hydra.sweeps.job_end import NOT_STARTED, JobEnd
from elastic_hydra.sweeps.results import Results
from elastic_hydra.sweeps.steps import LeaveOut
from elastic_hydra.sweeps.summary import log_of

__all__ = ["Ends"]

log = logging.getLogger("elastic_hydra")


class Ends:
    """Notes how each job of a batch has ended.

    Args:
        journal: of the sweep.
        results: of the sweep.
        failures: counts the jobs that fail.
    """

    def __init__(self, journal: Journal, results: Results, failures: FailureLimit) -> None:
        self._journal = journal
        self._results = results
        self._failures = failures
        self.returns: dict[int, JobReturn] = {}
        """What the sweeper gets for each job, by number."""

    def after(self, attempt: Attempt, end: AttemptEnd) -> Attempt | None:
        """Note how an attempt has ended.

        Returns:
            the attempt that follows; None: the job has ended.
        """
        decision = _decide(attempt, end)
        if decision is None or not decision.again:
            self.ended(attempt, end, decision.reason if decision is not None else "")
            return None
        return self._try_again(attempt, end, decision)

    def _try_again(self, attempt: Attempt, end: AttemptEnd, decision: Decision) -> Attempt:
        failure, num = end.failure, attempt.job.num
        assert failure is not None, "there is no decision about a job that has finished"
        when = f"in {decision.after:.1f} s" if decision.after > 0 else "at once"
        log.warning("#%s: %s; tried again %s: %s", num, failure.reason, when, decision.reason)
        event = events.AttemptLost(
            num=num,
            attempt=attempt.number,
            kind=failure.kind.value,
            reason=failure.reason,
            decision=decision.reason,
            after=round(decision.after, 3),
        )
        self._journal.write(event, durable=True)
        not_before = time.monotonic() + decision.after
        return attempt.following(self._restarts(attempt, end), not_before)

    def ended(self, attempt: Attempt, end: AttemptEnd, no_further: str = "") -> None:
        """Note how a job has ended.

        Args:
            attempt: the last one at the job.
            end: how it ended.
            no_further: why the job is not tried again, where it might have been.
        """
        job, failure = attempt.job, end.failure
        job_end = JobEnd(
            job.num,
            job.overrides,
            end.state,
            reason=failure.reason if failure is not None else "",
            log=log_of(failure, job.log_dir) if failure is not None else None,
            value=returned(end.job_return) if failure is None else None,
            seconds=attempt.age(time.monotonic()),
            attempts=attempt.number + 1,
            restarts=len(self._restarts(attempt, end)),
            kind=failure.kind.value if failure is not None else "",
            traceback=end.traceback,
            decision=no_further or (failure.not_restarted if failure is not None else ""),
        )
        self.returns[job.num] = end.job_return
        self._journal.write_end(job_end.event(), job_end.value)
        if failure is None:
            self._results.finished(job_end)
            return
        if end.state == "failed":
            self._failures.count += 1
        self._results.add(job_end)
        self._say_failed(job_end, failure, no_further)

    def _say_failed(self, job_end: JobEnd, failure: Failure, no_further: str) -> None:
        why = failure.reason
        if failure.not_restarted:
            why += f"; not restarted: {failure.not_restarted}"
        if no_further:
            why += f"; not tried again: {no_further}"
        if job_end.log is not None:
            why += f"; see {shown_path(job_end.log)}"
        how = f"{job_end.state} after {duration(job_end.seconds)}"
        log.error("#%s %s: %s%s", job_end.num, how, why, self._results.progress())

    def _restarts(self, attempt: Attempt, end: AttemptEnd) -> tuple[float, ...]:
        """Return when a job's workers were restarted: its agent tells it or, where that was lost, the journal."""
        if end.restarts is not None:
            return end.restarts
        path = self._journal.path
        try:
            return reader.restarts(path, attempt.job.num, attempt.journal_start)
        except OSError as error:
            log.warning("#%s: %s cannot be read (%s): its last restarts are not counted", attempt.job.num, path, error)
            return attempt.restarts

    def left_out(self, jobs: LeaveOut) -> None:
        """Note that jobs are not started."""
        count = len(jobs.attempts)
        log.error("%s %s not started: %s", count, "job is" if count == 1 else "jobs are", jobs.reason)
        self._journal.write(events.JobsLeftOut(nums=[attempt.job.num for attempt in jobs.attempts], reason=jobs.reason))
        for attempt in jobs.attempts:
            job = attempt.job
            self.returns[job.num] = returns.failed(job, JobError(f"not started: {jobs.reason}"))
            self._results.add(JobEnd(job.num, job.overrides, NOT_STARTED, jobs.reason))

    def from_journal(self, job: Job, settled: Recorded, value: Any, mode: str) -> None:
        """Note how a job has ended that an earlier launcher ran, and that is not run again.

        Args:
            job: the job.
            settled: its record.
            value: what it has returned.
            mode: `hydra.launcher.resume`.
        """
        self.returns[job.num] = returns.recorded(job, settled, value, mode)
        self._results.add(
            JobEnd(job.num, job.overrides, settled.state, settled.reason, job.log_dir, value, recorded=True)
        )


def _decide(attempt: Attempt, end: AttemptEnd) -> Decision | None:
    """Decide about a job whose agent was lost; None: it was not, and what failed is beyond another attempt."""
    if end.failure is None or not end.agent_lost:
        return None
    launch, draw = attempt.job.launch, random.SystemRandom().random()
    decision = decide_attempt(launch.keys.retry, attempt.number + 1, end.failure, draw)
    limit = launch.keys.watch.time_limit
    return in_time(decision, None if limit is None else limit - attempt.age(time.monotonic()))
