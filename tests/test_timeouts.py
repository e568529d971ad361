"""Who waits for somebody who waits for others waits longer: no processes."""

from __future__ import annotations

import pytest

from elastic_hydra import timeouts
from elastic_hydra.config.backends import BACKENDS
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.timeouts import ORDERS, Order

NAMES = [name for name, value in vars(timeouts).items() if isinstance(value, float)]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{'+'.join(order.shorter)}<{order.longer}")
def test_each_time_out_leaves_room_for_those_within_it(order: Order) -> None:
    assert order.holds(), f"{' + '.join(order.shorter)} must be less than {order.longer}: else {order.otherwise}"


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.longer)
def test_an_order_does_not_hold_when_the_longer_one_is_no_longer(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, order.longer, sum(getattr(timeouts, name) for name in order.shorter))
    assert not order.holds()


def test_all_of_them_are_seconds_that_pass() -> None:
    assert NAMES
    assert all(getattr(timeouts, name) > 0 for name in NAMES)


def test_nodes_look_often_enough_to_hear_the_last_words_of_another_one() -> None:
    slowest = max([ElasticConfig().monitor_interval, *(backend.interval for backend in BACKENDS.values())])
    assert slowest < timeouts.ROOT_CAUSE_PATIENCE
    assert slowest < timeouts.FAREWELL


@pytest.mark.parametrize("shutdown_timeout", [0.0, 30.0])
def test_each_process_is_given_more_time_than_it_gives_those_below_it(shutdown_timeout: float) -> None:
    agent = timeouts.end_of_agent(shutdown_timeout)
    assert agent == shutdown_timeout + timeouts.AGENT_MARGIN
    assert timeouts.end_of_server(agent) == agent + timeouts.SERVER_MARGIN
    assert timeouts.end_of_job(60.0, shutdown_timeout) == 60.0 + shutdown_timeout + timeouts.HANG_MARGIN
