"""A program of the fault matrix, `program.py CASE`: one of its ranks comes to harm, and the others work on."""

from __future__ import annotations

import sys
import time

from faults import FOR_EVER, rank, suffer

who, _, fault = sys.argv[1].split("-")
if rank() == who:
    suffer(fault)
while fault == "SIGSTOP":
    pass  # what is watched is the use of the CPU
time.sleep(FOR_EVER)
