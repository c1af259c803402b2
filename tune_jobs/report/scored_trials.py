"""The trials that the figures of hyperparameters show, and the score that each counts with.

Every trial counts with its score so far, after however many epochs: the figures tell those that went on from those
that did not by colour. A trial without a score (it diverged, or failed) counts as worse than all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tune_jobs.record.run_record import RunRecord, TrialRecord
from tune_jobs.report.scales import Scale, score_scale
from tune_jobs.trainers.settings import ScoreSettings


@dataclass(frozen=True)
class ScoredTrials:
    """The trials of a run that have been tried far enough to count, in the order of their creation."""

    trials: Sequence[TrialRecord]
    scores: Sequence[float]
    """The worst of all for a trial without one."""
    unscored: Sequence[bool]
    """Whether it has no score of its own."""
    judged_by: ScoreSettings
    scale: Scale

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.judged_by.metric

    @property
    def costs(self) -> Sequence[float]:
        """The scores, turned so that lower is better."""
        return [self.judged_by.cost(score) for score in self.scores]


def scored_trials(record: RunRecord) -> ScoredTrials | None:
    """The trials that have a score, and those that failed without one; None where no trial has one.

    A trial that was cut off with the run before it had a score tells nothing of its configuration.
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
        judged_by=record.score,
        scale=score_scale(own.values(), record.score.mode),
    )


def hover_text(given: ScoredTrials, place: int) -> str:
    """`trial 12: val_loss 0.071, 18 epochs`, for the trial at `place`."""
    trial = given.trials[place]
    score = "no score" if given.unscored[place] else f"{given.metric} {given.scores[place]:.5g}"
    return f"trial {trial.number}: {score}, {len(trial.epochs)} epochs"
