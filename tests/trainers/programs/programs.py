"""Programs for tests, in pure Python: a line through points, as a script and as a function."""

from pathlib import Path

LINE = """
import math
import random

random_of_data = random.Random(1)
POINTS = [(x, 2 * x + 1 + random_of_data.gauss(0, 0.1)) for x in (random_of_data.uniform(-1, 1) for _ in range(40))]


class Line:
    def __init__(self):
        self.weight, self.bias = random.gauss(0, 1), random.gauss(0, 1)

    def state_dict(self):
        return {"weight": self.weight, "bias": self.bias}

    def load_state_dict(self, state):
        self.weight, self.bias = state["weight"], state["bias"]

    def step(self, x, y, rate):
        off = self.weight * x + self.bias - y
        self.weight, self.bias = self.weight - rate * off * x, self.bias - rate * off

    def error(self, points):
        try:
            return math.fsum((self.weight * x + self.bias - y) ** 2 for x, y in points) / len(points)
        except OverflowError:
            return math.inf
"""
"""The module `line`, which both ways import."""

SCRIPT = """
from line import POINTS, Line, random
from tune_jobs import trial

rate = trial.get("rate", 0.05)
line = Line()
kept = {"best": 1e300}
for epoch in trial.epochs(4, line=line, keep=kept):
    for x, y in random.sample(POINTS[:20], 20):
        line.step(x, y, rate)
    kept["best"] = min(kept["best"], line.error(POINTS[20:30]))
    trial.report(val_loss=line.error(POINTS[20:30]), train_loss=line.error(POINTS[:20]), best=kept["best"])
trial.report(test_loss=line.error(POINTS[30:]))
"""

FUNCTION = """
from line import POINTS, Line, random


def train(rate, trial, how=""):
    line = Line()
    for epoch in trial.epochs(4, line=line):
        for x, y in random.sample(POINTS[:20], 20):
            line.step(x, y, rate)
        if how == "fails" and epoch == 1:
            raise RuntimeError("the user's own fault")
        trial.report(val_loss=line.error(POINTS[20:30]))
        if how == "stops" and epoch == 1:
            break
"""


def write_programs(folder: Path) -> Path:
    """Write the script `main.py` and the function `work:train` to a folder, and return it."""
    for name, text in (("line", LINE), ("main", SCRIPT), ("work", FUNCTION)):
        (folder / f"{name}.py").write_text(text)
    return folder
