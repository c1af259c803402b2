"""What is asked for: the job file, its sections and checks."""

from tune_jobs.job.job import Job as Job

__all__ = ["Job"]
