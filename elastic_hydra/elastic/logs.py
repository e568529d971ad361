"""Where the workers' output and error files go."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, LogsSpecs, Std
from torch.distributed.elastic.multiprocessing.api import to_map

from elastic_hydra.compat.torch import for_fields_of, forget_folder
from elastic_hydra.overview.log_files import next_restart, rank_folder, restart_folder

__all__ = ["JobLogs", "TemporaryLogs", "for_one_launch"]

_CONSOLE = ""


class JobLogs(LogsSpecs):
    """Files per restart and rank: `<folder>/restart_<n>/rank_<global rank>/{stdout.log,stderr.log,error.json}`.

    Args:
        folder: of one attempt of one job; made when the workers start.
        redirects: streams that go to a file instead of the console, for all workers or by local rank.
        tee: streams that go to a file and the console.
        local_ranks_filter: local ranks whose output reaches the console at all; None means all.
        first_restart: number of the first folder, where agents of several nodes share `folder` and must agree on the
            numbers; None: the first that is free.
    """

    def __init__(
        self,
        folder: Path,
        redirects: Std | dict[int, Std] = Std.NONE,
        tee: Std | dict[int, Std] = Std.NONE,
        local_ranks_filter: set[int] | None = None,
        *,
        first_restart: int | None = None,
    ) -> None:
        super().__init__(str(folder), redirects, tee, local_ranks_filter)
        self._next_restart = first_restart

    @property
    def root_log_dir(self) -> str:
        """The folder."""
        return str(self._root_log_dir)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Make the folders for the next start of the workers; nothing that is there is removed.

        Args:
            envs: each worker's environment by local rank; gets the path of its error file.
        """
        # Numbers of our own: torch's restart count stays the same when a group starts again for a new node, and starts
        # anew when a job is run again in its old directory.
        number = next_restart(self.root_log_dir) if self._next_restart is None else self._next_restart
        if self._next_restart is not None:
            self._next_restart += 1
        redirects, tees = to_map(self._redirects, len(envs)), to_map(self._tee, len(envs))
        files: dict[str, dict[int, str]] = {
            name: {} for name in ("stdout", "stderr", "tee_stdout", "tee_stderr", "error")
        }
        for local_rank, environment in envs.items():
            own_folder = Path(rank_folder(self.root_log_dir, number, int(environment.get("RANK", local_rank))))
            own_folder.mkdir(parents=True, exist_ok=True)
            shown = self._local_ranks_filter is None or local_rank in self._local_ranks_filter
            for name, std in (("stdout", Std.OUT), ("stderr", Std.ERR)):
                path = str(own_folder / f"{name}.log")
                to_file = bool((redirects[local_rank] | tees[local_rank]) & std)
                files[name][local_rank] = path if to_file else (_CONSOLE if shown else os.devnull)
                if shown and tees[local_rank] & std:
                    files[f"tee_{name}"][local_rank] = path
            files["error"][local_rank] = environment["TORCHELASTIC_ERROR_FILE"] = str(own_folder / "error.json")
        folder = Path(restart_folder(self.root_log_dir, number))
        destination: dict[str, Any] = {
            "stdouts": files["stdout"],
            "stderrs": files["stderr"],
            "tee_stdouts": files["tee_stdout"],
            "tee_stderrs": files["tee_stderr"],
            "error_files": files["error"],
            "filtered_stdout": str(folder / "filtered_stdout.log"),
            "filtered_stderr": str(folder / "filtered_stderr.log"),
        }
        return LogsDest(**for_fields_of(LogsDest, destination))


class TemporaryLogs(DefaultLogsSpecs):
    """What torch does without `logs_specs`, but the folder is made when needed, and removed when nobody needs it."""

    def __init__(self) -> None:
        LogsSpecs.__init__(self)
        self._run_log_dir = None
        self._owner = os.getpid()

    def remove(self) -> None:
        """Remove what was written; a forked process that has a copy of this leaves it alone."""
        if self._root_log_dir and self._owner == os.getpid():
            shutil.rmtree(self._root_log_dir, ignore_errors=True)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Make the folders, see `DefaultLogsSpecs`."""
        self._root_log_dir = self._root_log_dir or tempfile.mkdtemp(prefix="elastic_hydra_")
        return super().reify(envs)


def for_one_launch(specs: LogsSpecs) -> LogsSpecs:
    """Prepare log settings for one job: torch's remember the first job's folder, and the second would erase it.

    Settings of the user's own class are the user's: they are asked themselves, and no copy of them.
    """
    fresh = copy.copy(specs) if type(specs) in (DefaultLogsSpecs, JobLogs, TemporaryLogs) else specs
    forget_folder(fresh)
    if isinstance(fresh, TemporaryLogs):
        fresh._owner = os.getpid()
    return fresh


def std(value: int | Mapping[int, int]) -> Std | dict[int, Std]:
    """Turn a setting of the configuration into torch's: 0 nothing, 1 stdout, 2 stderr, 3 both."""
    if isinstance(value, Mapping):
        return {int(rank): Std(streams) for rank, streams in value.items()}
    return Std(value)
