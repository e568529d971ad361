"""What a worker or an agent runs: a pickled function, whose value or exception goes back to the process's client.

In a fork of the server `run` is called by `spare`; in a new interpreter `main` is the first thing that runs. Either way
the process ends here. What must never happen: that it seems to have finished when it has not; so its exit code is 0
only when its value was handed over.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from elastic_hydra import worker
from elastic_hydra.numa.allowance import affinity
from elastic_hydra.supervisor import context, ending, forked, outcome, pickles, thread_pools
from elastic_hydra.supervisor.anonymous_files import take_content
from elastic_hydra.supervisor.context import Role
from elastic_hydra.supervisor.gate import wait_at_gate
from elastic_hydra.supervisor.packed_error import full_name, pack, place
from elastic_hydra.supervisor.users_frames import users_part

__all__ = ["Payload", "command", "exit_code", "interpreter", "run"]

__tracebackhide__ = True

Payload = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""


def command() -> list[str]:
    """Return the command that runs a payload in a new interpreter; the server appends the file descriptors."""
    return interpreter(__name__)


def interpreter(module: str) -> list[str]:
    """Return the command that runs a module of this package in a new interpreter, wherever the package was found."""
    root = str(Path(__file__).parents[2])
    run = f"from importlib import import_module; import_module({module!r}).main(sys.argv[1:])"
    return [sys.executable, "-u", "-c", f"import sys; sys.path.insert(0, {root!r}); {run}"]


def run(payload: bytes, shared: Mapping[str, object], result_fd: int) -> NoReturn:
    """Run a function to its end, hand over what came out, and end the process.

    Args:
        payload: a pickled `Payload`.
        shared: objects that the payload refers to by name.
        result_fd: where the `Outcome` is written.
    """
    code, pid = 1, os.getpid()
    try:
        worker.attach()
        _apply_thread_count()
        code = _call(payload, shared, result_fd)
    except SystemExit as stop:  # raised by code of the user's that runs while the value is pickled
        code = exit_code(stop)
    except BaseException as error:
        if os.getpid() == pid:
            _report(error, result_fd)
        else:  # a process that the function has forked: its end is not this worker's
            traceback.print_exc()
    ending.end(code)


def _call(payload: bytes, shared: Mapping[str, object], result_fd: int) -> int:
    """Call the function and hand over its value; return the exit code."""
    pid, code, value = os.getpid(), 0, None
    try:
        if (launcher := context.current().main_to_execute) is not None:
            launcher.execute_main()
        function, args = pickles.loads(payload, shared)
        value = function(*args)
    except SystemExit as stop:
        code = exit_code(stop)  # 0: how many scripts end well
        value = outcome.Returned(None, exited=place(stop))
        if not isinstance(stop.code, (int, type(None))):
            print(stop.code, file=sys.stderr)
    if code == 0 and os.getpid() == pid:
        _hand_over(value, result_fd)
        if not (isinstance(value, outcome.Returned) and value.exited):
            wait_at_gate()  # a worker that calls `sys.exit()` wants to be gone at once
    return code


def _report(error: BaseException, result_fd: int) -> None:
    """Hand over an exception, and show it as the interpreter would."""
    error.__traceback__ = users_part(error.__traceback__)
    packed = pack(error)  # at once, because it notes the time, by which the agent sees which worker failed first
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:
        traceback.print_exc()  # the hook is the user's
    outcome.write(result_fd, outcome.Outcome(error=packed))
    outcome.announce()


def _hand_over(value: Any, result_fd: int) -> None:
    try:
        outcome.write(result_fd, outcome.Outcome(value=value))
    except Exception as error:
        users = value.value if isinstance(value, outcome.Returned) else value
        raise outcome.ResultError(
            f"rank {os.environ.get('RANK', '?')} returned {_what_does_not_pickle(users)}, which cannot be handed over "
            f"to its agent ({type(error).__name__}: {error}). Return numbers, strings, tensors or containers of them; "
            "save anything else to a file, and return its path"
        ) from error


def _what_does_not_pickle(value: Any, depth: int = 5) -> str:
    """Name the type of a value; of a container that of the first part that cannot be sent, and where it is."""
    words = f"a value of type {full_name(type(value))}"
    if isinstance(value, Mapping):
        parts: list[tuple[str, Any]] = [(f"[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"[{index}]", part) for index, part in enumerate(value)]
    else:
        parts = [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]
    for name, part in parts if depth else ():
        if not _pickles(part):
            return f"{words} with {_what_does_not_pickle(part, depth - 1)} in {name[:60]}"
    return words


def _pickles(value: Any) -> bool:
    try:
        pickles.dumps(value, main=context.current().main_names)
    except Exception:
        return False
    return True


def exit_code(stop: SystemExit) -> int:
    """Return the exit code that a Python program has after `sys.exit(...)`: the low byte of a number, 1 for a text."""
    if stop.code is None:
        return 0
    if not isinstance(stop.code, int):
        return 1
    return stop.code & 0xFF if -(1 << 63) <= stop.code < 1 << 63 else 0xFF


def _apply_thread_count() -> None:
    """Make thread pools follow OMP_NUM_THREADS: in a forked process the variable comes too late for them."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if not threads and context.current().single_threaded_server:
        threads = str(len(affinity() or range(os.cpu_count() or 1)))
    if not threads.isdigit() or int(threads) < 1:
        return
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(threads))
    if "numpy" in sys.modules:
        thread_pools.set_threads(int(threads))


def main(argv: list[str]) -> NoReturn:
    """Run a payload in this new interpreter: the file descriptors of payload and result are the arguments."""
    payload_fd, result_fd, *others = map(int, argv)
    content = take_content(payload_fd)
    for fd in (result_fd, *others):
        os.set_inheritable(fd, False)
    try:
        launcher, handed_down, payload = pickle.loads(content)
        context.change(role=Role.worker, received_files=tuple(others), main_to_execute=launcher)
        launcher.adopt()
        handed_down.adopt()
    except Exception:
        traceback.print_exc()
        ending.end(forked.EXIT_CANNOT_START)
    run(payload, {}, result_fd)
