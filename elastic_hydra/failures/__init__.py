"""Why a worker group died, and whether it is started again: decisions only, without I/O, torch or a clock."""
