"""The search: which configuration is tried next.

history           what is known of a run's trials, folded from the events of its journal
comparison        which of them are compared, and how: like with like
features          configurations as vectors
gaussian_process  a regression on such vectors
methods           gp, tpe, random and grid: each a function from what is known to a configuration
proposals         has a method work ahead of need, beside the run
process           a method in a process of its own
study             the trials as an Optuna study, for Optuna's and optuna-dashboard's eyes
searcher          all of it as a `Searcher` of Ray Tune
"""
