"""A script, a module or another program as the task of a job, as torchrun would start it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig

from elastic_hydra.config.errors import ConfigError

__all__ = ["Program"]

_IS_PYTHON = re.compile(r"python[0-9.]*")


@dataclass(frozen=True)
class Program:
    """What the workers of a job execute. It stands where Hydra has a task function, and is never called."""

    name: str
    """Of the job: that of the script, the module or the program."""
    entrypoint: str
    """The program; for scripts and modules, this interpreter, in whose place warm workers run them."""
    arguments: tuple[str, ...]
    folder: str
    """Where Python finds the script's own modules."""

    @classmethod
    def of(cls, words: Sequence[str]) -> Program:
        """Find the program of a command line.

        Args:
            words: `train.py …`, `-m package.module …`, `python train.py …` or `./program …`.

        Raises:
            ConfigError: there is no such program; it says what to do.
        """
        words = list(words)
        if words and _IS_PYTHON.fullmatch(os.path.basename(words[0])) and _is_this_python(words[0]):
            words = words[1:]
            has_options = bool(words) and words[0].startswith("-") and words[0] != "-m"
            if has_options:  # only a new interpreter can follow them
                return cls("python", sys.executable, tuple(words), os.getcwd())
        if not words:
            raise ConfigError("there is no program behind --: add a script, -m and a module, or another program")
        if words[0] == "-m":
            return cls._of_module(words)
        return cls._of_script(words) if _is_script(words[0]) else cls._of_executable(words)

    @classmethod
    def _of_module(cls, words: list[str]) -> Program:
        if len(words) < 2:
            raise ConfigError("-m: the module is missing behind it: -m package.module")
        package = words[1].partition(".")[0]
        if PathFinder.find_spec(package, [os.getcwd(), *sys.path]) is None and package not in sys.builtin_module_names:
            raise ConfigError(f"-m {words[1]}: there is no module {package} here or installed: start in its folder")
        return cls(words[1].rpartition(".")[2], sys.executable, tuple(words), os.getcwd())

    @classmethod
    def _of_script(cls, words: list[str]) -> Program:
        path = Path(words[0])
        if not path.exists():
            raise ConfigError(f"{words[0]}: there is no such script in {os.getcwd()}: correct its path")
        return cls(path.stem, sys.executable, tuple(words), str(path.absolute().parent))

    @classmethod
    def _of_executable(cls, words: list[str]) -> Program:
        if shutil.which(words[0]) is None:
            path = Path(words[0])
            what = "there is no such program: correct its name or path"
            if path.is_file():
                what = "may not be executed: chmod +x, or put python before a script"
                if os.access(path, os.X_OK):
                    what = f"is not on PATH: write ./{words[0]} for the one in this directory"
            raise ConfigError(f"{words[0]}: {what}")
        return cls(Path(words[0]).name, words[0], tuple(words[1:]), os.getcwd())

    def __call__(self, config: DictConfig) -> NoReturn:
        raise NotImplementedError("the agent of a job executes its program")


def _is_script(word: str) -> bool:
    """Whether Python runs it: torchrun would need --no-python for anything else."""
    return word.endswith((".py", ".pyc", ".pyz")) or os.path.isfile(os.path.join(word, "__main__.py"))


def _is_this_python(word: str) -> bool:
    """Whether a word stands for the interpreter of this process."""
    found = shutil.which(word)
    here = os.path.dirname(os.path.abspath(sys.executable))
    return found is not None and os.path.dirname(os.path.abspath(found)) == here
