"""The name of a class of keys, which OmegaConf prints for a key that the class does not have."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from elastic_hydra.config.keys import names_its_keys


def test_an_unknown_key_is_answered_with_the_keys_that_there_are() -> None:
    @dataclass
    class Pairs:
        b: int = 0
        _target_: str = ""
        a: int = 0

    assert names_its_keys(Pairs) is Pairs
    assert Pairs.__name__ == "Pairs, which has: a, b"
    with pytest.raises(ConfigAttributeError, match="Pairs, which has: a, b"):
        OmegaConf.structured(Pairs).c = 1
