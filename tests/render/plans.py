"""Launches of a program that writes down its arguments, and arguments that are easily spoilt on their way."""

from __future__ import annotations

import random
import string
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from elastic_hydra.config.nodes import Nodes
from elastic_hydra.render.command import Command
from elastic_hydra.render.plan import Plan
from elastic_hydra.render.site import Site

ONE_NODE = Nodes()
SITE = Site(name="train", gpus_per_node=2, cpus_per_task=8)
NASTY = (
    "",
    " ",
    "a b",
    "it's",
    '"quoted"',
    "new\nline",
    "tab\there",
    "carriage\rreturn",
    "$HOME",
    "${HOME}",
    "$(id)",
    "$$(id)",
    "$$$(HOME)",
    "$",
    "$$",
    "`id`",
    "\\",
    "\\\\n",
    "ends with \\",
    "!!",
    "*",
    "~",
    "#no comment",
    "--",
    "-n",
    "x;exit 1",
    "a&&b|c>d<e",
    "{a,b}",
    "key: value",
    "- item",
    "yes",
    "null",
    "0123",
    "1e3",
    "1:20",
    "@at",
    "%percent",
    "Grüße, 世界 🦊",
    "\x01\x7f\x85\u2028",
    "lr='a,b'",
    "y={a: [1, '2']}",
)
"""Words that a shell, YAML or Kubernetes takes for something else."""


def words_by_chance() -> Iterator[list[str]]:
    """Yield lists of arguments that are made of what is easily spoilt; the same ones in each run."""
    chance = random.Random(0)
    pieces = [*NASTY, *string.ascii_letters, *string.punctuation, *" \n\t"]
    for _ in range(20):
        yield ["".join(chance.choices(pieces, k=chance.randrange(6))) for _ in range(10)]


def plan(folder: Path, arguments: Sequence[str] = (), nodes: Nodes = ONE_NODE) -> Plan:
    """Return a launch by `elastic-hydra run`, whose program has the arguments; Hydra reads none of them.

    In the place of `elastic-hydra` stands a program that writes its arguments into `arguments.N` in its working
    directory, where N is the task's number, each ended by a zero byte.

    Args:
        folder: where it is started.
        arguments: of the program.
        nodes: how many it has.
    """
    recorder = folder / "recorder"
    recorder.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "name = 'arguments.' + os.environ.get('SLURM_PROCID', '0')\n"
        "open(name, 'wb').write(b''.join(os.fsencode(word) + b'\\0' for word in sys.argv[1:]))\n"
    )
    recorder.chmod(0o755)
    return Plan(
        Command("train", str(recorder), str(recorder), ("run",), ("nodes=2", "--", "train.py", *arguments)),
        single=True,
        folder="outputs/now",
        cwd=str(folder),
        nodes=nodes,
        has_endpoint=False,
        workers=2,
        gpus=None,
        cpus=None,
        memory=None,
        shutdown_timeout=30,
        checkpoint_timeout=30,
    )


def recorded(folder: Path, task: int = 0) -> list[str]:
    """Return the arguments that a task was started with."""
    return (folder / f"arguments.{task}").read_bytes().decode().split("\0")[:-1]
