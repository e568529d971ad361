"""How to launch a job: torch's `LaunchConfig` and what torch has no place for; all of `elastic` reads it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch.distributed.launcher import api as torch_api

from elastic_hydra.compat.torch import event_handlers, for_fields_of
from elastic_hydra.compat.versions import SINCE_TORCH, lack_of_torch, version_of
from elastic_hydra.config.backends import ON_ONE_NODE
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.schema import START_METHODS
from elastic_hydra.config.watch import WatchConfig
from elastic_hydra.elastic.debugging import Debug
from elastic_hydra.elastic.logs import TemporaryLogs
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.binding import Binding
from elastic_hydra.watch.stacks import Written

__all__ = ["LaunchConfig"]

_GIVEN: Any = object()
"""Stands for `numa_options` that the user has given: torch does not choose any then."""
_TORCHS_TIMEOUT = 900
"""Seconds that torch's `LaunchConfig` writes into `rdzv_configs` when the user has given no timeout."""


class _ChosenBackend(str):
    """A backend that the user has not given: `dataclasses.replace` chooses anew."""


class _ChosenTimeout(int):
    """A timeout in seconds that the user has not given, or not by this name: `dataclasses.replace` chooses anew."""


@dataclass
class LaunchConfig(torch_api.LaunchConfig):
    """How to launch a job: torch's `LaunchConfig`, and what torch has no place for.

    It may be used for any number of jobs, one after the other or side by side: launching does not change it.
    """

    rdzv_backend: str = ""
    """Empty means `local` for one node without an endpoint, and torch's default, `etcd`, otherwise."""
    exit_barrier_timeout: float = 300.0
    """Seconds that an agent whose workers have finished waits for the other agents."""
    worker_env: dict[str, str] = field(default_factory=dict)
    """Environment variables of every worker, on top of the agent's own."""
    numa: NumaConfig | None = None
    """What workers are bound to; None: what torch's `numa_options` say."""
    slot: Allowance | None = None
    """What the job holds of this host; None: all that this process may use."""
    gpus_per_worker: int = 1
    """GPUs that belong to each worker, in the order of their indices: it is placed at the first of them."""
    on_bindings: Callable[[Sequence[Binding]], None] | None = None
    """Is told what the workers are bound to, by local rank, at every start; in this process."""
    retry: RetryConfig | None = None
    """When a failed worker group is started again; it brings its own `max_restarts`. None: as torch does,
    `max_restarts` times, at once, whatever the cause."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """Limits for time, progress and memory; sizes in bytes."""
    history: tuple[float, ...] = ()
    """When earlier agents of this job have restarted it, on the monotonic clock, in seconds: these count too."""
    elapsed: float = 0.0
    """Seconds that earlier agents of this job have used of `watch.time_limit`."""
    signals_to_handle: str = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"
    """Signals to this process that end the job; the workers get the same one."""
    shutdown_timeout: int = None  # type: ignore[assignment]  # torch's default, until this is made
    """Seconds between SIGTERM and SIGKILL, wherever workers are stopped. None means what torch 2.12 and newer makes of
    it: `TORCH_ELASTIC_SHUTDOWN_TIMEOUT`, or 30."""
    duplicate_stdout_filters: list[str] | None = None
    """What lines of teed output must contain to be copied to one file for all workers; torch 2.10 and newer."""
    duplicate_stderr_filters: list[str] | None = None
    """The same for standard error."""
    virtual_local_rank: bool = False
    """Whether each worker sees one GPU only, as number 0, with `LOCAL_RANK=0`; torch 2.10 and newer."""
    stdin: bool = True
    """Whether rank 0 has this process's standard input, a pipe or, if it is in the foreground, its terminal; the other
    workers have none."""
    debug: Debug | None = None
    """Who has the terminal, as somebody debugs the job; None: nobody does."""
    keep_finished: bool = True
    """Whether a worker whose function has returned stays until those of all workers of its node have, as torch's do:
    what it hosts, such as a store, is there as long as others need it. One that calls `sys.exit()` is gone at once."""
    checkpoint_timeout: float = 30.0
    """Seconds that workers have after a signal such as SIGUSR1, to write a checkpoint, before they get SIGTERM."""
    on_programs: Callable[[], None] | None = None
    """Is called at every start of workers that run a program, when all of them run; in this process. Workers that call
    a function know best when they do."""
    on_verdict: Callable[[Verdict], None] | None = None
    """Is told every decision about a failure, in this process."""
    on_stacks: Callable[[Mapping[int, Written]], None] | None = None
    """Is told, by global rank, what the workers have written when this process has got SIGURG; in this process. None:
    that signal means nothing."""

    @classmethod
    def of(cls, config: torch_api.LaunchConfig) -> LaunchConfig:
        """Return a configuration as one of ours; a timeout that only torch has chosen is chosen anew."""
        if isinstance(config, cls):
            return config
        given = {f.name: getattr(config, f.name) for f in fields(config) if f.init}
        if config.rdzv_timeout == -1 and config.rdzv_configs.get("timeout") == _TORCHS_TIMEOUT:
            given["rdzv_configs"] = {key: value for key, value in config.rdzv_configs.items() if key != "timeout"}
        return cls(**given)

    def __post_init__(self) -> None:
        # torch writes into the caller's dictionary, and makes a folder that it never removes.
        self.rdzv_configs = dict(self.rdzv_configs)
        if self.logs_specs is None:
            self.logs_specs = TemporaryLogs()
        if not self.rdzv_backend or isinstance(self.rdzv_backend, _ChosenBackend):
            one_node = self.max_nodes == 1 and not self.rdzv_endpoint
            self.rdzv_backend = _ChosenBackend(ON_ONE_NODE if one_node else "etcd")
        self._choose_timeout()
        if self.shutdown_timeout is None:
            self.shutdown_timeout = int(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "30"))
        if self.retry is not None:
            self.max_restarts = self.retry.max_restarts
        self._have_torch_fill_in()
        self._check()

    def _check(self) -> None:
        """Refuse what torch would take, and fail on later or pass over in silence."""
        for name in for_fields_of(LaunchConfig, SINCE_TORCH):
            if (value := getattr(self, name)) and (lack := lack_of_torch(name, version_of("torch"))):
                raise ValueError(f"{name}={value!r}: {lack}")
        for name in self.signals_to_handle.split(","):
            if name.strip() and name.strip() not in signal.Signals.__members__:  # an empty text names none
                known_names = "SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and the others of `kill -l`"
                raise ValueError(f"signals_to_handle={self.signals_to_handle!r}: {name!r} must be one of {known_names}")
        if self.shutdown_timeout < 0:
            raise ValueError(f"shutdown_timeout={self.shutdown_timeout}: must be 0 or more (seconds)")
        if self.start_method not in START_METHODS:
            raise ValueError(f"start_method={self.start_method!r}: must be one of {', '.join(START_METHODS)}")
        known = event_handlers()
        if known and self.event_log_handler not in known:
            raise ValueError(f"event_log_handler={self.event_log_handler!r}: must be one of {', '.join(sorted(known))}")

    def _choose_timeout(self) -> None:
        """Have a timeout that is given hold for every backend; torch's dynamic ones know it by another name only."""
        if self.rdzv_timeout != -1:
            self.rdzv_configs["timeout"] = self.rdzv_timeout
        given = self.rdzv_configs.setdefault("timeout", _ChosenTimeout(_TORCHS_TIMEOUT))
        if isinstance(given, _ChosenTimeout):
            return
        if isinstance(self.rdzv_configs.get("join_timeout", _ChosenTimeout()), _ChosenTimeout):
            self.rdzv_configs["join_timeout"] = _ChosenTimeout(given)

    def _have_torch_fill_in(self) -> None:
        """Have torch choose what is not given, but for `numa_options`.

        To choose these, torch asks for the number of accelerators, some versions in a way after which this process must
        not be forked; and then it chooses none.
        """
        chosen, self.numa_options = self.numa_options, self.numa_options or _GIVEN
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.numa_options = chosen
