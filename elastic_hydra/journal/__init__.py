"""The record of a sweep on disk: written by the launcher and by agents, read by whoever looks.

Neither torch nor Hydra is imported here: looking at a sweep needs neither.
"""
