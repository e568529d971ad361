"""One job: what it is, how its agent runs it, and what comes back of it."""
