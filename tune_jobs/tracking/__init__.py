"""Tracking: dashboards beside the run folder, fed by the run's journal in the driver.

A tracker that a user writes needs the names below; see `tune_jobs.tracking.base`.
"""

from tune_jobs.tracking.base import Guest, MakeTracker, TrackedRun, Tracker, new_results

__all__ = ["Guest", "MakeTracker", "TrackedRun", "Tracker", "new_results"]
