"""Which deaths are caused by another one: no processes."""

from __future__ import annotations

import signal

import pytest

from elastic_hydra.failures.echo import is_echo, lost_other_rank
from elastic_hydra.failures.evidence import Death, ExceptionFacts


def raised(name: str, message: str = "", *bases: str) -> Death:
    return Death(0, 0.0, 1, exception=ExceptionFacts(name, bases, message))


@pytest.mark.parametrize(
    ("text", "echo"),
    [
        ("Connection closed by peer", True),
        ("connection was reset", True),
        ("Connection refused", True),
        ("connection aborted", True),
        ("connection timed out", False),
        ("connection lost", False),
        ("Broken pipe", True),
        ("Socket closed", True),
        ("socket timeout", False),
        ("Gloo connectFullMesh failed", True),
        ("ncclRemoteError: a remote process", True),
        ("ncclSystemError", False),
        ("ncclUnhandledCudaError", False),
        ("NCCL error in", False),
        ("NCCL communicator was aborted", False),
        ("remote process exited", True),
        ("network error", False),
        ("Network is unreachable", False),
        ("No route to host", False),
        ("[gloo/pair.cc] read timeout", False),
        ("Timed out waiting 1800000ms for recv operation", False),
        ("timeout waiting for the store", False),
        ("Watchdog caught collective operation timeout", False),
    ],
)
def test_of_torchs_texts_those_are_echoes_that_name_a_closed_connection(text: str, echo: bool) -> None:
    death = raised("RuntimeError", f"before: {text} after")
    assert is_echo(death) is echo
    assert lost_other_rank(death)
    assert not is_echo(raised("ValueError", text))
    assert not lost_other_rank(raised("ValueError", text))


@pytest.mark.parametrize(
    ("death", "echo", "between_ranks"),
    [
        (Death(0, 0.0, 1), False, False),
        (Death(0, 0.0, -signal.SIGKILL), False, False),
        (Death(0, 0.0, 1, last_line="Connection closed by peer"), False, False),
        (Death(0, 0.0, 1, what="Connection closed by peer"), False, False),
        (raised("ValueError"), False, False),
        # A plain ConnectionError may be the user's own, to a database: it is an echo, if another rank has died, too.
        (raised("ConnectionError"), True, False),
        (raised("ConnectionResetError", "", "ConnectionError"), True, False),
        (raised("ConnectionRefusedError", "", "ConnectionError"), False, False),
        (raised("ConnectionRefusedError", "connection refused", "ConnectionError"), True, False),
        (raised("torch.distributed.DistBackendError"), False, True),
        (raised("torch.distributed.DistNetworkError", "Connection reset by peer"), True, True),
        (raised("torch.distributed.DistStoreError", "wait timeout after 300000ms"), False, True),
    ],
)
def test_who_died_of_another_one(death: Death, echo: bool, between_ranks: bool) -> None:
    assert is_echo(death) is echo
    assert lost_other_rank(death) is between_ranks


def test_what_hydra_puts_around_an_echo_changes_nothing() -> None:
    inner = ExceptionFacts("RuntimeError", (), "Connection closed by peer")
    outer = ExceptionFacts(
        "hydra.errors.InstantiationException", ("hydra.errors.HydraException",), "Error in call", cause=inner
    )
    assert is_echo(Death(0, 0.0, 1, exception=outer))
