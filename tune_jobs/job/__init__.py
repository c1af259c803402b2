"""The job: its file, its sections and their checks."""

from tune_jobs.job.job import Job as Job

__all__ = ["Job"]
