"""Ray Tune runs the trials: scheduler, searcher and callback on the journal."""
