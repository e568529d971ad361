"""A `JobReturn` that holds its configurations packed: those of ten thousand jobs would take gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Container

from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from elastic_hydra.supervisor import pickles

__all__ = ["CompactReturn"]


class CompactReturn(JobReturn):
    """What a job returned. `cfg` and `hydra_cfg`, 150 kB and more, are 5 kB until somebody looks at them."""

    _packed: bytes | None = None
    _configs: tuple[DictConfig | None, DictConfig | None] = (None, None)

    @classmethod
    def of(cls, job_return: JobReturn, *, main: Container[str]) -> CompactReturn:
        """Pack a job's return.

        Args:
            job_return: what Hydra made; it is not changed.
            main: names in `__main__` that mean the same to the reader.
        """
        compact = cls()
        values = vars(job_return) | {"cfg": None, "hydra_cfg": None}
        for name, value in values.items():
            setattr(compact, name, value)
        configs = (job_return.cfg, job_return.hydra_cfg)
        compact._packed = zlib.compress(pickles.dumps(configs, main=main), 1)
        return compact

    def _unpacked(self) -> tuple[DictConfig | None, DictConfig | None]:
        if self._packed is not None:
            self._configs = pickles.loads(zlib.decompress(self._packed))
            self._packed = None
        return self._configs

    @property
    def cfg(self) -> DictConfig | None:
        """The job's configuration, as its task got it."""
        return self._unpacked()[0]

    @cfg.setter
    def cfg(self, config: DictConfig | None) -> None:
        self._configs = (config, self._unpacked()[1])

    @property
    def hydra_cfg(self) -> DictConfig | None:
        """Hydra's part of it."""
        return self._unpacked()[1]

    @hydra_cfg.setter
    def hydra_cfg(self, config: DictConfig | None) -> None:
        self._configs = (self._unpacked()[0], config)
