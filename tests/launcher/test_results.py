"""What a launch returns and records is what torch's launcher returns and records."""

from __future__ import annotations

import functools
import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.elastic import events, metrics
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.launcher import api as torch_api

import elastic_hydra
from elastic_hydra.launcher.api import _get_addr_and_port, _get_entrypoint_name
from tests.helpers.launching import (
    START_METHODS,
    config,
    end_at_once,
    in_a_fork,
    launch,
    launch_failing,
    torch_config,
    torch_launch,
    variable,
)

pytestmark = pytest.mark.system


def rank_plus(number: int) -> int:
    return int(os.environ["RANK"]) + number


def fail(kind: str = "ValueError") -> None:
    raise {"ValueError": ValueError, "KeyError": KeyError}[kind](f"rank {os.environ['RANK']}")


def environment_names() -> set[str]:
    return set(os.environ)


def total() -> float:
    dist.init_process_group("gloo")
    number = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(number)
    dist.destroy_process_group()
    return float(number)


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, other: int) -> int:
        return rank_plus(self.number + other)

    def add(self, other: int) -> int:
        return self(other)


# --- results -----------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("start_method", START_METHODS)
def test_values_come_by_global_rank(start_method: str) -> None:
    assert launch(rank_plus, 10, start_method=start_method) == {0: 10, 1: 11}


@pytest.mark.smoke
def test_values_are_those_of_torch() -> None:
    assert launch(rank_plus, 10) == torch_launch(rank_plus, 10)


def test_launch_agent_takes_what_torchs_takes() -> None:
    assert elastic_hydra.launch_agent(config(), rank_plus, [10]) == {0: 10, 1: 11}


@pytest.mark.parametrize("start_method", START_METHODS)
def test_workers_form_a_process_group(start_method: str) -> None:
    assert launch(total, start_method=start_method) == {0: 3.0, 1: 3.0}


def test_workers_get_every_variable_that_torch_gives_them() -> None:
    ours, theirs = launch(environment_names, workers=1)[0], torch_launch(environment_names, workers=1)[0]
    # This one only asks multiprocessing's children for a warning less.
    assert theirs - ours <= {"TORCHELASTIC_TIMER_FILE"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TORCHELASTIC_RUN_ID", "my-run"),
        ("ROLE_NAME", "trainer"),
        ("TORCHELASTIC_MAX_RESTARTS", "1"),
        ("FLAVOUR", "sweet"),
    ],
)
def test_workers_see_the_configuration(name: str, value: str) -> None:
    settings = {"run_id": "my-run", "role": "trainer", "max_restarts": 1, "worker_env": {"FLAVOUR": "sweet"}}
    assert launch(variable, name, workers=1, **settings) == {0: value}


def test_macros_in_arguments_are_replaced() -> None:
    assert launch(str.upper, "rank ${local_rank}") == {0: "RANK 0", 1: "RANK 1"}


@pytest.mark.parametrize(
    ("entrypoint", "start_method"),
    [
        (functools.partial(rank_plus), "warm"),
        (functools.partial(functools.partial(Adder.add), Adder(0)), "warm"),
        (lambda number: rank_plus(number), "warm"),
        (Adder(0), "warm"),
        (Adder(0).add, "warm"),
        (functools.partial(functools.partial(Adder.add), Adder(0)), "spawn"),
        (lambda number: rank_plus(number), "spawn"),
    ],
    ids=["partial", "nested partial", "lambda", "object", "bound method", "spawned partial", "spawned lambda"],
)
def test_any_callable_is_an_entry_point(entrypoint: Callable[[int], int], start_method: str) -> None:
    assert launch(entrypoint, 10, workers=1, start_method=start_method) == {0: 10}


@pytest.mark.parametrize("start_method", ["warm", "forkserver"])
def test_a_closure_is_an_entry_point(start_method: str) -> None:
    offset = 5

    def add(number: int) -> int:
        return rank_plus(number + offset)

    assert launch(add, 10, workers=1, start_method=start_method) == {0: 15}


@pytest.mark.parametrize("entrypoint", [None, 7, ["python"]])
def test_what_cannot_be_run_is_refused(entrypoint: Any) -> None:
    with pytest.raises(ValueError, match="must be a callable or the name of a program"):
        launch(entrypoint)


def test_an_argument_that_does_not_pickle_is_refused_before_workers_run() -> None:
    with pytest.raises(TypeError, match="generator"):
        launch(rank_plus, (number for number in range(3)))


@pytest.mark.smoke
@pytest.mark.parametrize("size", [0, 200 << 20])
def test_large_values_come_through(size: int) -> None:
    assert len(launch(bytes, size, workers=1)[0]) == size


