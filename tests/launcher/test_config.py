"""`LaunchConfig`: torch's, checked, and never written to by a launch."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.agent.server.health_check_server import HealthCheckServer
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher import api as torch_api

from elastic_hydra import LaunchConfig, elastic_launch
from elastic_hydra.compat.versions import version_of
from elastic_hydra.elastic.logs import JobLogs
from elastic_hydra.resources.facts import facts_of_this_host
from elastic_hydra.supervisor.open_server import open_server
from tests.helpers.launching import config, in_a_fork, launch, torch_config, variable

pytestmark = pytest.mark.system

since_2_10 = pytest.mark.skipif(version_of("torch") < (2, 10), reason="torch 2.10 and newer have this option")
since_2_13 = pytest.mark.skipif(version_of("torch") < (2, 13), reason="torch 2.13 and newer have this argument")


def rank() -> int:
    return int(os.environ["RANK"])


def say(text: str) -> None:
    print(text, flush=True)


def run_id() -> str:
    return os.environ["TORCHELASTIC_RUN_ID"]


@pytest.mark.smoke
def test_it_is_a_torch_config_with_the_same_defaults() -> None:
    ours = LaunchConfig(1, 1, 1)
    theirs = in_a_fork(lambda: {f.name: getattr(torch_api.LaunchConfig(1, 1, 1), f.name) for f in FIELDS})
    assert isinstance(ours, torch_api.LaunchConfig)
    same = theirs.keys() - {"logs_specs", "rdzv_backend"}
    assert {name: getattr(ours, name) for name in same} == {name: theirs[name] for name in same}


FIELDS = dataclasses.fields(torch_api.LaunchConfig)


def test_arguments_have_the_order_of_torchs() -> None:
    names = [field.name for field in dataclasses.fields(LaunchConfig)]
    assert names[: len(FIELDS)] == [field.name for field in FIELDS]


@pytest.mark.smoke
def test_torchs_own_config_is_taken() -> None:
    with tempfile.TemporaryDirectory() as folder:
        specs = DefaultLogsSpecs(folder)
        # In a fork: making one asks CUDA, after which this process could not be forked any more.
        values = in_a_fork(lambda: elastic_launch(torch_config(start_method="warm", logs_specs=specs), rank)())
        assert values == {0: 0, 1: 1}


@pytest.mark.smoke
def test_torchs_launcher_takes_ours() -> None:
    ours: dict[str, Any] = {"start_method": "fork", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    assert in_a_fork(lambda: torch_api.elastic_launch(config(**ours), rank)()) == {0: 0, 1: 1}


def test_torchs_launcher_knows_the_local_rendezvous() -> None:
    assert in_a_fork(lambda: torch_api.elastic_launch(config(start_method="fork"), rank)()) == {0: 0, 1: 1}


def test_no_accelerator_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch.cuda", "torch.accelerator"):
        for question in ("is_available", "device_count"):
            monkeypatch.setattr(f"{name}.{question}", lambda: pytest.fail("CUDA was asked: no fork is safe any more"))
    assert LaunchConfig(1, 1, 1).numa_options is None


@pytest.mark.parametrize(("given", "environ", "seconds"), [(None, None, 30), (None, "7", 7), (5, "7", 5)])
def test_the_shutdown_timeout_is_torchs(
    given: int | None, environ: str | None, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environ is not None:
        monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", environ)
    assert LaunchConfig(1, 1, 1, shutdown_timeout=given).shutdown_timeout == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start_method": "threads"}, "start_method='threads': must be one of warm, fork, forkserver, spawn"),
        ({"event_log_handler": "nowhere"}, "event_log_handler='nowhere': must be one of .*console"),
        ({"shutdown_timeout": -1}, "shutdown_timeout"),
        ({"signals_to_handle": "SIGTERM,SIGNONE"}, "signals_to_handle='SIGTERM,SIGNONE': 'SIGNONE' must be one of"),
    ],
)
def test_wrong_values_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.skipif(version_of("torch") >= (2, 10), reason="torch 2.10 and newer have these options")
@pytest.mark.parametrize("name", ["virtual_local_rank", "duplicate_stdout_filters", "duplicate_stderr_filters"])
def test_an_option_that_torch_does_not_have_is_refused(name: str) -> None:
    assert not getattr(config(), name)
    with pytest.raises(ValueError, match=f"^{name}=.*: needs torch 2.10 or newer; 2.* is installed"):
        config(**dict[str, Any]({name: ["loss"]}))


@pytest.mark.skipif(version_of("torch") >= (2, 13), reason="torch 2.13 and newer have this argument")
def test_a_health_check_server_that_torch_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"health_check_server needs torch 2\.13 or newer"):
        elastic_launch(config(1), rank, health_check_server=HealthCheckServer(lambda: 0, 0, 60))()


def test_a_process_that_knows_its_devices_can_still_be_forked() -> None:
    config()
    facts_of_this_host()
    with open_server("warm", {}, 1.0) as server:
        assert server.reason == "forked from this process"


@pytest.mark.parametrize("settings", [{"max_restarts": -1}, {"monitor_interval": 0}, {"workers": 0}])
def test_what_torch_refuses_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(Exception):  # noqa: B017 - torch uses AssertionError
        launch(rank, **settings)


@pytest.mark.parametrize("endpoint", ["", "localhost"])
def test_a_static_rendezvous_needs_an_address_and_a_port(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)endpoint"):
        launch(rank, rdzv_backend="static", rdzv_endpoint=endpoint, rdzv_configs={"rank": 0})


def test_no_signal_at_all_may_be_handled() -> None:
    assert launch(rank, workers=1, signals_to_handle="") == {0: 0}


def test_a_static_rendezvous_without_a_rank_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r'rdzv_configs has no "rank"'):
        launch(rank, rdzv_backend="static", rdzv_endpoint="127.0.0.1:1")


def test_nodes_can_meet_at_a_file(tmp_path: Path) -> None:
    endpoint = {"rdzv_backend": "c10d", "rdzv_endpoint": str(tmp_path / "the store")}
    assert launch(rank, **endpoint, rdzv_configs={"store_type": "file"}) == {0: 0, 1: 1}


def test_what_was_chosen_for_a_config_is_chosen_anew_for_a_changed_one() -> None:
    one_node = LaunchConfig(1, 1, 1)
    assert one_node.rdzv_backend == "local"
    assert dataclasses.replace(one_node, max_nodes=2, rdzv_endpoint="node:1").rdzv_backend == "etcd"
    c10d = dataclasses.replace(one_node, rdzv_backend="c10d", rdzv_timeout=50)
    assert c10d.rdzv_configs == {"timeout": 50, "join_timeout": 50}
    assert dataclasses.replace(c10d, rdzv_timeout=60).rdzv_configs == {"timeout": 60, "join_timeout": 60}
    assert dataclasses.replace(c10d, min_nodes=1).rdzv_backend == "c10d"


def test_a_timeout_holds_for_joining_only_if_it_was_given() -> None:
    assert LaunchConfig(1, 1, 1, rdzv_configs={"timeout": 900}).rdzv_configs["join_timeout"] == 900
    assert LaunchConfig(1, 1, 1, rdzv_configs={"timeout": 900, "join_timeout": 5}).rdzv_configs["join_timeout"] == 5
    filled_in_by_torch = in_a_fork(lambda: LaunchConfig.of(torch_config()).rdzv_configs)
    assert filled_in_by_torch == {"timeout": 900}


class _Recording(DefaultLogsSpecs):
    """Log settings of a user's own, who asks them after the launch."""

    def reify(self, envs: dict[int, dict[str, str]]) -> Any:
        self.made = super().reify(envs)
        return self.made


