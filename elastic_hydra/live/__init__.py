"""What a person sees of a running sweep at the bottom of a terminal, while all output scrolls above it."""
