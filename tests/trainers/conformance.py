"""The promises of every kind of training, as a test suite for any kind.

A test module of a kind has a subclass with a fixture `case`:

    class TestWalk(KindConformance):
        @pytest.fixture
        def case(self) -> Case: ...
"""

import io
import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.trainers.data import PreparedData, TrainingData
from tune_jobs.trainers.errors import CheckpointError, Diverged, TrainerError
from tune_jobs.trainers.interface import (
    EpochResult,
    StopReason,
    TrainerKind,
    Training,
    TrainingRequest,
    WorkerRank,
)
from tune_jobs.trainers.kinds import kind_of
from tune_jobs.trainers.scores import BestEpoch, better
from tune_jobs.trainers.settings import ScoreSettings

Configuration = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind on small data, with what the tests need to know about it."""

    kind: TrainerKind
    """The kind, with three epochs or more."""
    configuration: Configuration
    """A configuration that trains all epochs."""
    other: Configuration
    """Another valid configuration, from whose state this one can continue if the kind `inherits`."""
    diverging: Configuration
    """A configuration that diverges after a few epochs."""
    score: ScoreSettings
    evaluated: str
    """The name of the score's metric in an evaluation."""
    early: Sequence[tuple[TrainerKind, Configuration, StopReason]] = ()
    """The kind with other settings, and a configuration that stops before the last epoch for this reason."""
    failing: tuple[TrainerKind, Configuration, str] | None = None
    """The kind with other settings, a configuration that fails in an epoch, and a part of the message; None if the
    kind's own code cannot fail."""
    base: Path = field(default_factory=Path)

    def request(self, configuration: Configuration | None = None, **changes: Any) -> TrainingRequest:
        values: dict[str, Any] = {
            "configuration": self.configuration if configuration is None else configuration,
            "seed": 3,
            "max_epochs": self.kind.max_epochs,
            "score": self.score,
            "threads": 1,
        }
        return TrainingRequest(**{**values, **changes})

    def prepare(self) -> PreparedData | None:
        """Return the rows, or None if the trainings read their own data."""
        return self.kind.prepare(self.base)


def curve(results: Sequence[EpochResult]) -> list[str]:
    """Return the results without times, to the last bit."""
    return [
        repr({name: value for name, value in result.to_mapping().items() if name != "seconds"})
        for result in results
    ]


def assert_same(case: Case, results: Sequence[EpochResult], expected: Sequence[EpochResult]) -> None:
    """Check that two trainings agree: in every bit if the kind is `exact`, in the epochs otherwise."""
    if case.kind.capabilities.exact:
        assert curve(results) == curve(expected)
    assert [result.epoch for result in results] == [result.epoch for result in expected]


def skip_unless_it_resumes(case: Case) -> None:
    if not case.kind.capabilities.resumes:
        pytest.skip("trainings of this kind have no state to continue from")


