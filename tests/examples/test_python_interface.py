"""The example without Hydra."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.pages import commands, run

pytestmark = pytest.mark.system


def test_workers_return_values_and_bring_their_exception(tmp_path: Path) -> None:
    (command,) = commands("python_interface")
    assert run(command, tmp_path).splitlines() == [
        "{0: 3.0, 1: 3.0}",
        "failed: ArithmeticError('lr=50.0 is too large')",
    ]
