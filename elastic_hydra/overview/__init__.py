"""What a person wants to see of a sweep, derived from its journals alone; neither torch nor Hydra is known here."""
