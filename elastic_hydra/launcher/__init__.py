"""The interface of `torch.distributed.launcher.api`, name for name."""
