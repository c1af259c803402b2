"""Checkpoints of trials, in a folder or an object store."""
