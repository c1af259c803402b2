"""Made-up runs for the report: of any size and with everything that a run can contain."""

import math
import random
from collections.abc import Mapping
from typing import Any

from tune_jobs.record.codes import Status

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
"""Text that must be shown and never run as code."""


def trials(count: int, seed: int = 0) -> list[Mapping[str, Any]]:
    """Return trials of the small job with rungs after 2 and 6 of 9 epochs. Each fifth has no momentum, some diverge."""
    rng = random.Random(seed)
    return [_trial(number, rng) for number in range(count)]


def _trial(number: int, rng: random.Random) -> Mapping[str, Any]:
    lr = 10 ** rng.uniform(-3, math.log10(0.5))
    sgd = number % 5 != 0
    configuration = {
        "lr": lr,
        "batch_size": rng.choice([8, "full"]),
        "optimizer": "sgd" if sgd else "adam",
        **({"momentum": rng.uniform(0.0, 0.9)} if sgd else {}),
    }
    badness = abs(math.log10(lr) + 1.5)
    if number % 7 == 6:
        return {
            "configuration": configuration,
            "losses": [math.nan],
            "status": Status.FAILED,
            "reason": f"the training loss is nan at epoch 1; lower lr (it was {lr:.3g})",
        }
    epochs = 9 if badness < 0.2 else 6 if badness < 0.5 else 2
    losses = [0.05 + badness + 2.0 / epoch + 0.05 * rng.random() for epoch in range(1, epochs + 1)]
    status = Status.COMPLETED if epochs == 9 else Status.STOPPED_EARLY
    return {"configuration": configuration, "losses": losses, "status": status, "reason": "as it was decided"}
