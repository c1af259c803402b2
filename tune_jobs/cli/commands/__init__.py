"""The commands, a module for each group. Each module has the options of its commands and what they do."""
