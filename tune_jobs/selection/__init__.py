"""How the winner is chosen, by validation alone."""
