"""The pages of the examples, and how the tests run what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def commands(example: str) -> list[str]:
    """Return the lines of the page's blocks of commands, except for installations."""
    page = (EXAMPLES / example / "README.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if not line.startswith("pip install")]


def run(command: str, folder: Path, *overrides: str, **variables: str) -> str:
    """Run a line of a page as its reader would, and return what it prints.

    Args:
        command: for the shell, to be run in the checkout.
        folder: where it runs instead, so that nothing is written into the checkout.
        overrides: appended to the line, so that it takes seconds.
        variables: of the environment, in addition.
    """
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(EXAMPLES)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{command} {shlex.join(overrides)}"],
        cwd=folder,
        env={**os.environ, "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
