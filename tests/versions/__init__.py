"""Tests over versions of Python, torch and Hydra: `python -m tests.versions`."""
