"""A run from job to winner: start, resume, repair."""
