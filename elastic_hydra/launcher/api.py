"""The interface of `torch.distributed.launcher.api`, name for name, with what torch gets wrong put right.

`LaunchConfig` is defined in `elastic`, whose modules read it, as are the agent and all else that torch has there.
"""

from __future__ import annotations

import os
import signal
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.utils.logging import get_logger
from torch.distributed.launcher import api as torch_api

from elastic_hydra.elastic.entrypoint import name_of
from elastic_hydra.elastic.launch_config import LaunchConfig
from elastic_hydra.elastic.logs import TemporaryLogs, for_one_launch
from elastic_hydra.elastic.placement import Placer
from elastic_hydra.elastic.rendezvous.static import address_of
from elastic_hydra.elastic.run_agent import run_agent
from elastic_hydra.elastic.script import check_program
from elastic_hydra.elastic.starter import Starter
from elastic_hydra.supervisor import context, standard_input
from elastic_hydra.supervisor.context import Role
from elastic_hydra.supervisor.main_module import stop_if_executed_again
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.pickles import objects_in
from elastic_hydra.supervisor.process_limits import check_open_files
from elastic_hydra.supervisor.process_state import environment
from elastic_hydra.supervisor.signal_queue import SignalQueue

__all__ = ["LaunchConfig", "elastic_launch", "launch_agent"]

logger = get_logger("elastic_hydra.agent")

PRELOAD = ("torch.distributed.launcher.api", __name__)
"""What a warm server in a fresh interpreter imports for its agents and workers."""

_SIGNALS = "TORCHELASTIC_SIGNALS_TO_HANDLE"

_get_entrypoint_name = name_of
_get_addr_and_port = address_of


# torch's name for it, so its users' one.
class elastic_launch:  # noqa: N801
    """Launch an entry point under an elastic agent, and return each worker's value by global rank.

    Args:
        config: how; torch's `LaunchConfig` is taken as well.
        entrypoint: any callable, or a program.
        health_check_server: torch 2.13 and newer, see there.
    """

    def __init__(
        self,
        config: torch_api.LaunchConfig,
        entrypoint: Callable[..., Any] | str | None,
        health_check_server: Any = None,
    ) -> None:
        self._config = config
        self._entrypoint = entrypoint
        self._health_check_server = health_check_server

    def __call__(self, *args: Any) -> dict[int, Any]:
        """Run it; see `launch_agent`."""
        return launch_agent(self._config, self._entrypoint, list(args), health_check_server=self._health_check_server)


def launch_agent(
    config: torch_api.LaunchConfig,
    entrypoint: Callable[..., Any] | str | None,
    args: list[Any],
    health_check_server: Any = None,
) -> dict[int, Any]:
    """Run an elastic agent for one job in this process, until the job's workers on this node have ended.

    Args:
        config: how; it is not changed. torch's own is taken as well.
        entrypoint: any callable, or a program.
        args: its arguments; `${local_rank}` in strings is replaced.
        health_check_server: torch 2.13 and newer, see there.

    Returns:
        `{global rank: value}` of this node's workers; None as the value for a program.

    Raises:
        ChildFailedError: a worker failed and no restart was left. Its `__cause__` is the first worker's own exception.
        RendezvousGracefulExitError: the job runs without this node.
        SignalException: this process got one of `signals_to_handle`.
        FileNotFoundError, PermissionError: the program does not exist, or is none.
    """
    stop_if_executed_again()
    if entrypoint is None or not (callable(entrypoint) or isinstance(entrypoint, str)):
        raise ValueError(f"entrypoint={entrypoint!r}: must be a callable or the name of a program")
    config = LaunchConfig.of(config)
    if isinstance(entrypoint, str):
        check_program(entrypoint, config.worker_env.get("PATH"))
    check_open_files(config.nproc_per_node)
    logs_specs = for_one_launch(config.logs_specs or TemporaryLogs())
    shared = {f"object {number}": part for number, part in enumerate(objects_in((entrypoint, *args)))}
    keep_logs = False
    with (
        environment(_SIGNALS, config.signals_to_handle),
        SignalQueue(_numbers(config.signals_to_handle), _signalled),
        open_server(config.start_method, shared, config.shutdown_timeout, preload=PRELOAD) as server,
    ):
        logger.info("workers are started by a server %s", server.reason)
        has_stdin = context.current().role is Role.agent or standard_input.is_ours()
        starter = Starter(server, config, Placer.of(config), stdin=config.stdin and has_stdin)
        try:
            return run_agent(config, entrypoint, args, logs_specs, starter, health_check_server)
        except BaseException as error:
            _let_go_of_locals(error)
            if isinstance(error, ChildFailedError) and isinstance(logs_specs, TemporaryLogs):
                keep_logs = True
                weakref.finalize(error, logs_specs.remove)  # its error files are read as long as it is passed on
            raise
        finally:
            if isinstance(logs_specs, TemporaryLogs) and not keep_logs:
                logs_specs.remove()


def _let_go_of_locals(error: BaseException | None) -> None:
    """Clear the local variables of the frames that a failed launch has left in its exception's traceback.

    Whoever keeps the exception, as a notebook does, would keep the rendezvous and its store alive with them, and the
    next launch at the same endpoint would get that store, where the rendezvous is closed and the node ranks are taken.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__


def _numbers(names: str) -> list[signal.Signals]:
    return [signal.Signals[name.strip()] for name in names.split(",") if name.strip()]


def _signalled(number: signal.Signals) -> SignalException:
    return SignalException(f"process {os.getpid()} got {number.name}", number)
