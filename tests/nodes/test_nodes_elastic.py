"""Groups that grow and shrink while they train, on hosts of their own."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.nodes.hosts import HERE, Cable, Host, Program

pytestmark = pytest.mark.system

Start = Callable[..., Program]

PORT = 29400
TRAIN = ("what=train", "steps=100000")


def launch(host: Host, folder: Path, *arguments: str, **environment: str) -> Program:
    """Start one job by the Python interface on a host."""
    return Program(host, folder, [sys.executable, str(HERE / "launch.py"), *arguments], **environment)


def store(host: Host, folder: Path) -> Program:
    """Start a store that belongs to no node of the group."""
    code = (
        "import time; from torch.distributed import TCPStore\n"
        f"s = TCPStore('0.0.0.0', {PORT}, is_master=True, wait_for_workers=False); print('ready', flush=True)\n"
        "time.sleep(3600)"
    )
    return Program(host, folder, [sys.executable, "-c", code])


def trains(node: Program, world: int, after: float = 0.0, what: str = "") -> float:
    """Wait until a node trains in a group of this size; print how long it took, for those who tune timeouts."""
    event = node.wait_for_event("training", world=world, after=after)
    if what:
        print(f"{what}: {event['at'] - (after or node.started):.1f} s")
    return float(event["at"])


def stop_training(node: Program) -> None:
    """Let the workers end well, each in its next step."""
    (node.folder.parent / "checkpoint.stop").touch()


def is_gone(pid: int) -> bool:
    """Wait until a process is no more."""
    try:
        psutil.Process(pid).wait(10)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def test_sweep(hosts: list[Host], start: Start) -> None:
    h1, h2, _ = hosts
    settings = {"endpoint": f"h1:{PORT}", "nodes": "1:2"}
    first = start(h1, *TRAIN, **settings)
    trains(first, 1, what="a lone node starts")

    second = start(h2, *TRAIN, **settings)
    trains(second, 2, what="a second launcher's node is in")
    trains(first, 2)

    moment = second.kill_agent()
    trains(first, 1, moment, "goes on after an agent was killed")
    assert is_gone(second.events("training")[-1]["pid"])
    assert second.wait() == 1
    assert "was lost: it was killed by SIGKILL" in second.output()

    third = start(h2, *TRAIN, **settings)
    trains(third, 2, what="a node comes back")
    moment = time.time()
    third.signal(signal.SIGKILL)
    trains(first, 1, moment, "goes on after a launcher was killed")
    assert is_gone(third.events("training")[-1]["pid"])

    fourth = start(h2, *TRAIN, **settings)
    trains(fourth, 2)
    moment = time.time()
    fourth.signal(signal.SIGINT)
    trains(first, 1, moment, "goes on after Ctrl-C on the other node")
    first.wait_for_line(
        "host h2 was told to stop by SIGINT; restarting the workers at once: the nodes that are left go on"
    )
    assert fourth.wait() == 130 or fourth.process.returncode == -signal.SIGINT

    stop_training(first)
    assert first.wait() == 0, first.output()
    steps = [event["step"] for event in first.events("training")]
    assert steps == sorted(steps)
    assert first.results()[0]["value"] > steps[-1] > 0


@pytest.mark.parametrize("killed", ["agent", pytest.param("launcher", marks=pytest.mark.slow)])
def test_rank_0_is_lost(hosts: list[Host], start: Start, killed: str) -> None:
    h1, h2, _ = hosts
    settings = {"endpoint": f"h2:{PORT}", "nodes": "1:2"}
    second = start(h2, *TRAIN, **settings)
    first = start(h1, *TRAIN, **settings)
    trains(first, 2)
    trains(second, 2)
    assert first.events("training")[-1]["rank"] == 0
    if killed == "agent":
        moment = first.kill_agent()
    else:
        moment = time.time()
        first.signal(signal.SIGKILL)
    trains(second, 1, moment, f"goes on after rank 0's {killed} was killed")
    stop_training(second)
    assert second.wait() == 0, second.output()


@pytest.mark.slow
def test_black_hole(cable: Cable, hosts: list[Host], start: Start) -> None:
    """gloo waits 30 minutes for a node that has vanished; the agents do not."""
    h1, h2, _ = hosts
    settings = {"endpoint": f"h1:{PORT}", "nodes": "1:2"}
    first = start(h1, *TRAIN, **settings)
    trains(first, 1)
    second = start(h2, *TRAIN, **settings)
    trains(second, 2)
    trains(first, 2)
    moment = time.time()
    cable.drop(h2, "disabled")
    try:
        trains(first, 1, moment, "goes on after the other node vanished")
    finally:
        cable.drop(h2, "forwarding")
    moment = time.time()
    trains(first, 2, moment, "the other node is back")
    stop_training(first)
    assert first.wait() == 0, first.output()


@pytest.mark.parametrize("kind", ["script", pytest.param("function", marks=pytest.mark.slow)])
def test_python_interface(hosts: list[Host], start: Start, kind: str) -> None:
    h1, h2, h3 = hosts
    start(h3, make=store).wait_for_line("ready")
    arguments = [f"h3:{PORT}", "1:2", kind, "last_call_timeout=2", "keep_alive_interval=1", "keep_alive_max_attempt=3"]
    second = start(h2, *arguments, make=launch)
    trains(second, 1)
    first = start(h1, *arguments, make=launch)
    trains(first, 2, what="joins")
    trains(second, 2)
    worker = next(e["pid"] for e in first.events("training", world=2))
    moment = first.kill_agent()
    trains(second, 1, moment, f"goes on after an agent of a {kind} was killed")
    assert is_gone(worker)
    stop_training(second)
    assert second.wait() == 0, second.output()
