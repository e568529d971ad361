"""Hydra finds plugins below `hydra_plugins`; the launcher itself is in `elastic_hydra`."""
