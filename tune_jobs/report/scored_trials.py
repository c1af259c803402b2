"""The trials that the figures of hyperparameters show, and the score of each.

Every trial counts with its score so far, whatever its number of epochs: colours in the figures tell which trials
continued. A trial without a score (it diverged, or failed) counts as worse than all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tune_jobs.record.run_record import RunRecord, TrialRecord
from tune_jobs.report.scales import Scale, score_scale
from tune_jobs.trainers.settings import ScoreSettings


@dataclass(frozen=True)
class ScoredTrials:
    """The trials of a run that were trained far enough to count, in the order of their creation."""

    trials: Sequence[TrialRecord]
    scores: Sequence[float]
    """Score of each trial; the worst of all for a trial without one."""
    unscored: Sequence[bool]
    """Whether each trial lacks its own score."""
    score: ScoreSettings
    """The selection metric and its direction."""
    scale: Scale

    @property
    def metric(self) -> str:
        """Return the name of the score."""
        return self.score.metric

    @property
    def costs(self) -> Sequence[float]:
        """Return the scores with the sign that makes lower better."""
        return [self.score.cost(score) for score in self.scores]


def scored_trials(record: RunRecord) -> ScoredTrials | None:
    """Return the trials that have a score, and those that failed without one; None if no trial has one.

    A trial that was cut off with the run before its first score says nothing about its configuration.
    """
    own = {trial_id: best.score for trial_id in record.trials if (best := record.best(trial_id)) is not None}
    if not own:
        return None
    worst = max(own.values(), key=record.score.cost)
    trials = [
        trial
        for trial in record.trials.values()
        if trial.trial_id in own or (trial.status.ended and not trial.cut_off)
    ]
    return ScoredTrials(
        trials=trials,
        scores=[own.get(trial.trial_id, worst) for trial in trials],
        unscored=[trial.trial_id not in own for trial in trials],
        score=record.score,
        scale=score_scale(own.values(), record.score.mode),
    )


def hover_text(given: ScoredTrials, place: int) -> str:
    """Return `trial 12: val_loss 0.071, 18 epochs`, for the trial at `place`."""
    trial = given.trials[place]
    score = "no score" if given.unscored[place] else f"{given.metric} {given.scores[place]:.5g}"
    return f"trial {trial.number}: {score}, {len(trial.epochs)} epochs"
