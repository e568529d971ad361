"""The exhaustive product of the fault matrix takes minutes: it runs when it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take long run only when `-m` names their marker."""
    for item in items:
        asked = "slow" in (config.option.markexpr or "")
        if item.get_closest_marker("slow") and not asked and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run it with -m slow"))
