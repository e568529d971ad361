"""Changes after which a module does the same as before, so that no test can notice them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EQUIVALENT", "Equivalent"]


class Equivalent(NamedTuple):
    """A line, and what it is changed to."""

    module: str
    before: str
    after: str
    why: str


_FIRST_OF_SEVERAL = "only the first of them is looked at"
_NOT_SEEN = "the problems that it names go nowhere"
_CONFIG = "elastic_hydra.config"

EQUIVALENT: tuple[Equivalent, ...] = (
    Equivalent(
        f"{_CONFIG}.errors",
        "close = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.5)",
        "close = difflib.get_close_matches(str(word), list(allowed), n=2, cutoff=0.5)",
        _FIRST_OF_SEVERAL,
    ),
    Equivalent(
        f"{_CONFIG}.errors",
        "close = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.5)",
        "close = difflib.get_close_matches(str(word), list(allowed), cutoff=0.5)",
        _FIRST_OF_SEVERAL,
    ),
    Equivalent(
        f"{_CONFIG}.exceptions",
        "if i > 1 and j > 1 and letter == known[j - 2] and word[i - 2] == known_letter:",
        "if i > 2 and j > 1 and letter == known[j - 2] and word[i - 2] == known_letter:",
        "names that are compared have the same first letter, so the first two do not change places",
    ),
    Equivalent(
        f"{_CONFIG}.exceptions",
        "if i > 1 and j > 1 and letter == known[j - 2] and word[i - 2] == known_letter:",
        "if i > 1 and j > 2 and letter == known[j - 2] and word[i - 2] == known_letter:",
        "names that are compared have the same first letter, so the first two do not change places",
    ),
    Equivalent(
        f"{_CONFIG}.logs",
        "read = {-1: -1}",
        "read = {-1: -2}",
        "a rank below 0 is refused, whatever its streams are",
    ),
    Equivalent(
        f"{_CONFIG}.logs",
        "teed = [rank for rank in range(workers) if (tee.get(rank, 0) if isinstance(tee, dict) else tee)]",
        "teed = [rank for rank in range(workers) if (tee.get(rank, None) if isinstance(tee, dict) else tee)]",
        "None is as false as 0",
    ),
    Equivalent(
        f"{_CONFIG}.resources",
        'return max(1, _count("", keys.gpus_per_worker, 0, Problems()) or 1)',
        "return max(1, _count(None, keys.gpus_per_worker, 0, Problems()) or 1)",
        _NOT_SEEN,
    ),
    Equivalent(
        f"{_CONFIG}.resources",
        'return max(1, _count("", keys.gpus_per_worker, 0, Problems()) or 1)',
        'return max(1, _count("XXXX", keys.gpus_per_worker, 0, Problems()) or 1)',
        _NOT_SEEN,
    ),
    Equivalent(
        f"{_CONFIG}.resources",
        'return max(1, _count("", keys.gpus_per_worker, 0, Problems()) or 1)',
        'return max(1, _count("", keys.gpus_per_worker, 1, Problems()) or 1)',
        "0 and no number both give 1",
    ),
    Equivalent(
        f"{_CONFIG}.typed",
        "values: Any = OmegaConf.to_container(launcher, resolve=False)",
        "values: Any = OmegaConf.to_container(launcher, resolve=None)",
        "None is as false as False",
    ),
    Equivalent(
        f"{_CONFIG}.watch",
        "return None if self.memory_limit is None else number_of_bytes(self.memory_limit)",
        "return None if (self.memory_limit is None) and False else number_of_bytes(self.memory_limit)",
        "None is no size either",
    ),
    Equivalent(
        "elastic_hydra.journal.values",
        "cloudpickle.Pickler(spill, protocol=pickle.HIGHEST_PROTOCOL).dump(value)",
        "cloudpickle.Pickler(spill, protocol=None).dump(value)",
        "None is cloudpickle's own choice, which is the highest one",
    ),
    Equivalent(
        "elastic_hydra.journal.values",
        "cloudpickle.Pickler(count, protocol=pickle.HIGHEST_PROTOCOL).dump(value)",
        "cloudpickle.Pickler(count, protocol=None).dump(value)",
        "None is cloudpickle's own choice, which is the highest one",
    ),
    Equivalent(
        "elastic_hydra.journal.values",
        "return room - (len(value) if kind is str else 8) if kind in _SAME else -1",
        "return room - (len(value) if kind is str else 8) if kind in _SAME else -2",
        "all numbers below 0 say the same",
    ),
)
