"""The sealed test rows, and the ledger of who opened them."""
