import math

import numpy as np
import pytest

from benchmarks.regret import Scale, difference, estimate, lowest_so_far, reachable, selected
from tests.simulation.curve_tables import BadCurves, Table
from tests.simulation.replay import Step

NAN, INF = math.nan, math.inf


def table(valid: list[list[float]], test: list[list[float]] | None = None) -> Table:
    losses = np.array(valid)
    points = np.arange(float(len(losses)))[:, None]
    return Table("toy", ("x",), points, losses, losses, losses if test is None else np.array(test))


# Lowest before diverging: 1, 2, 3, 5 and none; the median of these five is 3.
VALID = [[4.0, 1.0, 2.0], [2.0, NAN, 0.1], [3.0, 3.0, 3.0], [6.0, 5.0, INF], [NAN, 0.0, 0.0]]
TEST = [[9.0, 1.5, 9.0], [2.5, 9.0, 9.0], [3.5, 9.0, 9.0], [9.0, 7.5, 9.0], [9.0, 9.0, 9.0]]


def test_nothing_is_seen_of_a_curve_after_it_diverged() -> None:
    assert reachable(np.array(VALID)).tolist() == [
        [4.0, 1.0, 2.0],
        [2.0, INF, INF],
        [3.0, 3.0, 3.0],
        [6.0, 5.0, INF],
        [INF, INF, INF],
    ]


def test_regret_is_0_for_the_best_configuration_and_1_for_the_median_one() -> None:
    scale = Scale.of(table(VALID, TEST))

    assert (scale.best, scale.median, scale.worst) == (1.0, 3.0, 5.0)
    assert scale.regret(np.array([INF, 9.0, 5.0, 3.0, 2.0, 1.0])).tolist() == [2.0, 2.0, 2.0, 1.0, 0.5, 0.0]


def test_test_losses_are_measured_at_the_step_with_the_lowest_validation_loss() -> None:
    scale = Scale.of(table(VALID, TEST))

    # At those steps they are 1.5, 2.5, 3.5 and 7.5; a configuration without a finite loss has none.
    assert (scale.best_test, scale.median_test) == (1.5, 3.0)
    assert scale.test_regret(1.5) == 0.0
    assert scale.test_regret(3.75) == 1.5
    assert scale.test_regret(0.0) == -1.0


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        ([[1.0], [NAN], [INF]], "toy: half of the configurations or more have no finite validation loss"),
        ([[1.0], [1.0], [2.0]], "toy: half of the configurations or more are as good as the best"),
    ],
)
def test_a_table_without_a_scale_is_refused(valid: list[list[float]], message: str) -> None:
    with pytest.raises(BadCurves, match=message):
        Scale.of(table(valid))


STEPS = [Step(3, 1, NAN), Step(0, 1, 4.0), Step(1, 1, 2.0), Step(2, 1, 3.0), Step(0, 2, INF), Step(0, 2, 2.0)]


def test_the_lowest_loss_so_far_counts_the_steps_of_all_trials_together() -> None:
    assert lowest_so_far(STEPS, 6).tolist() == [INF, 4.0, 2.0, 2.0, 2.0, 2.0]
    assert lowest_so_far(STEPS, 2).tolist() == [INF, 4.0]


def test_a_search_that_ends_early_keeps_its_last_regret() -> None:
    assert lowest_so_far(STEPS[:2], 5).tolist() == [INF, 4.0, 4.0, 4.0, 4.0]
    assert lowest_so_far([], 2).tolist() == [INF, INF]


def test_the_first_step_with_the_lowest_finite_loss_is_selected() -> None:
    assert selected(STEPS) == Step(1, 1, 2.0)
    assert selected(STEPS[:1]) is None


def test_the_mean_is_over_tasks_of_means_over_seeds_and_its_error_is_that_of_the_seeds() -> None:
    # The means are 2 and 10, their variances 1/3 and 4.
    found = estimate({"a": [1.0, 2.0, 3.0], "b": [8.0, 12.0]})

    assert found.mean == 6.0
    assert found.error == pytest.approx(math.sqrt(1 / 3 + 4) / 2)


def test_tasks_that_differ_add_no_error() -> None:
    assert estimate({"a": [1.0, 1.0], "b": [100.0, 100.0]}) == (50.5, 0.0)


def test_one_seed_has_no_standard_error() -> None:
    found = estimate({"a": [1.0], "b": [3.0]})

    assert found.mean == 2.0
    assert math.isnan(found.error)


def test_differences_are_taken_seed_by_seed() -> None:
    found = difference({"a": [1.0, 11.0]}, {"a": [2.0, 12.0]})

    assert found == (-1.0, 0.0)
