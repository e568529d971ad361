"""YAML profiles; importable as `elastic_hydra.conf`, which Hydra needs to find them."""
