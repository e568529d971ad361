"""The exceptions that say why a job has failed, where its own code has raised none."""

from __future__ import annotations

from hydra.errors import CompactHydraException

__all__ = ["JobError", "JobInterruptedError"]


class JobError(CompactHydraException, RuntimeError):
    """A job failed otherwise than by an exception of its code: its text says how, where, and where the logs are.

    Hydra prints it without a stack trace, which would show the launcher's code only.
    """


class JobInterruptedError(JobError):
    """A job was stopped by a signal, to the launcher or to its agent."""
