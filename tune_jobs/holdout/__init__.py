"""The holdout: the sealed test rows, the ledger of their openings, and the test of the winner."""
