"""Whether a living worker still works, where it is, and what it uses: observed by its agent."""
