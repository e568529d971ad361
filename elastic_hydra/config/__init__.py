"""What a user may write below `hydra.launcher`, and whether it can be launched: decisions only."""