@pytest.mark.slow
@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_gigabyte_comes_through(start_method: str) -> None:
    assert len(launch(bytes, 1 << 30, workers=1, start_method=start_method)[0]) == 1 << 30


def test_a_tensor_comes_through() -> None:
    assert torch.equal(launch(torch.arange, 10, workers=1)[0], torch.arange(10))


# --- programs ----------------------------------------------------------------------------------------------------

PROGRAM = """
    import os, sys
    folder, rank = sys.argv[1:]
    with open(os.path.join(folder, f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']} is {rank}"), "w"):
        pass
    sys.exit(int(os.environ.get("EXIT_CODE", "0")))
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return ["-u", str(path)]


def test_a_script_runs_once_per_rank_and_returns_none(program: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "touched"
    folder.mkdir()
    arguments = [*program, str(folder), "${local_rank}"]
    assert launch(sys.executable, *arguments) == torch_launch(sys.executable, *arguments)
    assert launch(sys.executable, *arguments) == {0: None, 1: None}
    assert sorted(os.listdir(folder)) == ["0 of 2 is 0", "1 of 2 is 1"]


def test_a_program_is_found_on_the_path_and_its_arguments_become_text(tmp_path: Path) -> None:
    path = tmp_path / "made"
    assert launch("mkdir", "-m", 700, str(path) + "${local_rank}", workers=1) == {0: None}
    assert Path(str(path) + "0").is_dir()


def test_the_exit_code_of_a_script_is_reported(program: list[str], tmp_path: Path) -> None:
    error = launch_failing(sys.executable, *program, str(tmp_path), "0", workers=1, worker_env={"EXIT_CODE": "3"})
    assert error.name == program[1]
    assert {rank: failure.exitcode for rank, failure in error.failures.items()} == {0: 3}


@pytest.mark.parametrize("kind", ["no name", "no path", "a folder", "no program", "a broken link"])
def test_what_is_no_program_is_refused_before_anything_starts_as_by_torch(kind: str, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("")
    link.symlink_to("nowhere")
    program = {"no name": "no-such-program", "a folder": tmp_path, "no program": file, "a broken link": link}
    entrypoint = str(program.get(kind, tmp_path / "none"))

    def refusal(start: Callable[..., Any]) -> tuple[type[OSError], int | None]:
        with pytest.raises(OSError) as caught:
            start(entrypoint, workers=1, max_restarts=3)
        return type(caught.value), caught.value.errno

    ours = refusal(launch)
    assert ours == in_a_fork(lambda: refusal(lambda *args, **kw: torch_api.elastic_launch(torch_config(**kw), *args)()))


def test_a_program_is_looked_for_where_the_workers_look(tmp_path: Path) -> None:
    program = tmp_path / "program-of-my-own"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    assert launch(program.name, workers=1, worker_env={"PATH": f"{tmp_path}:/usr/bin:/bin"}) == {0: None}


@pytest.mark.parametrize(
    ("entrypoint", "arguments"),
    [
        (rank_plus, []),
        (sys.executable, []),
        (sys.executable, ["-u"]),
        (sys.executable, ["-u", "script.py"]),
        (sys.executable, ["-u", "-m", "package.module"]),
        ("program", ["argument"]),
        (None, []),
    ],
)
def test_entry_points_are_named_as_by_torch(entrypoint: Any, arguments: list[str]) -> None:
    expected = torch_api._get_entrypoint_name(entrypoint, arguments)
    assert _get_entrypoint_name(entrypoint, arguments) == expected


@pytest.mark.parametrize(
    ("entrypoint", "name"),
    [(functools.partial(rank_plus, 1), "rank_plus"), (Adder(1), "Adder"), (Adder(1).add, "add")],
)
def test_every_callable_has_a_name(entrypoint: Any, name: str) -> None:
    assert _get_entrypoint_name(entrypoint, []) == name


def test_empty_and_numeric_arguments_do_not_disturb_the_name() -> None:
    assert _get_entrypoint_name(sys.executable, [1, "script.py"]) == "1"
    assert _get_entrypoint_name(sys.executable, ["-u", "", "x"]) == ""


@pytest.mark.parametrize("backend", ["c10d", "static", "etcd"])
@pytest.mark.parametrize("endpoint", ["", "head", "head:", "head:29400", " head:29400 ", "[::1]:29400"])
def test_the_address_of_a_rendezvous_is_that_of_torch(backend: str, endpoint: str) -> None:
    parameters = RendezvousParameters(backend, endpoint, "run", 1, 2)
    try:
        expected = torch_api._get_addr_and_port(parameters)
    except ValueError:
        with pytest.raises(ValueError, match="endpoint"):
            _get_addr_and_port(parameters)
    else:
        assert _get_addr_and_port(parameters) == expected


# --- what is recorded --------------------------------------------------------------------------------------------


def _recorded(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], set[str]]:
    """Return the essence of events and metrics that a launch records."""
    seen: list[Any] = []
    names: set[str] = set()

    def record(event: events.Event, destination: str = "null") -> None:
        metadata = event.metadata
        keys = ("role", "state", "global_rank", "group_rank", "group_world_size", "agent_restarts", "exit_code")
        seen.append((event.name, event.source.name, destination, *((key, str(metadata.get(key))) for key in keys)))

    class Handler(metrics.MetricHandler):
        def emit(self, metric_data: Any) -> None:
            names.add(metric_data.name)

    monkeypatch.setattr(events, "record", record)
    monkeypatch.setattr("torch.distributed.elastic.agent.server.api.record", record)
    monkeypatch.setattr(metrics.api, "_metrics_map", {})
    monkeypatch.setattr(metrics.api, "_default_metrics_handler", Handler())
    try:
        run()
    except ChildFailedError as error:
        seen.append((error.name, sorted(error.failures), [failure.exitcode for failure in error.failures.values()]))
    return seen, {name for name in names if not name.endswith(".healthy")}  # what torch, which polls, sees if in time


@pytest.mark.parametrize("entrypoint", [environment_names, fail], ids=["success", "failure"])
@pytest.mark.parametrize("max_restarts", [0, 1])
def test_events_and_metrics_are_those_of_torch(
    entrypoint: Callable[[], Any], max_restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "workers": 1,
        "max_restarts": max_restarts,
        "run_id": "a",
        "event_log_handler": "console",
    }
    ours = _recorded(lambda: launch(entrypoint, **settings), monkeypatch)
    theirs = in_a_fork(
        lambda: _recorded(lambda: torch_api.elastic_launch(torch_config(**settings), entrypoint)(), monkeypatch)
    )
    assert ours == theirs


# --- errors ------------------------------------------------------------------------------------------------------


def _fields(config: torch_api.LaunchConfig, launcher: type[Any]) -> dict[str, Any]:
    try:
        launcher(config, fail)()
    except ChildFailedError as error:
        (rank, failure), (root, _) = next(iter(error.failures.items())), error.get_first_failure()
        assert isinstance(failure.message, dict)
        return {
            "ranks": (rank, root, failure.local_rank),
            "name": error.name,
            "exit code": failure.exitcode,
            "message": failure.message["message"],
            "traits": failure.error_file_data.keys(),
            "error file": os.path.basename(failure.error_file),
            "error file exists": os.path.isfile(failure.error_file),
            "text": [
                line
                for line in str(error).splitlines()
                if not line.lstrip().startswith(("time", "exitcode", "error_file", "restarts"))
            ],
        }
    return {}


def test_a_failure_has_the_fields_of_torchs() -> None:
    ours = _fields(config(1), elastic_hydra.elastic_launch)
    theirs = in_a_fork(lambda: {**_fields(torch_config(1), torch_api.elastic_launch)})
    assert {key: str(value) for key, value in ours.items()} == {key: str(value) for key, value in theirs.items()}


def test_a_failure_has_the_workers_own_exception_as_its_cause() -> None:
    error = launch_failing(fail, "KeyError", workers=1)
    assert type(error.__cause__) is KeyError
    assert error.__cause__.args == ("rank 0",)


def test_an_exit_code_without_an_exception_has_the_traits_that_torch_gives_it() -> None:
    ours = launch_failing(end_at_once, 3, workers=1).failures[0].error_file_data["errorTraits"]

    def torchs() -> object:
        with pytest.raises(ChildFailedError) as caught:
            torch_api.elastic_launch(torch_config(1), end_at_once)(3)
        return caught.value.failures[0].error_file_data["errorTraits"]

    assert ours == in_a_fork(torchs)


def test_traits_of_one_failure_do_not_show_in_the_next() -> None:
    launch_failing(end_at_once, 3, workers=1)
    assert "errorTraits" not in launch_failing(fail, workers=1).failures[0].error_file_data


def test_record_around_a_launch_passes_the_root_cause_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))

    @record
    def main() -> None:
        launch(fail, workers=1)

    with pytest.raises(ChildFailedError):
        main()
    assert json.loads(path.read_text())["message"]["message"] == "ValueError: rank 0"


@pytest.mark.parametrize(("number", "code"), [(3, 3), (0, 0)])
def test_record_around_a_launch_passes_an_exit_code_on(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))

    @record
    def main() -> None:
        launch(end_at_once, number, workers=1)

    with pytest.raises(ChildFailedError):
        main()
    assert f"exit code {code}" in json.loads(path.read_text())["message"]
