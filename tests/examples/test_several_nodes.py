"""The example of several nodes: two launchers that meet at an endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.examples.pages import run
from tests.helpers.packages import needs
from tests.nodes.conftest import free_port

pytestmark = [pytest.mark.system, needs("sklearn", extra="examples")]

SLURM = {
    "scontrol": "#!/bin/sh\necho localhost\n",
    # As srun does with two nodes: the command once on each.
    "srun": '#!/bin/sh\n"$@" device=cpu epochs=1 & second=$!\n"$@" device=cpu epochs=1 || exit\nwait $second\n',
}


def ranks(log_files: Iterable[Path]) -> list[int]:
    """Return which of the four ranks have written a log of theirs."""
    texts = [path.read_text() for path in log_files]
    return sorted(rank for rank in range(4) for text in texts if f"rank {rank} of 4" in text)


def test_two_launchers_on_one_machine_train_one_group(tmp_path: Path) -> None:
    script = "bash examples/several_nodes/on_one_machine.sh"
    output = run(script, tmp_path, "epochs=1", ENDPOINT=f"localhost:{free_port()}", SWEEP_DIR="sweep")
    for node in ("0", "1"):
        assert re.search(rf"^node {node}: .*#0 finished", output, re.MULTILINE), output
    assert ranks(tmp_path.glob("sweep/node*/0/train*.log")) == [0, 1, 2, 3]


@pytest.mark.slow
def test_the_command_of_the_page_runs_once_per_node_as_slurm_starts_it(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in SLURM.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    script = 'PATH="$PWD/bin:$PATH" bash examples/several_nodes/job.sbatch'
    output = run(script, tmp_path, SLURM_JOB_NODELIST="node[0-1]", SLURM_JOB_ID="17", PORT=str(free_port()))
    assert output.count("2 finished") == 2
    for job in ("0", "1"):
        assert ranks((tmp_path / "multirun" / "17" / job).glob("train*.log")) == [0, 1, 2, 3]
