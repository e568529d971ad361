"""From the evidence of workers' deaths to a failure, and on to a decision: without I/O, torch or a clock."""
