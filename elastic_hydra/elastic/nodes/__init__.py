"""What the agents of one job, each on its node, tell each other through the job's store."""
