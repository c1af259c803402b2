"""The search: propose the next configuration.

history           observations of a run's trials, folded from the events of its journal
comparison        the trials that a model compares, all at the same epoch
features          configurations as vectors
gaussian_process  regression on such vectors
methods           gp, tpe, random and grid: each maps observations to a configuration
proposals         proposals that are made in advance, beside the run
process           a method in a separate process

`tuning.searcher` turns it into a `Searcher` of Ray Tune; `tracking.optuna_study` records the trials for Optuna.
"""
