"""Runs that are kept in an object store: S3, Google Cloud Storage, and servers that use the protocol of one of them.

The driver works on a copy of the run on its own disk, and keeps the store up to date from there. Workers write
checkpoints straight to the store. Everything goes through pyarrow, with the credentials of the environment or of the
machine's role.
"""
