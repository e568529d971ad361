"""What kind of death, and what follows: from evidence to a failure to a decision, without I/O, torch or a clock."""
