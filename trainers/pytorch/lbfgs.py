"""L-BFGS with a line search, which takes only steps that lower the loss of the batch."""

from collections.abc import Callable
from math import inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_DECREASE = 1e-4
"""Share of the decrease which the slope promises that a step must bring (Armijo, 1966)."""

_SHORTEST, _LONGEST = 0.1, 0.5
"""Bounds of the factor that shortens a step which was too long."""

_MOST_LENGTHS = 20
"""Lengths to try along one direction."""


class _Point(NamedTuple):
    """The loss and its gradient at the current weights."""

    loss: float
    gradient: Tensor


class _Pair(NamedTuple):
    """A step and the change of the gradient along it: one estimate of the curvature."""

    move: Tensor
    change: Tensor


class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu and Nocedal, 1989) that shortens each step until it lowers the loss.

    torch.optim.LBFGS takes each step in full. One bad estimate of the curvature then raises a loss by many orders
    of magnitude, and the rounding of a processor's kernels decides whether that happens. Its search for the strong
    Wolfe conditions accepts NaN as progress, and lengthens steps, which takes the meaning from the learning rate.
    Here a step is `lr` times the quasi-Newton step, or shorter. No tolerance is absolute, so losses of any scale
    are treated alike.

    Args:
        parameters: The parameters to train, all on one device and of one type.
        lr: The length to try first, as a multiple of the quasi-Newton step. Without an estimate of the curvature, the
            step is the negative gradient, limited to 1 in the sum of its absolute values.
        max_iter: The number of steps in one call of `step`.
        history_size: The number of estimates of the curvature to keep.
    """

    def __init__(
        self, parameters: list[nn.Parameter], *, lr: float, max_iter: int, history_size: int
    ) -> None:
        super().__init__(parameters, {"lr": lr, "max_iter": max_iter, "history_size": history_size})
        self._parameters: list[Tensor] = self.param_groups[0]["params"]

    @torch.no_grad()
    def step(self, closure: Callable[[], float]) -> float:  # type: ignore[override]
        """Lower the loss of one batch, and return the loss from before.

        If the gradient is not finite, subtract it from the weights. The training then diverges, as it does with
        any other optimizer.

        Args:
            closure: Returns the loss at the current weights and puts its gradients into the parameters. It
                returns the same for the same weights.
        """
        group = self.param_groups[0]
        lr, pairs = group["lr"], self._load_pairs()
        start = point = self._evaluate(closure)
        if not point.gradient.isfinite().all():
            self._add(point.gradient, -lr)
            return start.loss
        for _ in range(group["max_iter"]):
            direction = _direction(point.gradient, pairs)
            slope = float(point.gradient.dot(direction))
            found = self._search(closure, point, direction, slope)
            if found is not None:
                length, reached = found
                pair = _Pair(direction * length, reached.gradient - point.gradient)
                pairs = [*pairs, pair][-group["history_size"] :] if _is_convex(pair) else pairs
                point = reached
            elif pairs and not _is_hidden(lr * slope, point):
                pairs = []  # the next direction is that of the gradient
            else:
                break
        self._save_pairs(pairs)
        return start.loss

    def _search(
        self, closure: Callable[[], float], start: _Point, direction: Tensor, slope: float
    ) -> tuple[float, _Point] | None:
        """Move to the longest length tried that lowers the loss enough, and return it with the point there.

        Return None and leave the weights as they were if no length does.
        """
        if not -inf < slope < 0:
            return None
        length = self.param_groups[0]["lr"]
        weights = [parameter.clone() for parameter in self._parameters]
        for _ in range(_MOST_LENGTHS):
            self._add(direction, length)
            point = self._evaluate(closure)
            lower = -inf < point.loss < start.loss + _DECREASE * length * slope
            if lower and point.gradient.isfinite().all():
                return length, point
            torch._foreach_copy_(self._parameters, weights)
            if _is_hidden(length * slope, start):
                return None
            length *= _choose_factor(start.loss, point.loss, length * slope)
        return None

    def _evaluate(self, closure: Callable[[], float]) -> _Point:
        with torch.enable_grad():
            loss = closure()
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
            for parameter in self._parameters
        ]
        return _Point(loss, torch.cat([gradient.flatten() for gradient in gradients]))

    def _add(self, direction: Tensor, length: float) -> None:
        parts = torch.split(direction, [parameter.numel() for parameter in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.add_(part.view_as(parameter), alpha=length)

    # The state is that of the first parameter: PyTorch saves and moves no other.

    def _load_pairs(self) -> list[_Pair]:
        state = self.state[self._parameters[0]]
        return list(map(_Pair, state.get("moves", []), state.get("changes", [])))

    def _save_pairs(self, pairs: list[_Pair]) -> None:
        state = self.state[self._parameters[0]]
        state["moves"], state["changes"] = [pair.move for pair in pairs], [pair.change for pair in pairs]


def _direction(gradient: Tensor, pairs: list[_Pair]) -> Tensor:
    """Return the negative gradient times the inverse curvature that the pairs estimate (the two-loop recursion)."""
    if not pairs:
        return gradient * -min(1.0, 1.0 / max(float(gradient.abs().sum()), torch.finfo(gradient.dtype).tiny))
    direction, shares = gradient.neg(), []
    for move, change in reversed(pairs):
        shares.append(move.dot(direction) / move.dot(change))
        direction -= shares[-1] * change
    direction *= pairs[-1].move.dot(pairs[-1].change) / pairs[-1].change.dot(pairs[-1].change)
    for (move, change), share in zip(pairs, reversed(shares), strict=True):
        direction += (share - change.dot(direction) / move.dot(change)) * move
    return direction


def _is_hidden(change: float, point: _Point) -> bool:
    """Return whether a change of the loss is too small to show in it."""
    return abs(change) <= torch.finfo(point.gradient.dtype).eps * abs(point.loss)


def _is_convex(pair: _Pair) -> bool:
    """Return whether the gradient grows along the step by more than rounding; else it estimates no curvature."""
    move, change = pair
    least = torch.finfo(move.dtype).eps * move.norm() * change.norm()
    return bool(move.dot(change) > least)


def _choose_factor(loss: float, reached: float, promised: float) -> float:
    """Return the factor that shortens a step to the lowest point of the parabola through two losses, within bounds.

    Args:
        loss: The loss at the start of the step.
        reached: The loss at the end of the step.
        promised: The change of the loss over the step that the slope at the start promises, which is negative.
    """
    if not isfinite(reached):
        return _SHORTEST
    return min(max(promised / (2 * (promised - (reached - loss))), _SHORTEST), _LONGEST)
