"""Training by programs of one's own: a script or a function, each trial in a process of its own."""
