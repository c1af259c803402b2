"""Runs that are kept in an object store: S3, Google Cloud Storage, and servers that speak like one of them.

The driver works on a copy of the run on its own disk, which the store follows; workers write checkpoints straight to
the store. Everything goes through pyarrow, with the credentials of the environment or of the machine's role.
"""
