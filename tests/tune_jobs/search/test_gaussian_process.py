"""The regression: its gradient, small variance at observations, and large variance far from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from tune_jobs.search.gaussian_process import (
    GaussianProcess,
    KernelParameters,
    _negative_log_posterior,
)


def points(count: int, features: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(count, features))


def standardised(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / values.std())


def smooth(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(3 * x[:, 0]) + (x[:, 1] - 0.4) ** 2)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 12), st.integers(0, 4), st.integers(0, 2**32), st.lists(st.floats(-1.5, 1.5), min_size=6)
)
def test_the_gradient_is_that_of_finite_differences(
    count: int, features: int, seed: int, offsets: list[float]
) -> None:
    x = points(count, features, seed)
    y = np.random.default_rng(seed + 1).normal(size=count)
    squares = ((x[:, None, :] - x[None, :, :]) ** 2).transpose(2, 0, 1)
    prior = KernelParameters.prior(features)
    middle = np.array([*prior.lengths, prior.variance, prior.noise])
    vector = middle + np.array(offsets[: features + 2])

    def value(vector: np.ndarray) -> float:
        return _negative_log_posterior(vector, middle, squares, y)[0]

    _, gradient = _negative_log_posterior(vector, middle, squares, y)
    numeric = approx_fprime(vector, value, 1e-6)
    assert gradient == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_a_fit_is_likelier_than_the_prior_and_than_its_neighbours() -> None:
    x = points(30, 2, 0)
    y = standardised(smooth(x))
    squares = ((x[:, None, :] - x[None, :, :]) ** 2).transpose(2, 0, 1)
    prior = KernelParameters.prior(2)
    middle = np.array([*prior.lengths, prior.variance, prior.noise])
    found = KernelParameters.fit(x, y)
    best = np.array([*found.lengths, found.variance, found.noise])

    def value(vector: np.ndarray) -> float:
        return _negative_log_posterior(vector, middle, squares, y)[0]

    assert value(best) < value(middle)
    for index in range(4):
        for step in (-0.1, 0.1):
            assert value(best + step * np.eye(4)[index]) > value(best)


def test_a_fit_finds_which_features_matter_and_how_much_is_noise() -> None:
    x = points(60, 3, 1)
    noise = np.random.default_rng(2).normal(size=60)
    clean = KernelParameters.fit(x, standardised(np.sin(6 * x[:, 1])))
    assert clean.lengths[1] < clean.lengths[[0, 2]].min() - 1
    noisy = KernelParameters.fit(x, standardised(np.sin(6 * x[:, 1]) + noise))
    assert noisy.noise > clean.noise + 1


def test_a_fit_on_values_that_are_all_equal_or_on_no_features_is_finite() -> None:
    for x, y in (
        (points(8, 2, 0), np.zeros(8)),
        (np.ones((8, 2)), np.arange(8.0)),
        (points(8, 0, 0), np.ones(8)),
    ):
        found = KernelParameters.fit(x, y)
        assert np.isfinite([*found.lengths, found.variance, found.noise]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_smooth_function_is_interpolated_far_better_than_by_its_mean(seed: int) -> None:
    x, unseen = points(40, 2, seed), points(200, 2, seed + 100)
    y = smooth(x)
    scale = y.std()
    process = GaussianProcess(KernelParameters.fit(x, standardised(y)), x, standardised(y))
    mean, _ = process.predict(unseen)
    truth = (smooth(unseen) - y.mean()) / scale
    assert np.sqrt(((mean - truth) ** 2).mean()) < 0.2 * truth.std()


def test_doubt_covers_the_errors() -> None:
    x, unseen = points(15, 2, 3), points(300, 2, 4)
    y = standardised(smooth(x))
    process = GaussianProcess(KernelParameters.fit(x, y), x, y)
    mean, deviation = process.predict(unseen)
    truth = (smooth(unseen) - smooth(x).mean()) / smooth(x).std()
    assert (np.abs(mean - truth) < 3 * deviation).mean() > 0.9


def test_far_from_all_observations_the_prior_is_predicted() -> None:
    hyperparameters = KernelParameters(np.log([0.3, 0.3]), float(np.log(2.0)), float(np.log(1e-3)))
    x = points(10, 2, 0)
    process = GaussianProcess(hyperparameters, x, np.full(10, 5.0))
    mean, deviation = process.predict(np.array([[50.0, 50.0], [-40.0, 3.0]]))
    assert mean == pytest.approx([0, 0], abs=1e-9)
    assert deviation == pytest.approx(np.sqrt([2.0, 2.0]))


def test_observed_values_are_predicted_up_to_their_noise() -> None:
    x = points(10, 2, 0)
    y = np.random.default_rng(1).normal(size=10)

    def seen(noise: float) -> tuple[np.ndarray, np.ndarray]:
        return GaussianProcess(KernelParameters(np.log([0.3, 0.3]), 0.0, float(np.log(noise))), x, y).predict(
            x
        )

    mean, deviation = seen(1e-6)
    assert mean == pytest.approx(y, abs=1e-2)
    assert (deviation < 0.01).all()
    mean, deviation = seen(1.0)
    assert (np.abs(mean) < np.abs(y).max()).all()
    assert (deviation > 0.3).all()


def test_a_prediction_by_hand() -> None:
    # One point of value 1, variance 1, noise 1 (and the jitter): the mean there is 1/2, the variance 1 - 1/2.
    process = GaussianProcess(KernelParameters(np.zeros(1), 0.0, 0.0), np.array([[0.0]]), np.array([1.0]))
    mean, deviation = process.predict(np.array([[0.0], [1.0]]))
    matern = (1 + 5**0.5 + 5 / 3) * np.exp(-(5**0.5))
    assert mean == pytest.approx([0.5, matern / 2], rel=1e-5)
    assert deviation**2 == pytest.approx([0.5, 1 - matern**2 / 2], rel=1e-5)


def test_one_more_point_lowers_the_doubt_near_it_and_hardly_far_away() -> None:
    hyperparameters = KernelParameters(np.log([0.2]), 0.0, float(np.log(0.01)))
    x = np.array([[0.1], [0.2]])
    more = np.vstack([x, [[0.8]]])
    places = np.array([[0.75], [0.1]])
    _, before = GaussianProcess(hyperparameters, x, np.zeros(2)).predict(places)
    _, after = GaussianProcess(hyperparameters, more, np.zeros(3)).predict(places)
    assert after[0] < 0.5 * before[0]
    assert after[1] == pytest.approx(before[1], rel=1e-2)


def test_a_point_that_was_seen_many_times_does_no_harm() -> None:
    x = np.repeat([[0.5, 0.5]], 100, axis=0)
    y = standardised(np.arange(100.0))
    mean, deviation = GaussianProcess(KernelParameters.fit(x, y), x, y).predict(x[:1])
    assert mean == pytest.approx([0], abs=1e-6)
    assert np.isfinite(deviation).all()
