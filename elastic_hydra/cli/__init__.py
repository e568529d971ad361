"""The command `elastic-hydra`, one file for each verb: it looks at sweeps through their journals.

Modules here import only what is light: what needs torch or Hydra, or draws, is imported by the verb that uses it.
"""
