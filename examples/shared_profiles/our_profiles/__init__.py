"""Launch profiles of a team: YAML files that Hydra finds by `pkg://our_profiles`."""
