"""Machines to read, in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from elastic_hydra.numa.allowance import Allowance, read_allowance
from elastic_hydra.numa.topology import Topology, read_topology
from tests.numa.machines import DATA, machine, write, write_real

Host = tuple[Topology, Allowance]
_ON_REQUEST = {"qemu": "boots a virtual machine (about a minute)", "slow": "takes long"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take long run only when `-m` names their marker; tests over real machines only where the data is."""
    if not DATA.is_dir():
        left_out = [item for item in items if item.get_closest_marker("topologies")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    asked = config.option.markexpr or ""
    for item in items:
        for marker, why in _ON_REQUEST.items():
            if item.get_closest_marker(marker) and marker not in asked and Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"{why}: run it with -m {marker}"))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Host]:
    """Reads a real machine by name."""

    @cache
    def read(name: str) -> Host:
        root = write_real(tmp_path_factory.mktemp("machine"), name)
        return read_topology(root), read_allowance(root)

    return read


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Host]:
    """Reads a small machine made of `machine`'s arguments."""

    def read(*args: object, **kwargs: object) -> Host:
        root = write(tmp_path, machine(*args, **kwargs))  # type: ignore[arg-type]
        return read_topology(root), read_allowance(root)

    return read
