"""Private names of torch, Hydra, OmegaConf and CPython, and switches between their versions: nowhere else."""
