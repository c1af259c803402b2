"""Processes that use W&B without an account and settings."""

import os
from pathlib import Path

KEY = "0123456789abcdef" * 2 + "deadbeef"


def wandb_environment(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment of this process without W&B's key and server, and with `variables`."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = {name: str(home) for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    return {**kept, **places, **variables}
