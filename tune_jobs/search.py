"""Proposing configurations: Optuna behind Ray Tune's `Searcher`.

Ray Tune's own `OptunaSearch` tells Optuna a stopped trial as complete at its truncated score, and leaves a
trial with a NaN running for ever. Here every trial ends in the study in an honest state: complete at full
length, pruned with its steps when it was stopped, failed when it failed.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import optuna
from optuna.distributions import CategoricalChoiceType
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces import Choice, Float, Int, SearchSpace
from tune_jobs.folder import RunFolder
from tune_jobs.job_sections import SearchSettings
from tune_jobs.reports import SCORE, Report

Created = Callable[[str, int, Mapping[str, Any]], None]
"""Told of each new trial: its id, number and configuration."""


def study_storage(folder: RunFolder) -> BaseStorage:
    """The study's journal file, which optuna-dashboard opens."""
    return JournalStorage(JournalFileBackend(str(folder.study)))


class OptunaSearcher(Searcher):
    """Proposes `trials` configurations, the settings' points first.

    Args:
        space: what is searched.
        settings: method and points.
        trials: how many are proposed.
        seed: of the sampler; with one worker it makes the proposals repeatable.
        storage: where the study is kept.
        created: called with every new trial before it is handed to Ray Tune.
        out_of_time: no trial is proposed once this is true.
        may_start: no trial is proposed while this is false.
        unfinished: trials in progress may still wait and go on, so that Ray Tune is not told that the search is
            over: it would end workers that are idle for a moment.
    """

    def __init__(
        self,
        space: SearchSpace,
        settings: SearchSettings,
        *,
        trials: int,
        seed: int,
        storage: BaseStorage,
        created: Created,
        out_of_time: Callable[[], bool] = lambda: False,
        may_start: Callable[[], bool] = lambda: True,
        unfinished: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(metric=SCORE, mode="min")
        self._space = space
        self._created = created
        self._out_of_time = out_of_time
        self._may_start = may_start
        self._unfinished = unfinished
        self._trials_left = trials
        self._open: dict[str, optuna.trial.Trial] = {}
        self._reported: dict[str, int] = {}
        """The last step of each open trial: a trial that was taken up again may report a rung twice."""
        self._last: dict[str, Report] = {}
        self._grid = grid_in_order(space, settings.points) if settings.method == "grid" else None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            study_name="tune-jobs",
            storage=storage,
            sampler=_sampler(settings.method, seed),
            pruner=optuna.pruners.NopPruner(),
        )
        for point in settings.points if self._grid is None else ():
            self._enqueue(point)

    @property
    def exhausted(self) -> bool:
        """Nothing will be proposed any more."""
        return self._trials_left == 0 or self._out_of_time()

    @property
    def has_open_trials(self) -> bool:
        """Some trial was proposed and has not ended."""
        return bool(self._open)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration, with our own id and number of the trial."""
        if self.exhausted and not self._unfinished():
            return Searcher.FINISHED  # type: ignore[return-value]  # a text, against Ray's own annotation
        if self.exhausted or not self._may_start():
            return None
        if self._grid is not None:
            self._enqueue(next(self._grid))
        trial = self._study.ask()
        configuration = _configuration(self._space, trial)
        self._trials_left -= 1
        self._open[trial_id] = trial
        self._reported[trial_id] = 0
        name = f"{trial.number:04d}"
        trial.set_user_attr("trial_id", name)
        self._created(name, trial.number, configuration)
        return {"trial_id": name, "configuration": configuration}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Passes on the score at a rung."""
        report = Report.of_result(result)
        if report is not None and report.rung:
            self._last[trial_id] = report
            self._report(trial_id, report)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells Optuna how the trial ended: one place decides. A trial that waited ends without a result."""
        trial = self._open[trial_id]
        last = self._last.pop(trial_id, None)
        report = Report.of_result(result) or last
        if report is not None and not error:
            self._report(trial_id, report)
        del self._open[trial_id], self._reported[trial_id]
        if error or report is None or report.failure or report.score is None:
            self._study.tell(trial, state=TrialState.FAIL)
        elif report.full_length:
            self._study.tell(trial, report.score)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def close(self) -> None:
        """Ends what is open in the study, so that none of its trials stays running."""
        for trial in self._open.values():
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        self._open.clear()

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the run's journal and the study's are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing; see `save`."""

    def _report(self, trial_id: str, report: Report) -> None:
        if report.score is not None and report.epoch > self._reported[trial_id]:
            self._open[trial_id].report(report.score, report.epoch)
            self._reported[trial_id] = report.epoch

    def _enqueue(self, point: Mapping[str, Any]) -> None:
        domains = {name: self._space.parameters[name].domain for name in point}
        self._study.enqueue_trial(
            {
                name: _label(domain, point[name]) if isinstance(domain, Choice) else point[name]
                for name, domain in domains.items()
            }
        )


def grid_in_order(space: SearchSpace, points: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every configuration of the grid once; those that agree with a point come first, one for each point."""
    tried: list[dict[str, str]] = []
    for point in points:
        for configuration in space.grid():
            if _agrees(space, configuration, point) and _keys(space, configuration) not in tried:
                tried.append(_keys(space, configuration))
                yield configuration
                break
    yield from (c for c in space.grid() if _keys(space, c) not in tried)


def _agrees(space: SearchSpace, configuration: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    keys = _keys(space, configuration)
    return all(keys.get(name) == key for name, key in _keys(space, point).items())


def _keys(space: SearchSpace, configuration: Mapping[str, Any]) -> dict[str, str]:
    """The values as texts that tell 1, 1.0 and true apart."""
    return {name: space.parameters[name].domain.key(value) for name, value in configuration.items()}


def _sampler(method: str, seed: int) -> optuna.samplers.BaseSampler:
    match method:
        case "tpe":
            with warnings.catch_warnings():
                # `group` keeps conditional parameters in one model; Optuna calls it experimental since 2.8.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


def _configuration(space: SearchSpace, trial: optuna.trial.Trial) -> dict[str, Any]:
    """Asks `trial` for each active parameter; parents come before what depends on them."""
    configuration: dict[str, Any] = {}
    for name in space.order:
        if name not in space.active(configuration):
            continue
        match space.parameters[name].domain:
            case Float(low=low, high=high, log=log, step=step):
                configuration[name] = trial.suggest_float(name, low, high, log=log, step=step)
            case Int(low=low, high=high, log=log, step=step):
                configuration[name] = trial.suggest_int(name, low, high, log=log, step=step)
            case Choice(values=values) as choice:
                labels = [_label(choice, value) for value in values]
                chosen = trial.suggest_categorical(name, labels)
                configuration[name] = values[labels.index(chosen)]
    return configuration


def _label(choice: Choice, value: Any) -> CategoricalChoiceType:
    """`value` as Optuna stores it: itself if all are texts and numbers that differ, else its canonical text.

    Optuna compares with `==`, to which 1, 1.0 and true are one.
    """
    values = choice.values
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    return value if plain and len(set(values)) == len(values) else choice.key(value)
