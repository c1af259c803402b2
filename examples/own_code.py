"""Your own data source and model, for own_code.yaml."""

import numpy as np
import torch
from torch import Tensor, nn


def spirals(n: int = 900, turns: float = 1.5, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return three interleaved spirals: points [n, 2] and their arm [n]."""
    generator = np.random.default_rng(0)
    arm = np.arange(n) % 3
    radius = generator.uniform(0.1, 1, n)
    angle = 2 * np.pi * (turns * radius + arm / 3)
    points = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return points + generator.normal(0, noise, points.shape), arm


class Residual(nn.Module):
    """A layer that adds to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(x))


def residual_network(
    input_shape: tuple[int, ...], outputs: int, width: int = 32, depth: int = 2
) -> nn.Module:
    """Return `depth` residual layers of `width` units; tune-jobs fills in input_shape and outputs."""
    layers = [Residual(width) for _ in range(depth)]
    return nn.Sequential(nn.Linear(input_shape[0], width), *layers, nn.Linear(width, outputs))
