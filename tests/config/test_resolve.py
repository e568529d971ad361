"""What is refused, in which words, and what is computed where a key leaves it open."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from elastic_hydra.config.errors import ConfigError, nearest
from elastic_hydra.config.numa import Cpus, Near
from elastic_hydra.config.rendezvous import Rendezvous
from elastic_hydra.config.resolve import resolve
from elastic_hydra.config.resources import Demand
from tests.config.settings import CPU_HOST, GPU_HOST, launch, settings

TWO_NODES: dict[str, Any] = {"nodes": 2, "rendezvous__backend": "c10d", "rendezvous__endpoint": "head:29400"}
STATIC: dict[str, Any] = {**TWO_NODES, "rendezvous__backend": "static", "rendezvous__node_rank": 1}


# --- what is refused ---------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"nodes": 0}, "nodes=0", "1 or more"),
    ({"nodes": -1}, "nodes=-1", "1 or more"),
    ({"nodes": "4:2"}, "nodes=4:2", "MIN not more than MAX"),
    ({"nodes": "0:2"}, "nodes=0:2", "1 or more"),
    ({"nodes": "2:"}, "nodes=2:", "MIN:MAX"),
    ({"nodes": "two"}, "nodes=two", "MIN:MAX"),
    ({"nodes": 1.5}, "nodes=1.5", "MIN:MAX"),
    ({"nodes": None}, "nodes=null", "MIN:MAX"),
    ({"nproc_per_node": 0}, "nproc_per_node=0", "1 or more"),
    ({"nproc_per_node": -2}, "nproc_per_node=-2", "1 or more"),
    ({"nproc_per_node": "gpus"}, "nproc_per_node=gpus", "did you mean gpu?"),
    ({"nproc_per_node": "gpu"}, "nproc_per_node=gpu", "no GPU"),
    ({"nproc_per_node": 1.5}, "nproc_per_node=1.5", "1 or more"),
    ({"start_method": "spwan"}, "start_method=spwan", "did you mean spawn?"),
    ({"return_values": "rank1"}, "return_values=rank1", "rank0, all"),
    ({"event_log_handler": "consol"}, "event_log_handler=consol", "did you mean console?"),
    ({"role": ""}, "role=", "must not be empty"),
    ({"monitor_interval": 0}, "monitor_interval=0", "more than 0"),
    ({"monitor_interval": -0.5}, "monitor_interval=-0.5", "more than 0"),
    ({"shutdown_timeout": -1}, "shutdown_timeout=-1", "0 or more"),
    ({"exit_barrier_timeout": -1}, "exit_barrier_timeout=-1", "0 or more"),
    ({"retry__max_restarts": -1}, "retry.max_restarts=-1", "0 or more"),
    ({"signals_to_handle": ["SIGTERM", "SIGTREM"]}, "signals_to_handle=SIGTREM", "did you mean SIGTERM?"),
    ({"signals_to_handle": ["SIGKILL"]}, "signals_to_handle=SIGKILL", "no signal that can be handled"),
    ({"omp_num_threads": 0}, "omp_num_threads=0", "1 or more, auto, or null"),
    ({"omp_num_threads": "many"}, "omp_num_threads=many", "1 or more, auto, or null"),
    ({"logs__redirects": 4}, "logs.redirects=4", "0 (nothing), 1 (stdout), 2 (stderr) or 3 (both)"),
    ({"logs__redirects": "yes"}, "logs.redirects=yes", "{local rank: number}"),
    ({"logs__tee": {0: 7}}, "logs.tee={0: 7}", "3 (both)"),
    ({"logs__tee": {-1: 3}}, "logs.tee={-1: 3}", "local rank"),
    ({"logs__tee": "0:x"}, "logs.tee=0:x", "3 (both)"),
    ({"logs__local_ranks_filter": [0, -1]}, "logs.local_ranks_filter=-1", "0 or more"),
    ({"logs__other_ranks_level": "LOUD"}, "logs.other_ranks_level=LOUD", "DEBUG, INFO"),
    ({"rendezvous__backend": "c10b"}, "rendezvous.backend=c10b", "did you mean c10d?"),
    ({"nodes": 2}, "rendezvous.backend=local", "pick c10d, static, etcd or etcd-v2"),
    ({"rendezvous__endpoint": "head:1"}, "rendezvous.endpoint=head:1", "local has none"),
    ({**TWO_NODES, "rendezvous__endpoint": ""}, "rendezvous.endpoint=''", "HOST:PORT where the nodes meet"),
    ({**TWO_NODES, "rendezvous__endpoint": "head"}, "rendezvous.endpoint=head", "must be HOST:PORT"),
    ({**TWO_NODES, "rendezvous__endpoint": "head:"}, "rendezvous.endpoint=head:", "must be HOST:PORT"),
    ({**TWO_NODES, "rendezvous__endpoint": ":29400"}, "rendezvous.endpoint=:29400", "must be HOST:PORT"),
    ({**TWO_NODES, "rendezvous__endpoint": "head:x"}, "rendezvous.endpoint=head:x", "must be HOST:PORT"),
    ({**TWO_NODES, "rendezvous__endpoint": "head:65536"}, "rendezvous.endpoint=head:65536", "below 65536"),
    ({**TWO_NODES, "rendezvous__endpoint": "head:0"}, "rendezvous.endpoint=head:0", "port 0 means any free port"),
    ({**TWO_NODES, "rendezvous__node_rank": 0}, "rendezvous.node_rank=0", "only static has node ranks"),
    ({**STATIC, "rendezvous__endpoint": ""}, "rendezvous.endpoint=''", "node 0's HOST:PORT"),
    ({**STATIC, "rendezvous__node_rank": None}, "rendezvous.node_rank=null", "0 to 1"),
    ({**STATIC, "rendezvous__node_rank": 2}, "rendezvous.node_rank=2", "0 to 1"),
    ({**STATIC, "rendezvous__node_rank": -1}, "rendezvous.node_rank=-1", "0 to 1"),
    ({**STATIC, "nodes": "1:2"}, "nodes=1:2", "static has a fixed number of nodes"),
    ({**TWO_NODES, "rendezvous__backend": "etcd", "rendezvous__endpoint": ""}, "rendezvous.endpoint=''", "etcd needs"),
    ({**TWO_NODES, "rendezvous__join_timeout": 0}, "rendezvous.join_timeout=0", "1 or more"),
    ({**TWO_NODES, "rendezvous__read_timeout": -5}, "rendezvous.read_timeout=-5", "1 or more"),
    ({"rendezvous__join_timeout": 60}, "rendezvous.join_timeout=60", "the backend local would ignore it"),
    ({**STATIC, "rendezvous__last_call_timeout": 3}, "rendezvous.last_call_timeout=3", "it reads join_timeout"),
    ({**TWO_NODES, "rendezvous__configs": {"timeout": 5}}, "rendezvous.configs.timeout=5", "rendezvous.join_timeout"),
    ({"parallel": 0}, "parallel=0", "1 or more, or auto"),
    ({"parallel": "many"}, "parallel=many", "1 or more, or auto"),
    ({"parallel": None}, "parallel=null", "1 or more, or auto"),
    ({"parallel": "0x2"}, "parallel=0x2", "1 or more, or auto"),
    ({"parallel": True}, "parallel=true", "1 or more, or auto"),
    ({"parallel": "autp"}, "parallel=autp", "did you mean auto?"),
    ({"nproc_per_node": "9" * 5000}, f"nproc_per_node={'9' * 5000}", "1 or more"),
    ({"stagger": -1}, "stagger=-1", "0 or more"),
    ({"stagger": float("inf")}, "stagger=inf", "finite number"),
    ({"monitor_interval": float("nan")}, "monitor_interval=nan", "finite number"),
    ({"watch__time_limit": float("inf")}, "watch.time_limit=inf", "finite number, or null"),
    ({"shutdown_timeout": 10**12}, f"shutdown_timeout={10**12}", "not be more than"),
    ({"role": "???"}, "role=???", "needs one"),
    ({"retry": "transient"}, "retry=transient", "chosen with hydra/launcher/retry=NAME"),
    ({"max_failures": 1.5}, "max_failures=1.5", "a fraction below 1"),
    ({"on_failure": "stopp"}, "on_failure=stopp", "did you mean stop?"),
    ({"logs__dir": ""}, "logs.dir=''", "must not be empty"),
    ({"rendezvous__id": " "}, "rendezvous.id=''", "must not be empty"),
    ({"logs__tee": 63}, "logs.tee=63", 'write "1:3"'),
    ({"resources__cpus_per_worker": 9}, "resources.cpus_per_worker=9", "this host has 8: it can never run"),
    ({"resources__gpus_per_worker": 1}, "resources.gpus_per_worker=1", "this host has 0: it can never run"),
    (
        {"nproc_per_node": 9, "parallel": "auto"},
        "resources.cpus_per_worker=auto",
        "it can never run. Choose fewer workers (hydra.launcher.nproc_per_node), or fewer CPUs each",
    ),
    ({"resources__memory_per_job": "17TB"}, "resources.memory_per_job=17TB", "can never run"),
    ({"retry__only_on": ["RuntimeEror"]}, "retry.only_on=RuntimeEror", "did you mean RuntimeError?"),
    ({"retry__never_on": ["Oserror"]}, "retry.never_on=Oserror", "did you mean OSError?"),
    ({"retry__only_on": ["json.JSONDecodeEror"]}, "retry.only_on=json.JSONDecodeEror", "json.JSONDecodeError?"),
    ({"retry__only_on": ["pytset.Error"]}, "retry.only_on=pytset.Error", "did you mean pytest?"),
    ({"retry__only_on": ["transiet"]}, "retry.only_on=transiet", "did you mean transient?"),
    ({"retry__only_on": ["OOM"]}, "retry.only_on=OOM", "did you mean oom?"),
    ({"retry__only_on": [None]}, "retry.only_on=null", "must be exception classes"),
    ({"retry__only_on": [True]}, "retry.only_on=true", "must be exception classes"),
]


@pytest.mark.parametrize(("changed", "named", "words"), WRONG, ids=[named for _, named, _ in WRONG])
def test_a_wrong_value_is_refused_with_its_full_key_and_what_is_allowed(
    changed: dict[str, Any], named: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        launch(**changed)
    lines = [line for line in str(caught.value).splitlines() if line.startswith(f"hydra.launcher.{named}: ")]
    assert len(lines) == 1, str(caught.value)
    assert words in lines[0]


OWN = [
    "MyError",
    "ConnectError",
    "IPError",
    "TimeoutException",
    "mine.Error",
    "mine.errors.OSEror",
    "OSError",
    "json.JSONDecodeError",
]


@pytest.mark.parametrize("name", OWN)
def test_exceptions_of_the_user_s_own_are_taken_as_they_are(name: str) -> None:
    assert launch(retry__only_on=[name]).keys.retry.only_on == [name]


@pytest.mark.parametrize(
    ("changed", "named", "words"),
    [
        ({"nproc_pernode": 2}, "nproc_pernode=2", "did you mean nproc_per_node?"),
        ({"rendezvous__end_point": "a:1"}, "rendezvous.end_point=a:1", "did you mean endpoint?"),
        ({"retry__restarts": 1}, "retry.restarts=1", "did you mean max_restarts?"),
        ({"logs__xyzzy": 1}, "logs.xyzzy=1", "there are dir, redirects, tee"),
        ({"numa__cpu": "node"}, "numa.cpu=node", "did you mean cpus?"),
    ],
)
def test_an_unknown_key_given_with_a_plus_is_refused_with_the_nearest_and_all_keys(
    changed: dict[str, Any], named: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        launch(**changed)
    assert f"hydra.launcher.{named}: there is no such key" in str(caught.value)
    assert words in str(caught.value)


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        launch(nodes="4:2", nproc_per_node="gpu", retry__max_restarts=-1, omp_num_threads=0, start_method="frok")
    keys = {line.partition("=")[0] for line in str(caught.value).splitlines()}
    names = ("nodes", "nproc_per_node", "retry.max_restarts", "omp_num_threads", "start_method")
    assert {f"hydra.launcher.{name}" for name in names} <= keys


def test_etcd_without_its_client_is_refused_with_the_package_to_install() -> None:
    machine = dataclasses.replace(CPU_HOST, has_etcd=False)
    with pytest.raises(ConfigError, match="pip install python-etcd"):
        launch(machine, nodes=2, rendezvous__backend="etcd", rendezvous__endpoint="head:2379")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"virtual_local_rank": True}, "virtual_local_rank=true"),
        ({"logs__duplicate_stdout_filters": ["loss"]}, "logs.duplicate_stdout_filters="),
        ({"logs__duplicate_stderr_filters": ["loss"]}, "logs.duplicate_stderr_filters="),
    ],
)
def test_an_option_that_the_installed_torch_lacks_is_refused_with_the_version_that_has_it(
    changed: dict[str, Any], named: str
) -> None:
    old = dataclasses.replace(CPU_HOST, torch=(2, 9))
    with pytest.raises(ConfigError) as caught:
        launch(old, **changed)
    assert f"hydra.launcher.{named}" in str(caught.value)
    assert "needs torch 2.10 or newer; 2.9 is installed" in str(caught.value)


def test_defaults_work_on_the_oldest_torch() -> None:
    assert launch(dataclasses.replace(CPU_HOST, torch=(2, 9))).nproc_per_node == 1


def test_newer_torch_gets_its_options() -> None:
    assert launch(virtual_local_rank=True).keys.virtual_local_rank is True


def test_the_settings_are_not_written_to() -> None:
    given = settings(nodes=2, rendezvous__backend="c10d", rendezvous__endpoint="head:1", rendezvous__join_timeout=7)
    before = repr(given)
    resolve(given, CPU_HOST, {})
    assert repr(given) == before


def test_the_nearest_word_is_suggested_only_when_it_is_near() -> None:
    assert nearest("statik", ["c10d", "static"]) == " (did you mean static?)"
    assert nearest("zzz", ["c10d", "static"]) == ""


# --- what is computed --------------------------------------------------------------------------------------------


def test_defaults_are_one_worker_on_one_node_without_network() -> None:
    job = launch()
    assert (job.nodes, job.nproc_per_node) == ((1, 1), 1)
    assert job.rendezvous == Rendezvous("local", "", {})
    assert job.keys.retry.max_restarts == 0
    assert not job.several_nodes


@pytest.mark.parametrize(("value", "nodes"), [(1, (1, 1)), ("3", (3, 3)), ("1:4", (1, 4)), (" 2:2 ", (2, 2))])
def test_nodes_are_a_number_or_a_range(value: Any, nodes: tuple[int, int]) -> None:
    job = launch(nodes=value, rendezvous__backend="c10d", rendezvous__endpoint="head:29400")
    assert job.nodes == nodes


@pytest.mark.parametrize(
    ("machine", "value", "workers"),
    [
        (CPU_HOST, "auto", 1),
        (CPU_HOST, "cpu", 8),
        (CPU_HOST, 3, 3),
        (CPU_HOST, "4", 4),
        (GPU_HOST, "auto", 8),
        (GPU_HOST, "gpu", 8),
        (GPU_HOST, "GPU", 8),
        (GPU_HOST, "cpu", 64),
    ],
)
def test_workers_per_node_follow_the_machine(machine: Any, value: Any, workers: int) -> None:
    assert launch(machine, nproc_per_node=value).nproc_per_node == workers


@pytest.mark.parametrize(
    ("workers", "value", "environ", "threads"),
    [
        (1, "auto", {}, 8),
        (2, "auto", {}, 4),
        (3, "auto", {}, 2),
        (16, "auto", {}, 1),
        (2, "auto", {"OMP_NUM_THREADS": "5"}, None),
        (2, 3, {}, 3),
        (2, 3, {"OMP_NUM_THREADS": "5"}, 3),
        (2, None, {}, None),
    ],
)
def test_omp_threads_are_the_jobs_cpus_divided_by_its_workers(
    workers: int, value: Any, environ: dict[str, str], threads: int | None
) -> None:
    assert launch(environ=environ, nproc_per_node=workers, omp_num_threads=value).omp_num_threads == threads


def test_gpus_per_worker_is_one_unless_the_workers_have_more() -> None:
    values = ((2, 2), (0, 1), ("auto", 1), ("4", 4))
    for value, expected in values:
        assert launch(GPU_HOST, nproc_per_node=1, resources__gpus_per_worker=value).gpus_per_worker == expected


def test_a_containers_quota_limits_the_threads() -> None:
    container = dataclasses.replace(CPU_HOST, quota=2.0)
    assert launch(container).omp_num_threads == 2
    assert launch(container, nproc_per_node=4).omp_num_threads == 1
    assert launch(container, parallel=2).omp_num_threads == 1
    assert launch(dataclasses.replace(CPU_HOST, quota=100.0)).omp_num_threads == 8


LATENCY = {"numa__cpus": Cpus.spread, "numa__cores_per_worker": 4}
THROUGHPUT = {"numa__cpus": Cpus.node, "numa__near": Near.none, "numa__exclusive": True}


@pytest.mark.parametrize(
    ("machine", "changed", "demand"),
    [
        (CPU_HOST, {**LATENCY, "parallel": "auto"}, Demand(instances=2, instance_cores=4)),
        (CPU_HOST, {**LATENCY, "parallel": 2}, Demand(instances=2, instance_cores=4)),
        (CPU_HOST, {**LATENCY, "parallel": 1}, Demand()),
        (CPU_HOST, {**LATENCY, "parallel": "auto", "resources__cpus_per_worker": 3}, Demand(cpus=6)),
        (CPU_HOST, {**THROUGHPUT, "parallel": "auto"}, Demand(instances=2)),
        (CPU_HOST, {**THROUGHPUT, "parallel": 2}, Demand()),  # an equal share each
        (GPU_HOST, {**LATENCY, "parallel": "auto"}, Demand(gpus=2, cores=8)),
        (CPU_HOST, {"parallel": "auto"}, Demand(cpus=2)),
    ],
)
def test_cpu_only_workers_with_cores_of_their_own_take_these(
    machine: Any, changed: dict[str, Any], demand: Demand
) -> None:
    assert launch(machine, nproc_per_node=2, **changed).demand == demand


@pytest.mark.parametrize(
    ("value", "streams"),
    [(0, 0), (3, 3), ("1", 1), ({0: 3}, {0: 3}), ({"1": "2"}, {1: 2}), ("0:3,1:1", {0: 3, 1: 1}), ("12:3", {12: 3})],
)
def test_redirects_and_tee_are_a_number_or_by_local_rank_or_as_torchrun_writes_them(value: Any, streams: Any) -> None:
    job = launch(logs__redirects=value, logs__tee=value)
    assert job.redirects == streams
    assert job.tee == streams


@pytest.mark.parametrize(
    ("workers", "tee", "given", "prefix"),
    [
        (1, 3, None, "${job}: "),
        (2, {0: 3}, None, "${job}: "),
        (2, 3, None, "${job} rank ${rank}: "),
        (2, 0, None, "${job}: "),
        (3, {0: 1, 2: 2}, None, "${job} rank ${rank}: "),
        (2, 3, "", ""),
        (1, 3, "[${rank}] ", "[${rank}] "),
    ],
)
def test_lines_say_whose_they_are_when_more_than_one_rank_is_shown(
    workers: int, tee: Any, given: str | None, prefix: str
) -> None:
    assert launch(nproc_per_node=workers, logs__tee=tee, logs__line_prefix=given).line_prefix == prefix


def test_one_node_needs_no_endpoint_and_gets_a_free_port() -> None:
    assert launch(rendezvous__backend="c10d").rendezvous.endpoint == "127.0.0.1:0"
    assert launch(rendezvous__backend="static").rendezvous.endpoint == "127.0.0.1:0"


def test_c10d_gets_its_timeouts_under_their_own_names() -> None:
    job = launch(
        **TWO_NODES,
        rendezvous__join_timeout=7,
        rendezvous__last_call_timeout=2,
        rendezvous__keep_alive_interval=1,
        rendezvous__is_host=True,
        rendezvous__configs={"store_type": "tcp"},
    )
    assert job.rendezvous.configs == {
        "join_timeout": 7,
        "last_call_timeout": 2,
        "keep_alive_interval": 1,
        "is_host": True,
        "store_type": "tcp",
    }


@pytest.mark.parametrize("backend", ["static", "etcd"])
def test_the_join_timeout_reaches_backends_that_call_it_timeout(backend: str) -> None:
    rank: dict[str, Any] = {"rendezvous__node_rank": 1} if backend == "static" else {}
    job = launch(**{**TWO_NODES, "rendezvous__backend": backend, "rendezvous__join_timeout": 42, **rank})
    assert job.rendezvous.configs["timeout"] == 42
    assert "join_timeout" not in job.rendezvous.configs


def test_static_gets_the_rank_of_this_node() -> None:
    assert launch(**STATIC).rendezvous.configs["rank"] == 1
    assert launch(rendezvous__backend="static").rendezvous.configs["rank"] == 0


def test_the_problems_of_all_groups_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        launch(numa__threads=0, numa__explicit=["x"], numa__reserve_cores=-1, logs__dir=" ", stagger=-1)
    keys = [line.partition("=")[0].removeprefix("hydra.launcher.") for line in str(refused.value).splitlines()]
    assert keys == ["numa.reserve_cores", "numa.threads", "numa.explicit", "numa.explicit", "stagger", "logs.dir"]
