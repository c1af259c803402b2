"""The commands, a module for each group: their options stand beside what they do."""
