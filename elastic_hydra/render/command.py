"""The command line of a launch, taken apart: what starts it, and what it is given."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import ROOT
from elastic_hydra.jobs.program import Program
from elastic_hydra.sweeps.rerun import command_with

__all__ = ["Command"]

_NAME = "elastic-hydra"
_RUN = "run"
_END = "--"
"""What stands between the settings of `elastic-hydra run` and its program."""
_MODULE = "-m"
_MULTIRUN = ("-m", "--multirun")
_STARTERS = ("srun", "sbatch", "salloc", "mpirun", "mpiexec", "kubectl", "nohup")
"""Programs that start a launch on other machines, or behind a terminal."""
_WITH_VALUE = ("-W", "-X")
"""Options of Python that are followed by a value."""


@dataclass(frozen=True)
class Command:
    """A command line that launches: of an app of Hydra's, or `elastic-hydra run`."""

    name: str
    """Of the app, or of the program."""
    executable: str
    """The path of the interpreter, or of `elastic-hydra`, on this machine."""
    elsewhere: str
    """The executable's name on a machine that has its own."""
    app: tuple[str, ...]
    """What the executable runs: a script, `-m` and a module, or the verb `run`."""
    arguments: tuple[str, ...]
    """What follows: options and overrides of Hydra; of `run` also `--` and its program."""

    @classmethod
    def of(cls, words: Sequence[str]) -> Command:
        """Take a command line apart.

        Args:
            words: `python train.py …`, `train.py …`, `-m package.train …`, or `elastic-hydra run … -- PROGRAM`.

        Raises:
            ConfigError: nothing on this machine is started by it; it says what to do.
        """
        first = os.path.basename(words[0]) if words else ""
        if first == _NAME:
            return cls._of_run(words)
        if first == "torchrun":
            raise ConfigError("torchrun: give a command of this package; `elastic-hydra from-torchrun` translates it")
        if first in _STARTERS:
            raise ConfigError(f"{first}: the text that is written says how to start the command: leave it out")
        if not words[1:] and first.startswith("python"):
            raise ConfigError(f"{first}: there is no app behind it: add a script, or -m and a module")
        program = Program.of(words)
        if program.entrypoint != sys.executable:
            return cls(program.name, program.entrypoint, program.entrypoint, (), program.arguments)
        at = _end_of_app(program.arguments)
        app, arguments = program.arguments[:at], program.arguments[at:]
        name = program.name if not app[0].startswith("-") or app[0] == _MODULE else os.path.basename(app[-1])
        return cls(name.removesuffix(".py"), sys.executable, "python", app, arguments)

    @classmethod
    def _of_run(cls, words: Sequence[str]) -> Command:
        if len(words) < 2 or words[1] != _RUN or _END not in words:
            raise ConfigError(
                f"{' '.join(words[:2])}: only {_NAME} run SETTINGS -- PROGRAM launches something: give that"
            )
        program = Program.of(words[words.index(_END) + 1 :])
        beside = os.path.join(os.path.dirname(sys.executable), _NAME)  # where its environment is not on PATH
        found = shutil.which(words[0]) or shutil.which(beside)
        if found is None:
            raise ConfigError(f"{words[0]}: there is no such program: correct its name or path")
        return cls(program.name, os.path.abspath(found), _NAME, (_RUN,), tuple(words[2:]))

    @property
    def is_run(self) -> bool:
        """Whether it is `elastic-hydra run`, whose settings have no `hydra.launcher.` before them."""
        return self.app == (_RUN,)

    @property
    def given(self) -> tuple[str, ...]:
        """Options and overrides, without the program of `run`."""
        return self.arguments[: self.arguments.index(_END)] if self.is_run else self.arguments

    @property
    def is_multirun(self) -> bool:
        """Whether `-m` is among the options."""
        return any(word in _MULTIRUN for word in self.given)

    def key(self, name: str) -> str:
        """Return how the command line names a key, as `retry.max_restarts`."""
        return name if self.is_run else f"{ROOT}.{name}"

    def group(self, name: str) -> str:
        """Return how the command line names a group of profiles, as `rendezvous`."""
        return name if self.is_run else f"{ROOT.replace('.', '/')}/{name}"

    def program(self, *, here: bool) -> list[str]:
        """Return what starts the app.

        Args:
            here: whether it shall run with the files of this machine, as on nodes of a cluster that share them.
        """
        return [self.executable if here else self.elsewhere, *self.app]

    def dry_run(self) -> list[str]:
        """Return the command that shows what would be launched on this machine."""
        further = [f"{self.key('dry_run')}=true"]
        return command_with(self.program(here=True), self.arguments, further, single=not self.is_multirun)


def _end_of_app(words: Sequence[str]) -> int:
    """Return where the arguments of an app begin: behind Python's own options and the script or module."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != _MODULE:
        if words[at] == "-c":
            raise ConfigError("-c: there is no app in a command of Python's: put it into a file")
        at += 2 if words[at] in _WITH_VALUE else 1
    return at + (2 if words[at : at + 1] == (_MODULE,) else 1)
