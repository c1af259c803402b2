"""Decisions at rungs: which trials are promoted."""
