"""Servers of object stores for the tests of checkpoints that are kept in one."""

from tests.tune_jobs.remote.object_stores import gs, gs_address, place, proxy, s3, s3_address

__all__ = ["gs", "gs_address", "place", "proxy", "s3", "s3_address"]
