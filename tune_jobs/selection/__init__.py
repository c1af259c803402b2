"""The choice of the winner, by validation alone."""
