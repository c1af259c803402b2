"""The record of a run: the folder, the journal, and what follows from it."""
