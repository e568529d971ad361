"""The functions of torch through which the time-outs of process groups go."""

from __future__ import annotations

import inspect
from typing import Any

from torch.distributed import distributed_c10d

from elastic_hydra.compat.process_groups import PRIVATE


def test_the_installed_torch_has_them_and_they_take_a_time_out() -> None:
    module: Any = distributed_c10d
    for name in PRIVATE:
        parameters = inspect.signature(getattr(module, name)).parameters
        assert {"timeout", "kwargs"} & set(parameters), name
    assert {"default_pg_timeout", "default_pg_nccl_timeout"} <= set(vars(module))
