"""What this process is to CUDA, as the driver library says it: here with libraries that stand for it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from elastic_hydra.supervisor import cuda_driver


def test_a_library_that_nothing_has_loaded_is_not_loaded() -> None:
    assert not cuda_driver.is_initialized("libelastic-hydra-has-no-such-library.so.1")


@pytest.mark.system
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(("answer", "initialized"), [(3, False), (0, True), (100, True)])
def test_the_driver_says_whether_it_is_initialized(answer: int, initialized: bool, tmp_path: Path) -> None:
    library = tmp_path / f"libdriver{answer}.so"
    code = f"int cuDeviceGetCount(int *count) {{ return {answer}; }}"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)], input=code, text=True, check=True)
    assert not cuda_driver.is_initialized(str(library)), "it is not loaded yet"
    ctypes.CDLL(str(library))
    assert cuda_driver.is_initialized(str(library)) == initialized
