"""Regression with a Gaussian process (Rasmussen and Williams 2006): Matérn 5/2 with a length for each feature.

Optuna's `GPSampler` is not used: it models one value per trial, takes 0.3 s per proposal, and draws conditional
parameters at random. The Gaussian process that the search needs is a page of linear algebra.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy

_ROOT5 = np.sqrt(5.0)
_JITTER = 1e-6
"""Variance that is added to the covariance of observations, so that it can be factorised."""
_LENGTH = 0.35
"""Prior median of the lengths with one feature. It grows with the root of the number of features, as distances in a
cube do (Hvarfner et al. 2024)."""
_NOISE = 0.3
"""Prior median of the noise's variance, for values of variance 1."""
_MOST_ITERATIONS = 30
"""Largest number of iterations of a fit."""


@dataclass(frozen=True)
class KernelParameters:
    """Fitted parameters as logarithms: lengths [features], variance of the function, variance of the noise."""

    lengths: np.ndarray
    variance: float
    noise: float

    @classmethod
    def prior(cls, features: int) -> Self:
        """Return the medians of the prior."""
        length = np.log(_LENGTH * np.sqrt(max(features, 1)))
        return cls(np.full(features, length), 0.0, float(np.log(_NOISE)))

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> Self:
        """Return the most likely parameters under a log-normal prior with deviation 1.

        Args:
            x: Features [n, features].
            y: Values [n], with mean 0 and variance 1.
        """
        prior = cls.prior(x.shape[1])._to_vector()
        squares = np.ascontiguousarray(((x[:, None, :] - x[None, :, :]) ** 2).transpose(2, 0, 1))
        bounds = [(np.log(0.03), np.log(30.0))] * x.shape[1] + [(-4.0, 4.0), (np.log(1e-4), np.log(3.0))]
        found = scipy.optimize.minimize(
            _negative_log_posterior,
            prior,
            args=(prior, squares, y),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": _MOST_ITERATIONS},
        )
        return cls._of_vector(found.x)

    def _to_vector(self) -> np.ndarray:
        return np.concatenate([self.lengths, [self.variance, self.noise]])

    @classmethod
    def _of_vector(cls, vector: np.ndarray) -> Self:
        return cls(vector[:-2], float(vector[-2]), float(vector[-1]))


class GaussianProcess:
    """A Gaussian process, given noisy values of a function.

    Args:
        hyperparameters: Parameters of the kernel.
        x: Features [n, features] at which the function was observed.
        y: Observed values [n], with noise.
    """

    def __init__(self, hyperparameters: KernelParameters, x: np.ndarray, y: np.ndarray) -> None:
        self._hyperparameters = hyperparameters
        self._x = x
        covariance = self._covariance(x)
        covariance[np.diag_indices(len(x))] += np.exp(hyperparameters.noise) + _JITTER
        self._root = np.linalg.cholesky(covariance)
        self._weights = scipy.linalg.cho_solve((self._root, True), y)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the function, without noise, at `x` [m, features]: [m] each."""
        covariance = self._covariance(x)
        mean = covariance @ self._weights
        explained = scipy.linalg.solve_triangular(self._root, covariance.T, lower=True)
        variance = np.exp(self._hyperparameters.variance) - (explained**2).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def _covariance(self, x: np.ndarray) -> np.ndarray:
        scale = np.exp(-self._hyperparameters.lengths)
        a, b = x * scale, self._x * scale
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
        distance = np.sqrt(np.maximum(squares, 0.0))
        correlation = (1 + _ROOT5 * distance + 5 / 3 * distance**2) * np.exp(-_ROOT5 * distance)
        return np.asarray(np.exp(self._hyperparameters.variance) * correlation)


def _negative_log_posterior(
    vector: np.ndarray, prior: np.ndarray, squares: np.ndarray, y: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the value and its gradient, up to a constant; `squares` [features, n, n]: squared feature differences."""
    inverse_squares = np.exp(-2 * vector[:-2])
    variance, noise = np.exp(vector[-2]), np.exp(vector[-1])
    distance = np.sqrt(np.tensordot(inverse_squares, squares, 1))
    decay = np.exp(-_ROOT5 * distance)
    signal = variance * (1 + _ROOT5 * distance + 5 / 3 * distance**2) * decay
    covariance = signal.copy()
    covariance[np.diag_indices(len(y))] += noise + _JITTER
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return 1e25, np.zeros_like(vector)
    inverse_root = scipy.linalg.solve_triangular(root, np.eye(len(y)), lower=True)
    inverse = inverse_root.T @ inverse_root
    weights = inverse @ y
    off = vector - prior
    value = 0.5 * y @ weights + np.log(np.diag(root)).sum() + 0.5 * off @ off
    sensitivity = 0.5 * (inverse - np.outer(weights, weights))
    by_distance: Any = sensitivity * (variance * 5 / 3) * (1 + _ROOT5 * distance) * decay
    gradient = off.copy()
    gradient[:-2] += np.einsum("ij,dij->d", by_distance, squares) * inverse_squares
    gradient[-2] += (sensitivity * signal).sum()
    gradient[-1] += np.trace(sensitivity) * noise
    return float(value), gradient
