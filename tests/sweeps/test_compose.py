"""By what the launchers of several nodes know that they are at the same job."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from elastic_hydra.config.resolve import Launch
from elastic_hydra.sweeps import compose
from tests.config.settings import launch

CONFIG: DictConfig = OmegaConf.create({"hydra": {"job": {"name": "train", "config_name": "config"}}})


def on_two_nodes(rank: int) -> Launch:
    return launch(nodes=2, rendezvous__backend="static", rendezvous__endpoint="n1:29500", rendezvous__node_rank=rank)


def run_id(rank: int, *overrides: str) -> str:
    return compose._run_id(3, list(overrides), on_two_nodes(rank), CONFIG)


def test_what_differs_from_node_to_node_does_not_part_the_nodes_of_a_job() -> None:
    ids = {run_id(rank, "lr=1", f"rendezvous.node_rank={rank}", f"+rendezvous.local_addr=n{rank}") for rank in (0, 1)}
    assert len(ids) == 1


def test_jobs_with_other_overrides_do_not_meet() -> None:
    assert run_id(0, "lr=1") != run_id(0, "lr=2")


def test_jobs_of_one_node_never_meet() -> None:
    assert compose._run_id(3, [], launch(), CONFIG) != compose._run_id(3, [], launch(), CONFIG)
