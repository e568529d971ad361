"""What holds for the whole suite: its lanes, and the signals that it starts with.

Every test is in one of two lanes. A test without a marker is `pure`: it starts no process, and fails when it does.
A test with the marker `system` starts processes, or takes more than a moment. Some of these also have the marker
`smoke`: together they show each part at work once. When no file is named and no `-m` is given, `pure` and `smoke` run.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Generator, Iterator

import pytest
from hydra.core.singleton import Singleton

from tests.helpers.slurm import slurm, slurm_cluster  # noqa: F401
from tests.helpers.sshd import sshd  # noqa: F401
from tests.numa.machines import DATA

_DEFAULT = "pure or smoke"
_LEFT_OUT = (
    "left out: tests that start many processes (.ci/lane system), take minutes (.ci/lane slow), "
    "need a GPU (.ci/lane gpu) or a Slurm cluster (.ci/lane slurm), or boot a virtual machine (.ci/lane qemu)"
)
_ON_REQUEST = ("slow", "qemu", "gpu", "slurm", "quarantine")
"""Tests with these markers run only when `-m` names the marker."""
_STARTS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
"""What the interpreter calls the start of a process, for audit hooks."""

_started: list[str] | None = None
"""How the pure test that runs now has started processes; None while no pure test runs."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose the lanes, hide GPUs, and hear signals that whoever started the suite ignores: programs inherit that.

    `nohup` and a shell's `&` make their programs ignore some signals.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # Tests expect the host of most runs: one without a GPU. Those that need one look at it again.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if not config.option.markexpr and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.option.markexpr = _DEFAULT
    sys.addaudithook(_note_start)


def _note_start(event: str, args: tuple[object, ...]) -> None:
    if _started is not None and event in _STARTS:
        _started.append(f"{event}{args[:2]!r}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark pure tests, and leave out what runs on request only or has no data here."""
    asked = config.option.markexpr
    left_out = []
    for item in items:
        if item.get_closest_marker("system") is None:
            item.add_marker("pure")
        on_request = [marker for marker in _ON_REQUEST if item.get_closest_marker(marker)]
        without_data = not DATA.is_dir() and item.get_closest_marker("topologies")
        if without_data or any(marker not in asked for marker in on_request):
            left_out.append(item)
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that says that it is pure, and starts a process."""
    global _started
    if item.get_closest_marker("pure") is None:
        yield
        return
    started: list[str] = []
    _started = started
    try:
        yield
    finally:
        _started = None
    assert not started, f"a test that starts a process needs the marker `system`: {started[0]}"


@pytest.fixture(scope="module", autouse=True)
def kept_singletons() -> Iterator[None]:
    """Give Hydra's singletons back as they were: composing sets the version base of the whole process.

    Hydra's own fixture copies them for each test, which takes longer than what the tests do.
    """
    before = copy.deepcopy(Singleton.get_state())
    yield
    Singleton.set_state(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape in what a test has logged what is not UTF-8: pytest-xdist cannot send it, and would end the whole run."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_report_header() -> list[str]:
    """Say once what is left out because its data is not here."""
    if DATA.is_dir():
        return []
    return [f"left out: tests over real machines (marker topologies), whose topologies are not at {DATA}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say at the end what the test command leaves out, and how that is run."""
    if config.option.markexpr == _DEFAULT:
        terminalreporter.write_line(_LEFT_OUT)
