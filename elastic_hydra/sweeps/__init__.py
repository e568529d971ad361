"""One sweep, in the launcher's process: jobs are composed, given to free slots, awaited, recorded and told about."""
