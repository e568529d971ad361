"""What tests with a Slurm cluster share."""

from tests.slurm.login_shell import login_shell

__all__ = ["login_shell"]
