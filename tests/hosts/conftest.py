"""Every launch here must leave the process that makes it as it was."""

from tests.helpers.leaks import nothing_left, opened_once, pytest_pyfunc_call

__all__ = ["nothing_left", "opened_once", "pytest_pyfunc_call"]
