"""Measurements of tune-jobs side by side with code that users would write by hand."""
