"""Machines that give slots: how the launcher reaches each, what it finds there, and the process that runs there."""
