"""Sweeps that are launched in a Jupyter notebook: a real kernel runs the cells."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

jupyter_client = pytest.importorskip(
    "jupyter_client", reason="needs the extra `notebook`: jupyter_client and ipykernel"
)
pytest.importorskip("ipykernel", reason="needs the extra `notebook`: jupyter_client and ipykernel")

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DEFINITIONS = """
import os, threading, time
from pathlib import Path
import torch
import elastic_hydra

factor = 10

class Answer:
    def __init__(self, value):
        self.value = value

def task(cfg):
    if cfg.get("wait"):
        Path("started").touch()
        time.sleep(600)
    return Answer(cfg.x * factor + int(os.environ["WORLD_SIZE"]))

torch.ones(300, 300) @ torch.ones(300, 300)  # a pool of threads, after which a fork would hang
"""
SWEEP = """
sweep = elastic_hydra.sweep(task, ["+x=1,2", "hydra.launcher.nproc_per_node=2"])
results = sweep.results()
print([(result.state, isinstance(result.value, Answer) and result.value.value) for result in results])
"""
INTERRUPTED = """
sweep = elastic_hydra.sweep(task, ["+x=1,2", "+wait=true"])
try:
    sweep.results()
except KeyboardInterrupt:
    print("interrupted", [result.state for result in sweep.results()], sweep.running)
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Any]:
    """Run a kernel whose working directory is the test's."""
    manager = jupyter_client.KernelManager()
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=300)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def cell(client: Any, code: str, meanwhile: Callable[[], None] = lambda: None) -> str:
    """Run a cell, and return what it has printed."""
    shown: list[str] = []
    request = client.execute(code)
    meanwhile()
    while True:
        message = client.get_iopub_msg(timeout=600)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            shown.append(content["text"])
        if message["msg_type"] == "error":
            shown += content["traceback"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return "".join(shown)


def test_functions_and_classes_of_cells_are_launched(kernel: Any) -> None:
    _, client = kernel
    assert "Error" not in cell(client, DEFINITIONS)
    said = cell(client, SWEEP)
    assert "[('finished', 12), ('finished', 22)]" in said
    assert cell(client, "print(os.getcwd() == str(Path.cwd()), threading.active_count() > 1)").startswith("True True")


def test_interrupting_the_kernel_stops_the_sweep(kernel: Any, tmp_path: Path) -> None:
    manager, client = kernel

    def interrupt() -> None:
        while not (tmp_path / "started").exists():
            assert manager.is_alive()
            time.sleep(0.05)
        manager.interrupt_kernel()

    cell(client, DEFINITIONS)
    said = cell(client, INTERRUPTED, interrupt)
    assert "interrupted ['interrupted', 'not started'] False" in said
