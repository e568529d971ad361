"""Which CPUs and which memory each worker gets: read the machine, plan, bind, and tell.

Data flows one way: `topology`, `allowance` and `devices` read (`machine` holds what they have found), `plan` decides
for the workers of a job and `carve` for jobs side by side, and `bind`, which alone has effects, acts in the worker.
"""
