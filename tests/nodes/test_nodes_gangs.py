"""Jobs of several nodes on hosts of one launcher that has no network in common with them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from elastic_hydra.journal.events import AttemptStarted, JobEnded, StoreOpened
from tests.helpers.apps import App
from tests.nodes.hosts import Cable, Host
from tests.sweeps.test_gangs import GANG, SUMS, held
from tests.sweeps.test_hosts import QUICK, environ, events, values

pytestmark = pytest.mark.system


def inside(*hosts: Host) -> dict[str, str]:
    """Have the places n1, n2 and so on be hosts."""
    return {f"HOSTS_HERE_INSIDE_n{number}": shlex.join(host.command([])) for number, host in enumerate(hosts, 1)}


def test_hosts_that_cannot_reach_the_launcher_meet_at_a_store_on_the_first_of_them(
    hosts: list[Host], tmp_path: Path
) -> None:
    first, second, _ = hosts
    finished = App(tmp_path, SUMS).run(*QUICK, *GANG, "+x=1,10", environ=environ(tmp_path, **inside(first, second)))
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 3.0, 1: 30.0}
    addresses = {"n1": first.address, "n2": second.address}
    node_0 = [held(event)[0] for event in events(finished, AttemptStarted)]
    meet_at = [event.endpoint.partition(":")[0] for event in events(finished, StoreOpened)]
    assert meet_at == [addresses[host] for host in node_0]


def test_a_job_whose_hosts_do_not_reach_each_other_fails_and_says_so(
    cable: Cable, hosts: list[Host], tmp_path: Path
) -> None:
    first, second, _ = hosts
    cable.drop(second, "disabled")
    try:
        finished = App(tmp_path, SUMS).run(*QUICK, *GANG, "+x=1", environ=environ(tmp_path, **inside(first, second)))
    finally:
        cable.drop(second, "forwarding")
    assert finished.returncode != 0
    (end,) = events(finished, JobEnded)
    (store,) = events(finished, StoreOpened)
    assert f"cannot reach the store at {store.endpoint}, where the nodes meet" in end.reason, finished.output
