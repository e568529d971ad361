"""One combination of versions: its environment, and the tests in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SLIM_TORCH = Path(__file__).with_name("slim_torch.py")
TESTS = ("tests/config", "tests/test_conformance.py", "tests/examples/test_digits.py")
"""What starts processes and depends on Hydra, torch or Python."""
RUNS = (("-m", "pure"), ("-m", "system and not slow", *TESTS))


class Combination(NamedTuple):
    """Minor versions."""

    python: str
    torch: str
    hydra: str

    def __str__(self) -> str:
        return f"python {self.python} torch {self.torch} hydra {self.hydra}"


@dataclass(frozen=True)
class Outcome:
    """What became of a combination."""

    state: str
    """`passes`, `fails`, `impossible` or `not tested`."""
    reason: str = ""
    torch: str = ""
    """The release that was tested, such as 2.9.1."""


class _Failed(Exception):
    """A command has failed; with what it printed."""


def run_tests(
    combination: Combination, python: Path, folder: Path, hydra: str, torch_index: str | None, *, slim: bool
) -> Outcome:
    """Make the environment of a combination, unless it is there, and run the tests in it.

    Args:
        combination: the versions.
        python: interpreter to make the environment from.
        folder: of the environment.
        hydra: what pip is asked for.
        torch_index: address of pip's index for torch; None: the one that pip is set up for.
        slim: whether torch is installed without CUDA's libraries.
    """
    environment = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        try:
            _install(combination, python, folder, hydra, torch_index, slim=slim)
        except _Failed as error:
            return Outcome("not tested", _pip_says(str(error)))
        complete.touch()
    release = _run([environment, "-c", "import torch; print(torch.__version__)"]).strip()
    try:
        pytest: list[str | Path] = [environment, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        outputs = [_run([*pytest, *arguments]) for arguments in RUNS]
    except _Failed as error:
        (folder / "failed.log").write_text(str(error))
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", str(error), re.MULTILINE)
        return Outcome("fails", failed[0] if failed else str(error)[-500:], release)
    passed = [int(count) for output in outputs for count in re.findall(r"^(\d+) passed", output, re.MULTILINE)]
    return Outcome("passes", f"{sum(passed)} tests", release)


def _install(
    combination: Combination, python: Path, folder: Path, hydra: str, torch_index: str | None, *, slim: bool
) -> None:
    # Without its pip: some distributions' Pythons have none. The pip that runs this installs into all of them.
    _run([python, "-m", "venv", "--clear", "--without-pip", folder])
    environment = folder / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", environment, "install", "-q"]
    index = ["--index-url", torch_index] if torch_index else []
    _run([*pip, *index, *(["--no-deps"] if slim else []), f"torch=={combination.torch}.*"])
    if slim:
        _run([environment, SLIM_TORCH])
    _run([*pip, "-e", f"{ROOT}[test]", f"torch=={combination.torch}.*", hydra])


def _run(command: list[str | Path]) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise _Failed(done.stdout)
    return done.stdout


def _pip_says(output: str) -> str:
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    return errors[-1] if errors else output[-500:]