def state_of(training: Training) -> bytes:
    file = io.BytesIO()
    assert training.save(file), "there is a state after an epoch"
    return file.getvalue()


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the block leaves a thread or a process."""
    threads, children = set(threading.enumerate()), child_processes()
    yield
    left = set(threading.enumerate()) - threads
    assert not left, f"threads are left: {left}"
    assert child_processes() <= children, f"processes are left: {child_processes() - children}"


def child_processes() -> set[str]:
    """Return the ids of the live child processes of this one, on Linux."""
    return {
        child for thread in Path("/proc/self/task").glob("*/children") for child in thread.read_text().split()
    }


class KindConformance:
    """The tests. A subclass defines the `case`."""

    @pytest.fixture
    def case(self) -> Case:
        raise NotImplementedError

    @pytest.fixture
    def prepared(self, case: Case) -> PreparedData | None:
        return case.prepare()

    @pytest.fixture
    def data(self, prepared: PreparedData | None) -> TrainingData | None:
        """Return the data that trainings receive."""
        return None if prepared is None else prepared.for_trials()

    @pytest.fixture
    def straight(self, case: Case, data: TrainingData | None) -> list[EpochResult]:
        """Return all epochs of a training without a stop."""
        return self.train(case, data)[0]

    def train(
        self, case: Case, data: TrainingData | None, kind: TrainerKind | None = None, **changes: Any
    ) -> tuple[list[EpochResult], StopReason | None]:
        kind = kind or case.kind
        with kind.start(case.request(**changes), data) as training:
            return list(training.epochs()), training.stop_reason

    # Its epochs

    def test_epochs_are_numbered_and_measure_the_score_in_columns_that_stay(
        self, case: Case, straight: list[EpochResult]
    ) -> None:
        assert [result.epoch for result in straight] == list(range(1, case.kind.max_epochs + 1))
        assert all(case.score.metric in result.metrics for result in straight)
        assert len({tuple(result.to_mapping()) for result in straight}) == 1
        assert all(result.seconds >= 0 for result in straight)
        assert not any(result.diverged for result in straight)

    def test_a_seed_gives_one_curve_and_another_seed_another(
        self, case: Case, data: TrainingData | None, straight: list[EpochResult]
    ) -> None:
        assert_same(case, self.train(case, data)[0], straight)
        assert curve(self.train(case, data, seed=4)[0]) != curve(straight)

    def test_another_configuration_gives_another_curve(
        self, case: Case, data: TrainingData | None, straight: list[EpochResult]
    ) -> None:
        assert curve(self.train(case, data, configuration=case.other)[0]) != curve(straight)

    def test_nothing_is_trained_before_an_epoch_is_asked_for(
        self, case: Case, data: TrainingData | None
    ) -> None:
        with case.kind.start(case.request(), data) as training:
            results = training.epochs()
            assert (training.epoch, training.stop_reason) == (0, None)
            next(results)
            assert (training.epoch, training.stop_reason) == (1, None)

    # How it ends

    def test_after_all_epochs_the_reason_is_max_epochs_and_there_is_nothing_more(
        self, case: Case, data: TrainingData | None
    ) -> None:
        with case.kind.start(case.request(), data) as training:
            list(training.epochs())
            assert training.stop_reason is StopReason.MAX_EPOCHS
            if not case.kind.capabilities.resumes:
                return
            state = state_of(training)
        with case.kind.start(case.request(), data) as again:
            again.load(io.BytesIO(state))
            assert again.stop_reason is StopReason.MAX_EPOCHS
            assert list(again.epochs()) == []

    def test_an_early_stop_says_why_also_after_a_load(self, case: Case, data: TrainingData | None) -> None:
        for kind, configuration, reason in case.early:
            request = case.request(configuration)
            with kind.start(request, data) as training:
                results = list(training.epochs())
                assert training.stop_reason is reason
                assert 0 < len(results) < kind.max_epochs
                if not kind.capabilities.resumes:
                    continue
                state = state_of(training)
            with kind.start(request, data) as again:
                again.load(io.BytesIO(state))
                assert again.stop_reason is reason
                assert list(again.epochs()) == []

    def test_a_divergence_is_said_by_the_result_and_then_raised(
        self, case: Case, data: TrainingData | None
    ) -> None:
        diverged = []
        with case.kind.start(case.request(case.diverging), data) as training:
            results = training.epochs()
            while not diverged or not diverged[-1]:
                diverged.append(next(results).diverged)
            assert training.stop_reason is None
            with pytest.raises(Diverged, match=r"epoch \d+"):
                next(results)
        assert len(diverged) < case.kind.max_epochs

    def test_a_failure_has_a_reason(self, case: Case, data: TrainingData | None) -> None:
        if case.failing is None:
            pytest.skip("the case names no configuration that fails")
        kind, configuration, message = case.failing
        with nothing_left(), pytest.raises(Exception, match=message):
            self.train(case, data, kind, configuration=configuration)

    # How it continues

    def test_saved_and_loaded_after_any_epoch_it_is_as_without_a_stop(
        self, case: Case, data: TrainingData | None, straight: list[EpochResult]
    ) -> None:
        states: list[bytes] = []
        with case.kind.start(case.request(), data) as training:
            for _ in training.epochs():
                file = io.BytesIO()
                assert training.save(file) is case.kind.capabilities.resumes
                states.append(file.getvalue())
        if not case.kind.capabilities.resumes:
            return
        for epoch, state in enumerate(states, start=1):
            with case.kind.start(case.request(), data) as resumed:
                resumed.load(io.BytesIO(state))
                assert resumed.epoch == epoch
                assert_same(case, list(resumed.epochs()), straight[epoch:])

    def test_stopped_at_rungs_it_is_as_without_a_stop(
        self, case: Case, data: TrainingData | None, straight: list[EpochResult]
    ) -> None:
        """Each time the iterator is closed in the middle, and the training is left."""
        skip_unless_it_resumes(case)
        results: list[EpochResult] = []
        state: bytes | None = None
        while len(results) < case.kind.max_epochs:
            with nothing_left(), case.kind.start(case.request(), data) as training:
                if state is not None:
                    training.load(io.BytesIO(state))
                epochs = training.epochs()
                results.append(next(epochs))
                state = state_of(training)
                epochs.close()
        assert_same(case, results, straight)

    def test_what_is_trained_after_a_save_does_not_reach_the_state(
        self, case: Case, data: TrainingData | None
    ) -> None:
        with case.kind.start(case.request(), data) as training:
            epochs = training.epochs()
            next(epochs)
            file = io.BytesIO()
            training.save(file)
            before = file.getvalue()
            list(epochs)
            assert file.getvalue() == before

    def test_before_the_first_epoch_there_is_no_state_or_one_that_changes_nothing(
        self, case: Case, data: TrainingData | None, straight: list[EpochResult]
    ) -> None:
        file = io.BytesIO()
        with case.kind.start(case.request(), data) as training:
            saved = training.save(file)
            assert_same(case, list(training.epochs()), straight)
        if saved:
            file.seek(0)
            with case.kind.start(case.request(), data) as loaded:
                loaded.load(file)
                assert loaded.epoch == 0
                assert_same(case, list(loaded.epochs()), straight)

    @pytest.mark.parametrize("content", [b"", b"no state", b"[]", b"{}", b"null", b"PK\x05\x06" + bytes(18)])
    def test_a_foreign_file_is_refused(self, case: Case, data: TrainingData | None, content: bytes) -> None:
        skip_unless_it_resumes(case)
        with (
            case.kind.start(case.request(), data) as training,
            pytest.raises(CheckpointError, match="checkpoint"),
        ):
            training.load(io.BytesIO(content))

    def test_the_state_of_another_configuration_is_refused_unless_it_is_inherited(
        self, case: Case, data: TrainingData | None
    ) -> None:
        skip_unless_it_resumes(case)
        with case.kind.start(case.request(case.other), data) as donor:
            next(donor.epochs())
            state = state_of(donor)
        with (
            case.kind.start(case.request(), data) as training,
            pytest.raises(CheckpointError),
        ):
            training.load(io.BytesIO(state))
        if case.kind.capabilities.inherits:
            with case.kind.start(case.request(), data) as heir:
                heir.load(io.BytesIO(state), inherit=True)
                assert heir.epoch == 1
                assert [result.epoch for result in heir.epochs()] == list(range(2, case.kind.max_epochs + 1))

    # Its end

    def test_leaving_it_leaves_neither_a_thread_nor_a_process(
        self, case: Case, data: TrainingData | None
    ) -> None:
        with nothing_left():
            with case.kind.start(case.request(), data):
                pass
            with case.kind.start(case.request(), data) as training:
                next(training.epochs())
            with (
                suppress(ZeroDivisionError),
                case.kind.start(case.request(), data) as training,
            ):
                for _ in training.epochs():
                    raise ZeroDivisionError

    def test_the_evaluator_measures_the_best_epoch(
        self,
        case: Case,
        prepared: PreparedData | None,
        data: TrainingData | None,
    ) -> None:
        skip_unless_it_resumes(case)
        best: BestEpoch | None = None
        with case.kind.start(case.request(), data) as training:
            for result in training.epochs():
                best = better(best, result.to_mapping(), case.score)
            state = state_of(training)
        assert best is not None
        info = None if prepared is None else prepared.info
        if prepared is not None:
            evaluate = case.kind.evaluator(case.request(), io.BytesIO(state), info)
            assert evaluate(prepared.validation).metrics[case.evaluated] == (
                best.score if case.kind.capabilities.exact else pytest.approx(best.score)
            )
        assert case.kind.load_model(case.request(), io.BytesIO(state), info) is not None

    def test_an_unusable_checkpoint_is_an_error_before_any_row_is_read(
        self, case: Case, prepared: PreparedData | None, data: TrainingData | None
    ) -> None:
        skip_unless_it_resumes(case)
        with case.kind.start(case.request(case.other), data) as other:
            next(other.epochs())
            state = state_of(other)
        info = None if prepared is None else prepared.info
        for content in (b"", b"no state", state[: len(state) // 2], state):
            for use in (case.kind.load_model, *([case.kind.evaluator] if prepared else [])):
                with pytest.raises(CheckpointError):
                    use(case.request(), io.BytesIO(content), info)

    # Facts about the kind

    def test_the_kind_travels_to_workers(self, case: Case) -> None:
        assert pickle.loads(pickle.dumps(case.kind)) == case.kind

    def test_its_sections_choose_it_and_make_it_again(self, case: Case) -> None:
        class_ = type(case.kind)
        entry = kind_of(class_.sections)  # type: ignore[attr-defined]
        assert entry.name == case.kind.name
        assert entry.load() is class_
        assert tuple(class_.sections) == entry.sections  # type: ignore[attr-defined]
        made = class_(**{name: getattr(case.kind, name) for name in entry.sections})
        assert made == case.kind

    def test_its_facts_agree_with_its_trainings(self, case: Case, straight: list[EpochResult]) -> None:
        class_: Any = type(case.kind)
        facts = class_.facts({name: getattr(case.kind, name) for name in class_.sections})
        assert facts.max_epochs == case.kind.max_epochs
        assert (
            facts.metrics is None or {metric.name for metric in facts.metrics} <= straight[0].metrics.keys()
        )
        assert facts.metric(case.score.metric).direction in {None, case.score.mode}
        for configuration in (case.configuration, case.other):
            assert facts.parameter_names is None or configuration.keys() <= set(facts.parameter_names)
            assert not facts.check(configuration)

    def test_no_trial_gets_a_test_row_if_it_seals_them(
        self, case: Case, prepared: PreparedData | None
    ) -> None:
        assert (prepared is not None) is case.kind.capabilities.seals_test
        if prepared is not None:
            test = prepared.test.x.tobytes()
            data = prepared.for_trials()
            assert len(prepared.test.x)
            assert not any(test in rows.x.tobytes() for rows in (data.train, data.validation))

    def test_several_workers_are_refused_if_it_cannot_share_a_training(
        self, case: Case, data: TrainingData | None
    ) -> None:
        if not case.kind.capabilities.data_parallel:
            request = case.request(worker=WorkerRank(rank=0, workers=2))
            with pytest.raises(TrainerError):
                case.kind.start(request, data)
