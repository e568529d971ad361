"""A launcher that is to be started once more, by the command line of this process, and where its output goes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import LOCAL
from elastic_hydra.config.problems import ROOT, shown
from elastic_hydra.config.spelling import spelled
from elastic_hydra.config.typed import resolved
from elastic_hydra.journal.files import open_private
from elastic_hydra.overview.words import shown_path
from elastic_hydra.sweeps.rerun import command_with, override, program_of
from elastic_hydra.sweeps.results import given_overrides
from elastic_hydra.sweeps.start import RUN_DIR, SWEEP_DIR, check_start

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Output", "Relaunch"]


@dataclass(frozen=True)
class Relaunch:
    """What is started once more."""

    settings: DictConfig
    """The sweep's `hydra.launcher`, checked."""
    name: str
    """Of the app."""
    program: Sequence[str]
    """What starts the app: interpreter and script."""
    arguments: Sequence[str]
    """What the app was given."""
    key: str
    """That names the directory."""
    folder: Path
    """Where it writes, as an absolute path."""
    said_folder: str
    """The directory as the configuration says it."""
    single: bool
    """Whether it is a run without `-m`."""

    @classmethod
    def of(cls, config: DictConfig, settings: DictConfig, *, single: bool) -> Relaunch:
        """Find out how this process was started.

        Args:
            config: of the sweep or the run.
            settings: see the field.
            single: see the field.

        Raises:
            ConfigError: not by a command line; or its directory will not do.
        """
        program = program_of(given_overrides(config))
        if not program:
            raise ConfigError(
                f"{ROOT}.detach={shown(settings.detach)}: the launcher is started once more by its command line, and "
                "Python code or a notebook has started this one. Leave the key out, or start the app by a command"
            )
        key = RUN_DIR if single else SWEEP_DIR
        folder = str(resolved(config.hydra.run if single else config.hydra.sweep, "dir", key))
        check_start(key, folder)
        arguments = sys.orig_argv[len(program) :]
        name = str(config.hydra.job.name)
        return cls(
            settings, name, [sys.executable, *program[1:]], arguments, key, Path(folder).absolute(), folder, single
        )

    def command(self, further: Sequence[str] = ()) -> list[str]:
        """Return the command. It names the directory, which may have the time in its name.

        Args:
            further: overrides that take the place of those of the same keys.
        """
        where = override(self.key, self.said_folder)
        return command_with(self.program, self.arguments, [where, *further], single=self.single)

    @staticmethod
    def word(name: str, value: str) -> str:
        """Return the override that gives a key of the launcher a value."""
        return spelled(f"{ROOT}.{name}={value}")

    @property
    def has_launcher_per_node(self) -> bool:
        """Whether jobs have several nodes, each of which has a launcher of its own."""
        return self.settings.hosts.engine == LOCAL and str(self.settings.nodes) != "1"

    @property
    def output(self) -> Path:
        """The file that has the output of the launcher."""
        # Where launchers on several nodes share the directory, each has a file of its own, as with journals.
        node = f".{os.uname().nodename}" if self.has_launcher_per_node else ""
        return self.folder / f"launcher{node}.out"

    def how_to_look(self) -> str:
        """Return the commands that look after it from now on."""
        shown = shown_path(self.folder)
        return (
            f"  elastic-hydra status {shown}\n"
            f"  elastic-hydra logs {shown} --launcher --follow\n"
            f"  elastic-hydra stop {shown}"
        )


class Output:
    """The file for the output of a launcher, which goes again if the launcher has not begun.

    Args:
        path: of the file; what is in it already is kept.
        key: that names its directory, for messages.

    Raises:
        ConfigError: it cannot be written.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        parents = [path.parent, *path.parent.parents]
        self._made = [folder for folder in parents if not folder.exists()]
        self._is_new = not path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.fd = open_private(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise ConfigError(
                f"{key}={path.parent}: {path.name} cannot be written there ({error}). Make it writable, or choose "
                "another directory"
            ) from error
        self._begin = os.fstat(self.fd).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def written(self) -> str:
        """Return what was written since this object was made."""
        with open(self.path, errors="replace") as file:
            file.seek(self._begin)
            return file.read()

    def take_back(self) -> None:
        """Remove what was made for it: the file, and directories in which nothing else is."""
        with contextlib.suppress(OSError):
            if self._is_new:
                self.path.unlink()
            for folder in self._made:
                folder.rmdir()