def test_log_settings_of_ones_own_class_are_asked_themselves(tmp_path: Path) -> None:
    specs = _Recording(str(tmp_path), redirects=Std.ALL)
    for text in ("first", "second"):
        launch(say, text, workers=1, logs_specs=specs)
        assert Path(specs.made.stdouts[0]).read_text() == f"{text}\n"
    assert len(list(tmp_path.rglob("stdout.log"))) == 2


@pytest.mark.smoke
def test_the_callers_config_is_not_written_to(tmp_path: Path) -> None:
    rdzv_configs: dict[str, Any] = {"join_timeout": 30}
    specs = DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT)
    state = copy.deepcopy(vars(specs))
    made = config(rdzv_configs=rdzv_configs, logs_specs=specs)
    before = {field.name: copy.copy(getattr(made, field.name)) for field in dataclasses.fields(made)}
    first, second = elastic_launch(made, run_id)(), elastic_launch(made, run_id)()
    assert rdzv_configs == {"join_timeout": 30}
    assert vars(specs) == state
    assert {field.name: getattr(made, field.name) for field in dataclasses.fields(made)} == before
    assert first[0] == first[1] != second[0], "without a run_id every launch has its own"


def test_a_second_job_keeps_the_first_ones_logs(tmp_path: Path) -> None:
    made = config(1, logs_specs=DefaultLogsSpecs(str(tmp_path), redirects=Std.ALL))
    for text in ("first", "second"):
        elastic_launch(made, say)(text)
    assert sorted(path.read_text().strip() for path in tmp_path.rglob("stdout.log")) == ["first", "second"]


