"""What launching costs, measured against the least that it can cost and against what others pay.

`python -m tests.benchmarks` runs all of it; see `python -m tests.benchmarks --help`.
"""
