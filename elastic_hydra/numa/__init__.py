"""Which CPUs and which memory each worker gets: read the machine, plan, bind, and tell.

Data flows one way. `topology`, `allowance` and `devices` read the machine, and `machine` holds what they have read.
`plan` decides for the workers of a job, `carve` for jobs side by side. `bind` is the only module that has effects: it
binds the worker in which it is called.
"""