def test_logs_of_two_jobs_lie_side_by_side(tmp_path: Path) -> None:
    for text in ("first", "second"):
        launch(say, text, workers=1, logs_specs=JobLogs(tmp_path / text, Std.ALL))
        assert (tmp_path / text / "restart_0" / "rank_0" / "stdout.log").read_text() == f"{text}\n"


@pytest.mark.smoke
@pytest.mark.parametrize("tee", [Std.OUT, Std.ALL])
def test_teed_output_reaches_file_and_console(tee: Std, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch(say, "spoken", logs_specs=JobLogs(tmp_path, tee=tee), role="trainer")
    assert sorted(capsys.readouterr().out.splitlines()) == ["[trainer0]:spoken", "[trainer1]:spoken"]
    assert [path.read_text() for path in tmp_path.rglob("stdout.log")] == ["spoken\n"] * 2


@pytest.mark.parametrize(("template", "line"), [("${rank}> ", "0> spoken"), ("", "spoken")])
def test_the_line_prefix_can_be_chosen(
    template: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(say, "spoken", workers=1, logs_specs=JobLogs(tmp_path, tee=Std.OUT), log_line_prefix_template=template)
    assert capsys.readouterr().out.splitlines() == [line]


def test_only_chosen_ranks_reach_the_console(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launch(say, "spoken", logs_specs=JobLogs(tmp_path, local_ranks_filter={1}))
    assert capfd.readouterr().out.splitlines() == ["spoken"]


@since_2_10
def test_lines_can_be_filtered_into_one_file(tmp_path: Path) -> None:
    launch(say, "loss 1\nnoise", logs_specs=JobLogs(tmp_path, tee=Std.OUT), duplicate_stdout_filters=["loss"])
    lines = (tmp_path / "restart_0" / "filtered_stdout.log").read_text().splitlines()
    assert sorted(lines) == ["[default_role0]:loss 1", "[default_role1]:loss 1"]


@since_2_13
def test_a_health_check_server_is_stopped_with_the_workers() -> None:
    calls = []

    class Health(HealthCheckServer):
        def stop(self) -> None:
            calls.append("stop")

    elastic_launch(config(1), rank, health_check_server=Health(lambda: 0, 0, 60))()
    assert calls == ["stop"]


def test_an_error_file_without_a_log_folder_is_no_error() -> None:
    assert launch(rank, logs_specs=DefaultLogsSpecs(os.devnull)) == {0: 0, 1: 1}


@since_2_10
def test_a_virtual_local_rank_is_zero_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # torch refuses a rank for which it names no GPU
    values = launch(variable, "LOCAL_RANK", virtual_local_rank=True)
    assert values == {0: "0", 1: "0"}


def test_settings_of_the_workers_environment_are_not_those_of_the_agent() -> None:
    assert launch(variable, "FLAVOUR", workers=1, worker_env={"FLAVOUR": "sweet"}) == {0: "sweet"}
    assert "FLAVOUR" not in os.environ


def test_events_go_to_the_chosen_handler() -> None:
    said: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(json.loads(record.getMessage())["name"])

    logger, handler = logging.getLogger("torchelastic-events-console"), Handler()
    logger.addHandler(handler)
    launch(rank, workers=1, event_log_handler="console")
    logger.removeHandler(handler)
    assert {"torchelastic.worker.status.START", "torchelastic.worker.status.SUCCEEDED"} <= set(said)
