"""What a host offers to jobs, and which part of it each running job holds."""
