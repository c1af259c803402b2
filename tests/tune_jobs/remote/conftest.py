"""Servers of object stores for the tests of runs that are kept in one."""

from tests.tune_jobs.remote.object_stores import proxy, s3, s3_address

__all__ = ["proxy", "s3", "s3_address"]
