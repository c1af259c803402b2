"""The report of a run: one HTML file that needs nothing else, neither other files nor the network."""
