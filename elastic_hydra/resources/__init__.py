"""What jobs hold of a host: what it has, and which part of it is whose."""
