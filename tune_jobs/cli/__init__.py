"""The command line: commands, and the views of a run in progress."""
