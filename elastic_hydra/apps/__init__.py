"""How an app comes to be launched: decorated, from Python, or as a program; with Hydra, a sweep begins by itself."""
