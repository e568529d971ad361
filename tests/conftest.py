"""What holds for the whole suite: the signals that it starts with, and what it leaves out here."""

from __future__ import annotations

import signal

import pytest

from tests.numa.machines import DATA


def pytest_configure(config: pytest.Config) -> None:
    """Hear signals that whoever started the suite ignores, as `nohup` and a shell's `&` do: programs inherit that."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_report_header() -> list[str]:
    """Say once what is left out because its data is not here."""
    if DATA.is_dir():
        return []
    return [f"left out: tests over real machines (marker topologies), whose topologies are not at {DATA}"]
