"""What having the plugin installed costs a Hydra app that does not use it."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.harness import ROOT, interleave, run_command
from tests.benchmarks.report import Column, Table

HOW = (
    "A Hydra app without torch, with Hydra's basic launcher, that returns at once; whole process, without and with "
    "this plugin among those that Hydra finds (all others are hidden, in both cases). The app fails if torch was "
    "imported."
)
APP = """
import os, sys
sys.path.insert(0, {root!r})
import hydra_plugins
hydra_plugins.__path__ = [sys.argv.pop(1)]
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    assert "torch" not in sys.modules
    assert ("elastic_hydra" in sys.modules) == (len(os.listdir(hydra_plugins.__path__[0])) > 0)

main()
"""


def _measured(folder: Path, plugins: str, *overrides: str) -> dict[str, float]:
    ended = run_command([sys.executable, "app.py", plugins, *overrides], folder)
    return {"wall": ended.wall, "CPU": ended.cpu}


def run(rounds: int | None) -> list[Table]:
    """Measure a run and a TAB-like help."""
    import hydra_plugins.elastic_hydra_launcher as plugin

    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    try:
        (folder / "app.py").write_text(APP.format(root=str(ROOT)))
        (folder / "without").mkdir()
        (folder / "with").mkdir()
        (folder / "with" / "elastic_hydra_launcher").symlink_to(Path(plugin.__file__).parent)
        ways = {name: partial(_measured, folder, name, "hydra.run.dir=out") for name in ("without", "with")}
        samples = interleave(ways, rounds or 20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    samples["with, less without"] = {
        quantity: [a - b for a, b in zip(samples["with"][quantity], samples["without"][quantity], strict=True)]
        for quantity in ("wall", "CPU")
    }
    more = statistics.median(samples["with"]["wall"]) - statistics.median(samples["without"]["wall"])
    notes = [f"The medians of the wall time differ by {1000 * more:.1f} ms."]
    columns = [Column("wall", "ms", 1e-3, digits=1), Column("CPU", "ms", 1e-3, digits=1)]
    return [Table("unused", "a Hydra app that does not use the plugin", HOW, columns, samples, notes=notes)]
