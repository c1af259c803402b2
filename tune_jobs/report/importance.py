"""Compute and draw how much each hyperparameter matters for a good score."""

import math
import warnings
from collections.abc import Mapping

import optuna
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from tune_jobs.report.scored_trials import ScoredTrials
from tune_jobs.report.style import MAIN, apply_style
from tune_jobs.search.optuna_space import to_optuna
from tune_jobs.search_spaces import SearchSpace

FEWEST_TRIALS = 20
"""Smallest number of trials for which importance is computed: with fewer, it is mostly chance."""


def importances(given: ScoredTrials, space: SearchSpace) -> Mapping[str, float]:
    """Return each parameter's share in being among the best tenth, largest first; empty with too few trials.

    PED-ANOVA (Watanabe et al. 2023), as Optuna implements it: it uses only the order of the scores, so losses that
    explode do no harm, and it handles conditional parameters.
    """
    if len(given.trials) < FEWEST_TRIALS or len(set(given.scores)) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that parts of it are new
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, 5 / len(given.trials)))
        found = get_param_importances(_study(given, space), evaluator=evaluator)
    shares = {name: float(share) for name, share in found.items() if math.isfinite(share)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def importance_figure(shares: Mapping[str, float]) -> go.Figure:
    """Draw a bar for each parameter, the most important at the top."""
    names, values = list(shares)[::-1], [round(100 * share, 1) for share in shares.values()][::-1]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            marker={"color": MAIN},
            text=[f"{value:.0f} %" for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
    )
    return apply_style(
        figure,
        height=70 + 34 * len(names),
        margin={"t": 10, "r": 60},
        xaxis={"title": {"text": "share of the importance, %"}, "range": [0, max(values, default=1) * 1.1]},
        yaxis={"showgrid": False, "type": "category"},
        bargap=0.35,
    )


def _study(given: ScoredTrials, space: SearchSpace) -> optuna.Study:
    """Return the trials as Optuna's evaluator needs them: all complete, lower values better."""
    most = max(given.costs)
    study = optuna.create_study(direction="minimize")
    for trial, cost, unscored in zip(given.trials, given.costs, given.unscored, strict=True):
        parameters, distributions = to_optuna(space, trial.configuration)
        value = most + abs(most) + 1.0 if unscored else cost
        complete = create_trial(
            state=TrialState.COMPLETE, params=parameters, distributions=distributions, value=value
        )
        study.add_trial(complete)
    return study
