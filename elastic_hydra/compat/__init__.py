"""Private names of torch, Hydra and OmegaConf, and switches between their versions: nowhere else."""
