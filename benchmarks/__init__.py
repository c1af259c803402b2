"""Measurements of tune-jobs beside what its users would write by hand."""
