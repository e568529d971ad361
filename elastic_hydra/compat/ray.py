"""A private name of Ray's."""

from __future__ import annotations

from ray._private.services import canonicalize_bootstrap_address as address_of_cluster

__all__ = ["address_of_cluster"]
