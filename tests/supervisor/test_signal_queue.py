"""Signals wait in their queue until somebody looks, except in calls that nothing else could end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time

import pytest

from elastic_hydra.supervisor.signal_queue import SignalQueue, check, in_use, interruptibly

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


class Came(Exception):
    """An exception of the usual kind, as torch's is, which a careless caller catches."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number


def raise_and_hear(number: signal.Signals) -> signal.Signals:
    signal.raise_signal(number)
    with pytest.raises(Came) as came:
        check()
    return came.value.number


def careless() -> None:
    with contextlib.suppress(Exception):
        signal.raise_signal(signal.SIGTERM)
    raise AssertionError("the signal was not raised here")


def test_a_signal_waits_until_somebody_looks() -> None:
    with SignalQueue(NUMBERS, Came):
        check()
        assert raise_and_hear(signal.SIGTERM) is signal.SIGTERM
        check()


def test_signals_are_raised_in_their_order() -> None:
    with SignalQueue(NUMBERS, Came):
        signal.raise_signal(signal.SIGUSR1)
        assert raise_and_hear(signal.SIGTERM) is signal.SIGUSR1
        with pytest.raises(Came) as came:
            check()
        assert came.value.number is signal.SIGTERM


def test_a_signal_that_comes_again_changes_nothing_but_ctrl_c_counts_each_time() -> None:
    with SignalQueue(NUMBERS, Came):
        raise_and_hear(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        check()
        raise_and_hear(signal.SIGINT)
        raise_and_hear(signal.SIGINT)


def test_a_second_ctrl_c_is_raised_at_once_while_the_first_one_waits() -> None:
    with SignalQueue(NUMBERS, Came):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Came):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Came):
            check()
        check()


def test_a_call_that_cannot_be_woken_is_ended_whatever_exceptions_it_catches() -> None:
    with SignalQueue(NUMBERS, Came), pytest.raises(Came) as came:
        interruptibly(careless)
    assert came.value.number is signal.SIGTERM


def test_a_signal_that_waits_is_raised_before_the_call() -> None:
    with SignalQueue(NUMBERS, Came):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Came):
            interruptibly(pytest.fail, "it was called")


def test_a_call_within_such_a_call_leaves_the_outer_one_interruptible() -> None:
    def outer() -> None:
        interruptibly(divmod, 7, 2)
        careless()

    with SignalQueue(NUMBERS, Came), pytest.raises(Came):
        interruptibly(outer)


def test_after_the_call_signals_wait_again() -> None:
    with SignalQueue(NUMBERS, Came):
        assert interruptibly(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            interruptibly(divmod, 7, 0)
        raise_and_hear(signal.SIGTERM)


def test_a_signal_for_which_nobody_has_looked_is_raised_at_the_end() -> None:
    with pytest.raises(Came), SignalQueue(NUMBERS, Came):
        signal.raise_signal(signal.SIGTERM)


def test_at_the_end_a_signal_goes_before_what_has_failed() -> None:
    def fail() -> None:
        with SignalQueue(NUMBERS, Came):
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(Came) as came:
        fail()
    assert isinstance(came.value.__context__, ZeroDivisionError)


def test_at_the_end_the_first_signal_counts() -> None:
    def end_for(number: signal.Signals) -> None:
        with SignalQueue(NUMBERS, Came):
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGUSR1)
            check()

    with pytest.raises(Came) as came:
        end_for(signal.SIGTERM)
    assert came.value.number is signal.SIGTERM


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with SignalQueue(NUMBERS, Came):
        assert all(signal.getsignal(number) not in before for number in NUMBERS)
        assert in_use() is not None
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert in_use() is None


def test_the_innermost_queue_is_in_use() -> None:
    with SignalQueue(NUMBERS, Came):
        with SignalQueue([signal.SIGTERM], KeyError):
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(KeyError):
                check()
        assert raise_and_hear(signal.SIGTERM) is signal.SIGTERM


def test_another_thread_neither_gets_signals_nor_sets_handlers() -> None:
    found: list[object] = []

    def in_thread() -> None:
        check()
        found.append(interruptibly(divmod, 7, 2))
        with SignalQueue(NUMBERS, Came):
            found.append(signal.getsignal(signal.SIGTERM))
            check()

    with SignalQueue(NUMBERS, Came):
        ours = signal.getsignal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        assert found == [(3, 1), ours]
        with pytest.raises(Came):
            check()


def test_a_signal_ends_a_wait_and_only_one() -> None:
    with SignalQueue(NUMBERS, Came) as queue:
        poll = select.poll()
        poll.register(queue, select.POLLIN)
        signal.raise_signal(signal.SIGTERM)
        assert poll.poll(60_000)
        with pytest.raises(Came):
            queue.check_after_wait()
        assert not poll.poll(0)


@pytest.mark.system
def test_a_fork_has_no_queue() -> None:
    with SignalQueue(NUMBERS, Came):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if in_use() is None and signal.set_wakeup_fd(-1) == -1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert raise_and_hear(signal.SIGTERM) is signal.SIGTERM


def test_a_signal_from_outside_ends_a_long_sleep() -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    with SignalQueue(NUMBERS, Came):
        timer.start()
        with pytest.raises(Came):
            interruptibly(time.sleep, 600)
    timer.join()
