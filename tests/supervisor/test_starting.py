"""A worker starts as its own interpreter would: what the app has set at import is there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from elastic_hydra.supervisor import seeds
from tests.helpers.launching import launch, script

pytestmark = pytest.mark.system

APP = """
    import faulthandler, io, json, os, random, signal, sys
    import numpy, torch

    class Tee:
        def __init__(self, stream):
            self.stream = stream

        def write(self, text):
            return self.stream.write(text.upper())

        def __getattr__(self, name):
            return getattr(self.stream, name)

    random.seed(1), numpy.random.seed(2), torch.manual_seed(3)
    random.random()
    sys.stdout = Tee(sys.stdout)
    sys.stderr.reconfigure(encoding="latin-1")
    sys.excepthook = lambda kind, error, trace: print("hook:", error)
    signal.signal(signal.SIGTERM, lambda *_: print("the app's handler"))
    signal.signal(signal.SIGUSR1, lambda *_: print("another"))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    faulthandler.enable()

    def state():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
        print("é", file=sys.stderr)
        draws = [random.random(), float(numpy.random.rand()), float(torch.rand(1))]
        print(json.dumps([draws, faulthandler.is_enabled(), sys.stderr.encoding]))

    def main():
        state()
        faulthandler._sigsegv() if sys.argv[1] == "crash" else exec("raise ValueError('failed')")

    if __name__ == "__main__":
        if "RANK" in os.environ:
            main()
        else:
            from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
            from elastic_hydra import LaunchConfig, elastic_launch
            before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
            try:
                elastic_launch(LaunchConfig(1, 1, 1, start_method="warm", max_restarts=0), main)()
            except ChildFailedError:
                pass
            assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
"""


@pytest.mark.parametrize("end", ["crash", "fail"])
def test_a_worker_has_what_the_app_has_set_at_import(end: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.py"
    path.write_text(textwrap.dedent(APP))
    alone = subprocess.run(
        [sys.executable, "-u", str(path), end], capture_output=True, env={**os.environ, "RANK": "0"}, check=False
    )
    with script(tmp_path, APP, end) as started:
        output = started.output()
        said = (tmp_path / "stderr.txt").read_bytes()
    assert started.process.returncode == 0, said
    assert output == alone.stdout.decode()
    assert b"\xe9\n" in said
    assert (b"Segmentation fault" in said) == (b"Segmentation fault" in alone.stderr) == (end == "crash")


@pytest.mark.parametrize("seed", [0, 1, 2**40, "text", b"bytes", 1.5, None])
@pytest.mark.parametrize("draws", [0, 1, 624, 5000])
def test_it_is_seen_whether_python_was_seeded(seed: str | bytes | float | None, draws: int) -> None:
    before = random.getstate()
    random.seed(seed)
    for _ in range(draws):
        random.getrandbits(32)
    try:
        assert (seeds.look().python is not None) == (seed is not None)
    finally:
        random.setstate(before)


def test_a_program_gets_the_signals_as_programs_expect_them(tmp_path: Path) -> None:
    show = f"grep SigIgn /proc/self/status > {tmp_path}/ignored"
    subprocess.run(["sh", "-c", show], check=True)
    expected = (tmp_path / "ignored").read_text()
    launch("sh", "-c", show, workers=1)
    assert (tmp_path / "ignored").read_text() == expected
