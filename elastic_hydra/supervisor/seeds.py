"""Random numbers of forked processes: what the app has seeded stays, what nobody has seeded is drawn anew.

A fork has its parent's generators, so that all forks would draw the same. None of the libraries notes whether it was
seeded, and this package is loaded after the app's module has run, so that it is inferred:

- torch draws a seed of 64 bits for itself, and notes `manual_seed` for the time when CUDA is started;
- numpy forgets the entropy that it drew from the system when its global generator is seeded;
- Python's generator is filled from the system with as many words as it has. A seed has fewer, which are used over and
  over, and this can be seen in the state, which is computed back to how it began.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elastic_hydra.compat import loaded

__all__ = ["Seeds", "apply", "look"]

_WORDS = 624
"""32-bit words in the state of the Mersenne Twister, the generator of Python's `random`."""
_MASK = 0xFFFFFFFF
_BEGINNING = 0x80000000
"""The first word of a state that was just filled from a key."""
_RENEWALS = 16
"""How often the state, which is renewed after 624 draws, may have been renewed since it was seeded: 1 ms for each."""
_LONGEST_SEED = 312
"""Words of a seed that can be told from none: the state shows it at least twice."""


@dataclass
class Seeds:
    """What forks do with the global random generators that they have from their parent."""

    python: Any = None
    """The state of `random`, which itself draws a new one in every fork; None: that is right, nobody has seeded it."""
    unseeded: list[str] = field(default_factory=list)
    """Names of other modules whose generator nobody has seeded."""


def look() -> Seeds:
    """See which generators of this process were seeded."""
    python = random.getstate() if _python_is_seeded() else None
    return Seeds(python, [name for name, (is_seeded, _) in _OTHERS.items() if name in sys.modules and not is_seeded()])


def apply(seeds: Seeds) -> None:
    """Give this process random numbers of its own, but for those that the app has seeded.

    Args:
        seeds: from `look`, called in the process of which this is a fork.
    """
    if seeds.python is not None:
        random.setstate(seeds.python)
    for name in seeds.unseeded:
        _OTHERS[name][1]()


def _torch_is_seeded() -> bool:
    torch = sys.modules["torch"]
    noted = loaded.noted_cuda_seed()
    # `torch.seed()`, too, is noted: with the stack of its caller, in which it stands by its name.
    by_seed = noted is not None and any(", in seed\n" in line for line in noted[1])
    return torch.initial_seed() < 1 << 32 or (noted is not None and not by_seed)


def _python_is_seeded() -> bool:
    words = list(random.getstate()[1][:_WORDS])
    if words[0] == _BEGINNING:
        return _key_repeats(words)
    for _ in range(_RENEWALS):
        words = _before_renewal(words)
        if _key_repeats(words):
            return True
    return False


def _before_renewal(words: list[int]) -> list[int]:
    """Undo one renewal of the state; of a state that was just filled, the first word remains unknown."""

    def moved_back(value: int) -> int:
        odd = value >> 31
        return ((value ^ (0x9908B0DF if odd else 0)) << 1 | odd) & _MASK

    words = words.copy()
    for i in reversed(range(_WORDS)):
        high = moved_back(words[i] ^ words[(i + 397) % _WORDS])
        low = moved_back(words[i - 1] ^ words[(i + 396) % _WORDS])
        words[i] = high & 0x80000000 | low & 0x7FFFFFFF
    return words


def _key_repeats(words: list[int]) -> bool:
    """Whether a state that was just filled had a key that is shorter than the state.

    Args:
        words: the state; its first word is not looked at.
    """
    words = words.copy()

    def mixed(previous: int, factor: int) -> int:
        return ((previous ^ (previous >> 30)) * factor) & _MASK

    # Filling goes over the words twice. The second time, the last one, began and ended with word 1.
    words[1] = ((words[1] + 1) & _MASK) ^ mixed(words[_WORDS - 1], 1566083941)
    for i in range(_WORDS - 1, 1, -1):
        words[i] = ((words[i] + i) & _MASK) ^ mixed(words[i - 1], 1566083941)
    constant = [19650218]
    for i in range(1, _WORDS):
        constant.append((1812433253 * (constant[-1] ^ (constant[-1] >> 30)) + i) & _MASK)
    # The first time, the key's words are added. Those of words 1 and 2 cannot be told: word 1 was changed twice.
    key = [(words[i] - (constant[i] ^ mixed(words[i - 1], 1664525))) & _MASK for i in range(3, _WORDS)]
    lengths = range(1, _LONGEST_SEED + 1)
    return any(key[0] == key[length] and key[length:] == key[:-length] for length in lengths)


_OTHERS: Mapping[str, tuple[Callable[[], bool], Callable[[], Any]]] = {
    "numpy.random": (loaded.numpy_is_seeded, lambda: sys.modules["numpy.random"].seed()),
    "torch": (_torch_is_seeded, lambda: sys.modules["torch"].default_generator.seed()),
}
"""Of each module: whether it was seeded, and how it is given new numbers."""
