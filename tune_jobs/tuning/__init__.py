"""Run the trials with Ray Tune: its scheduler, searcher and callback, built on the journal."""
