"""What the settings of a launch do not say about the place where it shall run: each is an option of `plan`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.render.plan import Plan

__all__ = ["Site", "option"]

_WORD = re.compile(r"[\w.,:;@/+=%!&|*\[\]-]+")
_SIZE = re.compile(r"[1-9][0-9]*[KMGT]")


@dataclass(frozen=True)
class Site:
    """What is said of the place. The names are those that Slurm or Kubernetes has for it; None: nothing is said."""

    name: str | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    """Of each node: `64G`, of which K, M, G and T are powers of 1024, as Slurm has it."""
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    """Lines of bash that make the environment of the app: `module load …`."""
    image: str | None = None
    pvc: str | None = None
    mount_path: str | None = None
    namespace: str | None = None
    queue: str | None = None
    runtime: str | None = None

    def completed(self, plan: Plan) -> Site:
        """Return what is known when the settings are heard, too."""
        memory = None if plan.memory is None else f"{-(-plan.memory // 2**20)}M"
        return replace(
            self,
            gpus_per_node=plan.gpus if self.gpus_per_node is None else self.gpus_per_node,
            cpus_per_task=plan.cpus if self.cpus_per_task is None else self.cpus_per_task,
            mem=self.mem or memory,
        )

    def check(self, known: Collection[str], needed: Mapping[str, str], where: str) -> None:
        """Refuse what does not go with the text that is asked for, and what is missing.

        Args:
            known: the fields that such a text has a place for.
            needed: the fields without which it would not do, and what they are.
            where: what is asked for, as `--render sbatch`.

        Raises:
            ConfigError: with what to do.
        """
        for field in fields(self):
            if getattr(self, field.name) not in (None, ()) and field.name not in known:
                raise ConfigError(f"{option(field.name)} does not go with {where}: leave it out")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and not _WORD.fullmatch(value):
                raise ConfigError(f"{option(field.name)} {value!r}: must be one word, without spaces and quotes")
        if self.mem is not None and not _SIZE.fullmatch(self.mem):
            raise ConfigError(f"--mem {self.mem}: must be a number and a unit, K, M, G or T, as 64G")
        missing = [f"{option(name)} ({what})" for name, what in needed.items() if getattr(self, name) is None]
        if missing:
            raise ConfigError(f"{where} needs to know what no setting says: add {', '.join(missing)}")


def option(name: str) -> str:
    """Return the option that says a field."""
    return f"--{name.replace('_', '-')}"
